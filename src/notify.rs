//! Owners are told when their hooks fail: by e-mail, at most one per address in twelve hours, over all their hooks.
//!
//! Routing never waits for any of this. Dead fires are read from the store after they were committed, in the order in which
//! they died, and counted as *notices* by address, hook and kind; refused bindings likewise. The first failure is told after
//! a short while, so that an outage is one mail; what comes within the interval after it waits, and the next mail is a digest
//! of it. Notices, mails on their way and the times of the last ones are in the store, so that restarts and standby routers
//! keep to the same limit. A mail server that is away is tried again, with backoff, for a bounded time.

mod collect;
mod deny;
mod failure;
mod post;
mod smtp;
mod taskcluster;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulse::Secret;
use serde::Deserialize;

use crate::router::Router;
use crate::store::Store;
use deny::DenyList;
pub use smtp::SmtpError;

/// `[notify]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The mail server: `smtps://host[:465]`, `smtp://host[:587]` (STARTTLS), `smtp+plain://` on this machine; empty: none.
    pub smtp: String,
    /// Name to sign in with; empty: nobody signs in.
    pub smtp_user: String,
    /// Password.
    pub smtp_password: Secret,
    /// CAs to trust in place of the system's: a PEM file.
    pub smtp_ca_file: Option<PathBuf>,
    /// The sender.
    pub from: String,
    /// Mail goes out through Taskcluster's notify service, with the credentials of `[queue]`.
    pub taskcluster: bool,
    /// Where people reach the router, for links.
    pub root_url: String,
    /// At most one mail per address in so many seconds.
    pub interval_seconds: u64,
    /// The first failure waits so long for others before it is told.
    pub settle_seconds: u64,
    /// A mail that no server takes is given up after so many seconds; older failures are told to nobody.
    pub max_age_seconds: u64,
    /// Rows of failures, by address, hook and kind, that wait at most.
    pub max_notices: u32,
    /// Addresses that get no mail: `*` stands for anything.
    pub deny: Vec<String>,
}

/// Why no mail can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two ways at once.
    #[error("notify.smtp and notify.taskcluster are both set: mail goes out one way")]
    Both,
    /// The sender's address.
    #[error("notify.from = {0:?}: it must be an address such as \"pulsehook <pulsehook@example.com>\"")]
    From(String),
    /// `notify.smtp` and what belongs to it.
    #[error(transparent)]
    Smtp(#[from] SmtpError),
    /// The notify service's client.
    #[error("notify.taskcluster: {0}")]
    Taskcluster(String),
    /// A number that makes no sense.
    #[error("notify.{0} must be at least 1")]
    Zero(&'static str),
}

/// A mail that is ready to go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mail {
    /// The one recipient.
    to: String,
    /// The same at each attempt.
    id: String,
    subject: String,
    body: String,
}

/// Why a mail was not taken, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum SendError {
    /// The server is away or busy, or does not let us in: later.
    #[error("{0}")]
    Later(String),
    /// It was given the mail's text, and did not answer in time or broke off: the mail may well be delivered.
    #[error("{0}")]
    Unknown(String),
    /// It will never take this mail.
    #[error("{0}")]
    Refused(String),
}

/// What carries mail.
#[async_trait]
trait Mailer: Send + Sync {
    /// Hands over one mail. Ends by itself, whatever the server does: a conversation that is dropped tells nothing.
    async fn send(&self, mail: &Mail) -> Result<(), SendError>;
    /// Whether the server lets us in. Sends nothing.
    async fn check(&self) -> Result<(), String>;
}

/// A configured way to send mail.
pub struct Notifier {
    config: Config,
    deny: DenyList,
    mailer: Arc<dyn Mailer>,
}

impl Config {
    /// Reads secrets and prepares the way; nothing is connected yet. `None` if none is configured. Must be called within a tokio
    /// runtime.
    pub fn notifier(&self, queue: &crate::queue::Config) -> Result<Option<Notifier>, ConfigError> {
        for (name, value) in
            [("interval_seconds", self.interval_seconds), ("max_age_seconds", self.max_age_seconds)]
        {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        let mailer: Arc<dyn Mailer> = match (self.smtp.is_empty(), self.taskcluster) {
            (true, false) => return Ok(None),
            (false, true) => return Err(ConfigError::Both),
            (false, false) => Arc::new(smtp::Smtp::new(self)?),
            (true, true) => {
                let client = taskcluster::Notify::new(queue);
                Arc::new(client.map_err(|error| ConfigError::Taskcluster(error.to_string()))?)
            }
        };
        Ok(Some(Notifier { config: self.clone(), deny: DenyList::new(&self.deny), mailer }))
    }
}

impl Notifier {
    /// Whether the mail server (or service) lets us in; the error tells what is wrong. Sends nothing.
    pub async fn check(&self) -> Result<(), String> {
        self.mailer.check().await
    }

    /// Collects failures and sends mail until dropped.
    pub async fn run(self, store: Store, router: Router) {
        let notifier = Arc::new(self);
        tokio::join!(
            collect::run(notifier.clone(), store.clone(), router),
            post::run(notifier.clone(), store)
        );
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
