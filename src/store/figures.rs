//! What the store says of itself: how many dead letters there are, how large its file is.

use super::{Store, StoreError, with_suffix};

/// Dead letters beyond this number are not counted any more: counting walks them.
const MOST_COUNTED: i64 = 100_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFigures {
    /// Dead letters, at most 100,000.
    pub dead_letters: i64,
    /// Bytes of the file and its write-ahead log.
    pub bytes: u64,
}

impl Store {
    /// Counts and measures.
    pub async fn figures(&self) -> Result<StoreFigures, StoreError> {
        let path = self.inner.path.clone();
        self.read(move |c| {
            let dead_letters = c
                .prepare_cached(
                    "SELECT count(*) FROM (SELECT 1 FROM fire INDEXED BY fire_dead WHERE state = 2 LIMIT ?1)",
                )?
                .query_row([MOST_COUNTED], |row| row.get(0))?;
            let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            Ok(StoreFigures { dead_letters, bytes: size(&path) + size(&with_suffix(&path, "-wal")) })
        })
        .await
    }
}
