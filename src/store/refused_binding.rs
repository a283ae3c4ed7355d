//! Table `refused_binding`: refused bindings whose owners have been told, until they have stood.

use rusqlite::params;

use super::{Store, StoreError};

/// A binding of a hook that the broker refuses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefusedBinding {
    /// The hook.
    pub incarnation: i64,
    /// Its exchange.
    pub exchange: String,
    /// Its pattern.
    pub pattern: String,
}

impl Store {
    /// Notes which bindings are refused now, and answers those that were not when last asked.
    pub async fn refused_bindings(
        &self,
        refused: Vec<RefusedBinding>,
    ) -> Result<Vec<RefusedBinding>, StoreError> {
        let known: Vec<RefusedBinding> = self
            .read(|c| {
                let mut statement =
                    c.prepare_cached("SELECT incarnation, exchange, pattern FROM refused_binding")?;
                let rows = statement.query_map([], |row| {
                    Ok(RefusedBinding {
                        incarnation: row.get(0)?,
                        exchange: row.get(1)?,
                        pattern: row.get(2)?,
                    })
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await?;
        let stand: Vec<_> = known.iter().filter(|known| !refused.contains(known)).cloned().collect();
        let news: Vec<_> = refused.into_iter().filter(|refused| !known.contains(refused)).collect();
        if stand.is_empty() && news.is_empty() {
            return Ok(news);
        }
        let added = news.clone();
        self.write(move |w| {
            for binding in &stand {
                w.connection
                    .prepare_cached(
                        "DELETE FROM refused_binding WHERE incarnation = ?1 AND exchange = ?2 AND pattern = ?3",
                    )?
                    .execute(params![binding.incarnation, binding.exchange, binding.pattern])?;
            }
            for binding in &added {
                w.connection
                    .prepare_cached("INSERT OR IGNORE INTO refused_binding (incarnation, exchange, pattern) VALUES (?1, ?2, ?3)")?
                    .execute(params![binding.incarnation, binding.exchange, binding.pattern])?;
            }
            Ok(())
        })
        .await?;
        Ok(news)
    }
}
