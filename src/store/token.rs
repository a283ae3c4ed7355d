//! Table `token_reset`: which token of a hook is the current one. The token itself is derived and stored nowhere.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, Writing};

impl Writing<'_> {
    /// Counts one more reset of a hook's token. Answers how many there have been.
    pub fn reset_token(&mut self, incarnation: i64) -> Result<i64, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "INSERT INTO token_reset (incarnation, resets) VALUES (?1, 1)
                 ON CONFLICT (incarnation) DO UPDATE SET resets = resets + 1 RETURNING resets",
            )?
            .query_row(params![incarnation], |row| row.get(0))?)
    }
}

impl Store {
    /// How often a hook's token was reset.
    pub async fn token_resets(&self, incarnation: i64) -> Result<i64, StoreError> {
        self.read(move |c| {
            let resets = c
                .prepare_cached("SELECT resets FROM token_reset WHERE incarnation = ?1")?
                .query_row([incarnation], |row| row.get(0))
                .optional()?;
            Ok(resets.unwrap_or(0))
        })
        .await
    }
}
