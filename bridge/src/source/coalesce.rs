//! Coalescing: what makes events of a source alike, and for how long.

use std::time::Duration;

use crate::accept::hash;
use crate::config::{Config, Keep, SourceConfig};
use crate::place::{Places, Request};

/// Coalescing, checked.
#[derive(Debug)]
pub struct Coalesce {
    key: Vec<Places>,
    /// Length of the window.
    pub window: Duration,
    /// Which event becomes the message.
    pub keep: Keep,
}

impl Coalesce {
    /// What events of one key have in common. A place where nothing stands counts as such.
    pub fn key(&self, source: &str, request: Request<'_>) -> [u8; 32] {
        let texts: Vec<String> =
            self.key.iter().map(|places| places.read(request).unwrap_or_default()).collect();
        let parts: Vec<&[u8]> = [b"coalesce".as_slice(), source.as_bytes()]
            .into_iter()
            .chain(texts.iter().map(String::as_bytes))
            .collect();
        hash(&parts)
    }
}

/// A source's coalescing, checked.
pub fn coalesce(config: &SourceConfig, bridge: &Config) -> Result<Option<Coalesce>, String> {
    let Some(coalesce) = &config.coalesce else { return Ok(None) };
    if coalesce.key.is_empty() || coalesce.window_seconds == 0 {
        return Err("coalesce needs a key and a window_seconds above 0".to_owned());
    }
    if coalesce.keep != Keep::First && bridge.spool.path.as_os_str().is_empty() {
        return Err(
            "coalesce with keep = \"last\" or \"count\" needs the spool, which keeps what is held back"
                .to_owned(),
        );
    }
    Ok(Some(Coalesce {
        key: coalesce.key.clone(),
        window: Duration::from_secs(coalesce.window_seconds),
        keep: coalesce.keep,
    }))
}
