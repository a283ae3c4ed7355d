//! The `[pulse]` section: which broker, and who we are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::amqp::{Amqp, AmqpConfig, TargetError};
use crate::embedded::{Embedded, OpenError};
use crate::secret::SecretError;
use crate::transport::{QueueKind, Transport};
use crate::{Secret, naming};

/// The value of `url` for the embedded transport.
const EMBEDDED: &str = "embedded";

/// The embedded transport's file in the data folder.
const EMBEDDED_FILE: &str = "pulse.db";

/// Room for the rest of `exchange/<user>/v1/<what>` and for readable queue names.
const MAX_USER: usize = 64;

/// Options of `[pulse]`; each has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `"embedded"`, or `amqp://user:password@host:5672/vhost`, or `amqps://…`; as it holds a password, also `env:NAME` or
    /// `file:PATH`. User, password and virtual host are percent-encoded, so that the virtual host `/` is `%2F` or nothing.
    pub url: Secret,
    /// The pulse user, which names `exchange/<user>/…` and `queue/<user>/…`.
    pub user: String,
    /// For `amqps`: the CAs to trust, a PEM file, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The kind of queues that are made. A queue that stands as the other kind is refused by the broker: delete it first.
    pub queue_type: QueueKind,
    /// A publish that the broker has not confirmed after so many seconds is reported as unavailable.
    pub publish_timeout_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Secret::new(EMBEDDED),
            user: "pulsehook".into(),
            ca_file: None,
            queue_type: QueueKind::default(),
            publish_timeout_seconds: 10,
        }
    }
}

/// What is wrong in `[pulse]`. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `url` refers to something that cannot be read.
    #[error("pulse.url: {0}")]
    Secret(#[from] SecretError),
    /// `url` (or `ca_file`) does not work.
    #[error("pulse.url: {0}")]
    Url(#[from] TargetError),
    /// `user` cannot be part of exchange and queue names.
    #[error("pulse.user must be 1 to {MAX_USER} letters, digits, '-', '_' or '.', not {0:?}")]
    User(String),
    /// `publish_timeout_seconds` is 0.
    #[error("pulse.publish_timeout_seconds must be at least 1")]
    PublishTimeout,
    /// The embedded transport's file.
    #[error(transparent)]
    Embedded(#[from] OpenError),
}

impl Config {
    /// Everything that is wrong, found without connecting.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        match self.url.resolve() {
            Err(error) => errors.push(error.into()),
            Ok(url) if url == EMBEDDED => {}
            Ok(url) => {
                let config = AmqpConfig { url: &url, ..self.amqp("") };
                errors.extend(config.check().err().map(ConfigError::from));
            }
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.user.is_empty() || self.user.len() > MAX_USER || !self.user.chars().all(allowed) {
            errors.push(ConfigError::User(self.user.chars().take(MAX_USER).collect()));
        }
        if self.publish_timeout_seconds == 0 {
            errors.push(ConfigError::PublishTimeout);
        }
        errors
    }

    /// Whether `url` says `embedded`: right for one process that does everything, wrong for a bridge or router alone.
    pub fn is_embedded(&self) -> bool {
        self.url.resolve().is_ok_and(|url| url == EMBEDDED)
    }

    /// Opens the transport. AMQP connects in the background; the embedded file is `pulse.db` in `data_dir`, which must
    /// exist. `name` is how a broker's operators see our connections. Must be called within a tokio runtime.
    pub fn open(&self, data_dir: &Path, name: &str) -> Result<Arc<dyn Transport>, ConfigError> {
        let url = self.url.resolve()?;
        if url == EMBEDDED {
            return Ok(Arc::new(Embedded::open(&data_dir.join(EMBEDDED_FILE))?));
        }
        Ok(Arc::new(Amqp::connect(AmqpConfig { url: &url, ..self.amqp(name) })?))
    }

    fn amqp<'a>(&'a self, name: &'a str) -> AmqpConfig<'a> {
        AmqpConfig {
            url: "",
            ca_file: self.ca_file.as_deref(),
            name,
            publish_timeout: Duration::from_secs(self.publish_timeout_seconds),
        }
    }

    /// `exchange/<user>/v1/<what>`.
    pub fn exchange(&self, what: &str) -> String {
        naming::exchange(&self.user, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> Config {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_defaults_are_right_and_unknown_options_wrong() {
        let default = config(serde_json::json!({}));
        assert!(default.check().is_empty() && default.is_embedded());
        assert_eq!(default.exchange("webhook"), "exchange/pulsehook/v1/webhook");
        assert!(serde_json::from_value::<Config>(serde_json::json!({"ulr": "x"})).is_err());
        assert_eq!(config(serde_json::json!({"queue_type": "classic"})).queue_type, QueueKind::Classic);
    }

    #[test]
    fn all_errors_are_told_and_none_shows_the_secret() {
        let wrong = config(serde_json::json!({
            "url": "amqp://u:hunter2@:1/?x=hunter2", "user": "a/b", "publish_timeout_seconds": 0
        }));
        let errors = wrong.check();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(!format!("{errors:?} {wrong:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_broker_that_is_away_is_no_error() {
        let url = "amqp://u:p@127.0.0.1:1/";
        let transport = config(serde_json::json!({"url": url})).open(Path::new("."), "test").unwrap();
        assert!(matches!(*transport.status().borrow(), crate::Status::Down { .. }));
        transport.close().await;
    }
}
