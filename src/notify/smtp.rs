//! Mail over SMTP: with TLS from the start or STARTTLS, never without on a network.
//!
//! A server that breaks off or falls silent before it was given a mail's text cannot have the mail, and gets it again soon.
//! From the text on only its answer tells; without one it may well deliver the mail, and a mail that is repeated at once
//! would come to its reader again and again.

use std::time::Duration;

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Tls, TlsParameters,
};
use lettre::transport::smtp::commands::{self, Data, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo};
use lettre::{Address, Message};
use tokio::sync::Mutex;

use super::{Config, ConfigError, Mail, Mailer, SendError};
use crate::auth::service::shown;
use crate::causes::with_causes;

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until it has let us in.
    greeting: Duration,
    /// For its answer to the sender, to a recipient, and to the wish to send the text.
    command: Duration,
    /// From the first line of a mail's text to what it says after the last one.
    text: Duration,
    /// For its answer to our leaving, of which nothing depends.
    farewell: Duration,
}

/// RFC 5321, section 4.5.3.2: a client waits five minutes for the answer to MAIL and RCPT, two for the answer to DATA, and ten
/// for the answer to a mail, for who gives up earlier delivers it again and again to a server that looks at it for long.
const PATIENCE: Patience = Patience {
    greeting: Duration::from_secs(60),
    command: Duration::from_secs(5 * 60),
    text: Duration::from_secs(12 * 60),
    farewell: Duration::from_secs(5),
};

/// Replies that speak of us, or of the server, and not of this mail: they are worth another attempt once somebody has
/// looked. RFC 4954, section 6: 530, 534, 535, 538.
const NOT_LET_IN: [u16; 4] = [530, 534, 535, 538];

/// What is wrong with the options for SMTP. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// `notify.smtp`.
    #[error(
        "notify.smtp = {url:?}: {reason}; use smtps://host[:port] (TLS) or smtp://host[:port] (STARTTLS)"
    )]
    Url {
        /// As configured.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// `notify.smtp_password`.
    #[error("notify.smtp_password: {0}")]
    Password(#[from] pulse::secret::SecretError),
    /// A name without a password.
    #[error("notify.smtp_user is set, and notify.smtp_password is empty")]
    NoPassword,
    /// `notify.smtp_ca_file`.
    #[error("notify.smtp_ca_file: {0}")]
    CaFile(String),
    /// TLS cannot be set up.
    #[error("notify.smtp: TLS cannot be set up: {0}")]
    Tls(String),
}

/// The way over an SMTP server.
pub(super) struct Smtp {
    server: (String, u16),
    tls: Tls,
    credentials: Option<Credentials>,
    from: Mailbox,
    patience: Patience,
    /// Kept between mails: owners are written to one after the other. One on which a mail failed is gone, for an answer that comes
    /// late would pass for the answer to something else.
    connection: Mutex<Option<AsyncSmtpConnection>>,
}

impl Smtp {
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let from: Mailbox = config.from.parse().map_err(|_| ConfigError::From(config.from.clone()))?;
        let bad = |reason: &str| SmtpError::Url { url: shown(&config.smtp), reason: reason.to_owned() };
        let url = url::Url::parse(&config.smtp).map_err(|_| bad("it is not a URL"))?;
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?.to_owned();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("user and password belong into notify.smtp_user and notify.smtp_password").into());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(bad("nothing may follow the host").into());
        }
        // IPv6 addresses stand in brackets in URLs only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match url.scheme() {
            "smtps" => (Tls::Wrapper(tls(config, &host)?), 465),
            "smtp" => (Tls::Required(tls(config, &host)?), 587),
            "smtp+plain" if is_loopback(&host) => (Tls::None, 25),
            "smtp+plain" => {
                return Err(bad("without TLS only a server on this machine (127.0.0.1) is spoken to").into());
            }
            _ => return Err(bad("its scheme is not known").into()),
        };
        let mut credentials = None;
        if !config.smtp_user.is_empty() {
            let password = config.smtp_password.resolve().map_err(SmtpError::from)?;
            if password.is_empty() {
                return Err(SmtpError::NoPassword.into());
            }
            credentials = Some(Credentials::new(config.smtp_user.clone(), password));
        }
        let server = (host, url.port().unwrap_or(port));
        let connection = Mutex::new(None);
        Ok(Self { server, tls, credentials, from, patience: PATIENCE, connection })
    }

    /// The connection that is kept, if it is still good, or a new one.
    async fn connect(
        &self,
        kept: Option<AsyncSmtpConnection>,
    ) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        if let Some(mut kept) = kept
            && kept.test_connected().await
        {
            return Ok(kept);
        }
        let name = ClientId::default();
        let (server, timeout) = ((self.server.0.as_str(), self.server.1), Some(self.patience.greeting));
        let from_the_start = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, timeout, &name, from_the_start, None).await?;
        if let Tls::Required(parameters) = &self.tls {
            connection.starttls(parameters.clone(), &name).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    /// Hands a mail over to a server that has let us in.
    async fn deliver(
        &self,
        connection: &mut AsyncSmtpConnection,
        message: &Message,
    ) -> Result<(), SendError> {
        let (envelope, text) = (message.envelope(), message.formatted());
        let parameters = parameters(connection.server_info(), envelope, &text)?;
        let sender = commands::Mail::new(envelope.from().cloned(), parameters);
        self.command(connection, "MAIL", sender).await?;
        for to in envelope.to() {
            self.command(connection, "RCPT", Rcpt::new(to.clone(), Vec::new())).await?;
        }
        self.command(connection, "DATA", Data).await?;
        match within(self.patience.text, "the mail's text", connection.message(&text)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.status().is_some() => Err(not_taken(&error)),
            Ok(Err(error)) => Err(SendError::Unknown(with_causes(&error))),
            Err(silence) => Err(SendError::Unknown(silence)),
        }
    }

    /// One step before a mail's text.
    async fn command(
        &self,
        connection: &mut AsyncSmtpConnection,
        name: &str,
        command: impl std::fmt::Display,
    ) -> Result<(), SendError> {
        let answered = within(self.patience.command, name, connection.command(command)).await;
        answered.map_err(SendError::Later)?.map(drop).map_err(|error| not_taken(&error))
    }

    /// Leaves as is proper. However that goes, nobody waits for it for long.
    async fn leave(&self, mut connection: AsyncSmtpConnection) {
        let _ = tokio::time::timeout(self.patience.farewell, connection.abort()).await;
    }

    fn message(&self, mail: &Mail) -> Result<Message, SendError> {
        let refused = |error: &dyn std::fmt::Display| SendError::Refused(error.to_string());
        let to: Address = mail.to.parse().map_err(|error| refused(&error))?;
        let domain = self.from.email.domain();
        let automatic =
            HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject.as_str())
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            .header(ContentType::TEXT_PLAIN)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(mail.body.clone())
            .map_err(|error| refused(&error))?;
        // Nobody's holiday note shall answer.
        message.headers_mut().insert_raw(automatic);
        Ok(message)
    }
}

/// What a server has to know of a mail beforehand: addresses (RFC 6531) and text (RFC 6152) that are not ASCII.
fn parameters(
    server: &ServerInfo,
    envelope: &Envelope,
    text: &[u8],
) -> Result<Vec<MailParameter>, SendError> {
    let mut parameters = Vec::new();
    let mut addresses = envelope.from().into_iter().chain(envelope.to());
    let asked = [
        (
            !addresses.all(|address| AsRef::<str>::as_ref(address).is_ascii()),
            Extension::SmtpUtfEight,
            MailParameter::SmtpUtfEight,
            "an address is not ASCII, and the server does not take such (SMTPUTF8)",
        ),
        (
            !text.is_ascii(),
            Extension::EightBitMime,
            MailParameter::Body(MailBodyParameter::EightBitMime),
            "the mail is not ASCII, and the server does not take such (8BITMIME)",
        ),
    ];
    for (needed, extension, parameter, missing) in asked {
        if needed && !server.supports_feature(extension) {
            return Err(SendError::Later(missing.to_owned()));
        }
        parameters.extend(needed.then_some(parameter));
    }
    Ok(parameters)
}

fn tls(config: &Config, host: &str) -> Result<TlsParameters, SmtpError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = &config.smtp_ca_file {
        let unusable = |error: String| SmtpError::CaFile(format!("{}: {error}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| SmtpError::Tls(error.to_string()))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[async_trait]
impl Mailer for Smtp {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = self.message(mail)?;
        let mut kept = self.connection.lock().await;
        let connected = within(self.patience.greeting, "connecting", self.connect(kept.take())).await;
        let mut connection = connected.map_err(SendError::Later)?.map_err(|error| not_taken(&error))?;
        let delivered = self.deliver(&mut connection, &message).await;
        match &delivered {
            Ok(()) => *kept = Some(connection),
            Err(_) => self.leave(connection).await,
        }
        delivered
    }

    async fn check(&self) -> Result<(), String> {
        let connected = within(self.patience.greeting, "connecting", self.connect(None)).await?;
        let connection = connected.map_err(|error| with_causes(&error))?;
        self.leave(connection).await;
        Ok(())
    }
}

/// The server's answer to `what`, if it comes in time.
async fn within<T>(patience: Duration, what: &str, talk: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(patience, talk)
        .await
        .map_err(|_| format!("{what}: no answer within {} s", patience.as_secs_f32()))
}

/// For a mail that the server has not taken: it said so, or could not have it yet.
fn not_taken(error: &lettre::transport::smtp::Error) -> SendError {
    if error.is_permanent() && !error.status().is_some_and(is_not_let_in) {
        SendError::Refused(with_causes(error))
    } else {
        SendError::Later(with_causes(error))
    }
}

fn is_not_let_in(code: lettre::transport::smtp::response::Code) -> bool {
    NOT_LET_IN.contains(&u16::from(code))
}

#[cfg(test)]
mod tests;
