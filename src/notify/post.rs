//! From notices to mails, and the mails to the server.
//!
//! While the server is away one mail is tried now and then; the others wait for it rather than each run into the same
//! wall. An address whose mail is refused for good is not written to again before the interval is over, nor is one whose mail
//! may have gone for all we know: the server had its text, and has not said what became of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Mail, Notifier, SendError, ms, text};
use crate::router::now_ms;
use crate::store::{MailRow, Store, StoreError};

/// How often it is looked whether a mail is due.
const LOOK: Duration = Duration::from_secs(2);

/// Addresses that are written to in one round; more in the next.
const AT_ONCE: u32 = 50;

/// Notices that go into one mail; more go into the next.
const NOTICES: u32 = 1_000;

/// The wait after a failed attempt grows from the first to the second.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LAST_BACKOFF: Duration = Duration::from_secs(15 * 60);

/// Sends mail until dropped.
pub(super) async fn run(notifier: Arc<Notifier>, store: Store) {
    loop {
        if let Err(error) = round(&notifier, &store).await {
            tracing::error!(%error, "cannot read or write which mails are due; trying again");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn round(notifier: &Notifier, store: &Store) -> Result<(), StoreError> {
    let config = &notifier.config;
    let now = now_ms();
    let ago = |seconds: u64| now - ms(Duration::from_secs(seconds));
    store.forget_mails(ago(config.interval_seconds.saturating_mul(2))).await?;
    let due = store.addresses_due(ago(config.settle_seconds), ago(config.interval_seconds), AT_ONCE).await?;
    for address in due {
        compose(notifier, store, address, now).await?;
    }
    for mail in store.mails_due(now, AT_ONCE).await? {
        if !attempt(notifier, store, mail).await? {
            break;
        }
    }
    let figures = store.mail_figures().await?;
    metrics::gauge!("pulsehook_mail_held_back").set(figures.held_back as f64);
    metrics::gauge!("pulsehook_mail_waiting").set(figures.waiting as f64);
    Ok(())
}

async fn compose(notifier: &Notifier, store: &Store, address: String, now: i64) -> Result<(), StoreError> {
    let notices = store.notices(address.clone(), NOTICES).await?;
    if notices.is_empty() {
        return Ok(());
    }
    let config = &notifier.config;
    let text = text::compose(&notices, &config.root_url, config.interval_seconds / 3600);
    let told = notices.iter().map(|notice| (notice.id, notice.failures)).collect();
    let mail = MailRow {
        address,
        mail_id: uuid::Uuid::new_v4().to_string(),
        subject: text.subject,
        body: text.body,
        composed_at: now,
        attempts: 0,
    };
    store.compose(mail, told).await
}

/// Tries one mail. Answers false when the server is away, so that others need not try.
async fn attempt(notifier: &Notifier, store: &Store, row: MailRow) -> Result<bool, StoreError> {
    let mail = Mail { to: row.address.clone(), id: row.mail_id, subject: row.subject, body: row.body };
    let outcome = notifier.mailer.send(&mail).await;
    let is_unknown = matches!(outcome, Err(SendError::Unknown(_)));
    let now = now_ms();
    let counted =
        |outcome: &'static str| metrics::counter!("pulsehook_mail_total", "outcome" => outcome).increment(1);
    match outcome {
        Ok(()) => {
            counted("sent");
            tracing::info!(address = mail.to, mail_id = mail.id, attempts = row.attempts + 1, "mail sent");
            store.mail_ended(row.address, now).await?;
            Ok(true)
        }
        Err(SendError::Refused(reason)) => {
            counted("refused");
            tracing::error!(
                address = mail.to,
                mail_id = mail.id,
                reason,
                "the mail server refuses a mail; it is dropped"
            );
            store.mail_ended(row.address, now).await?;
            Ok(true)
        }
        Err(SendError::Later(reason) | SendError::Unknown(reason)) => {
            let age = Duration::from_millis(u64::try_from(now - row.composed_at).unwrap_or_default());
            if age > Duration::from_secs(notifier.config.max_age_seconds) {
                counted("expired");
                tracing::error!(
                    address = mail.to,
                    mail_id = mail.id,
                    reason,
                    attempts = row.attempts + 1,
                    "no mail server took a mail in time; it is dropped"
                );
                store.mail_ended(row.address, now).await?;
                return Ok(true);
            }
            counted("retried");
            let wait = if is_unknown {
                Duration::from_secs(notifier.config.interval_seconds)
            } else {
                (FIRST_BACKOFF * 2_u32.saturating_pow(row.attempts.min(16))).min(LAST_BACKOFF)
            };
            if is_unknown {
                tracing::warn!(
                    address = mail.to,
                    mail_id = mail.id,
                    reason,
                    "the mail server did not say whether it took a mail; trying again when the next one would be due"
                );
            } else if row.attempts == 0 {
                tracing::warn!(
                    address = mail.to,
                    mail_id = mail.id,
                    reason,
                    "the mail cannot be sent yet; trying again with backoff"
                );
            }
            store.mail_failed(row.address, now + ms(wait), reason).await?;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests;
