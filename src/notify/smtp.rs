//! Mail over SMTP: with TLS from the start or STARTTLS, never without on a network.

use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Config, ConfigError, Mail, Mailer, SendError};
use crate::causes::with_causes;

/// One command of the conversation takes no longer.
const COMMAND: Duration = Duration::from_secs(30);

/// Connections that are kept between mails: owners are written to one after the other.
const CONNECTIONS: u32 = 1;

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
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
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
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(url.port().unwrap_or(port))
            .tls(tls)
            .timeout(Some(COMMAND))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS));
        if !config.smtp_user.is_empty() {
            let password = config.smtp_password.resolve().map_err(SmtpError::from)?;
            if password.is_empty() {
                return Err(SmtpError::NoPassword.into());
            }
            builder = builder.credentials(Credentials::new(config.smtp_user.clone(), password));
        }
        Ok(Self { transport: builder.build(), from })
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

/// A URL without what might be a password.
fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

#[async_trait]
impl Mailer for Smtp {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = self.message(mail)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() && !error.status().is_some_and(is_not_let_in) => {
                Err(SendError::Refused(with_causes(&error)))
            }
            Err(error) => Err(SendError::Later(with_causes(&error))),
        }
    }

    async fn check(&self) -> Result<(), String> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the mail server is there but not ready".to_owned()),
            Err(error) => Err(with_causes(&error)),
        }
    }
}

fn is_not_let_in(code: lettre::transport::smtp::response::Code) -> bool {
    NOT_LET_IN.contains(&u16::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(smtp: &str) -> Config {
        Config {
            smtp: smtp.into(),
            smtp_user: String::new(),
            smtp_password: pulse::Secret::new(""),
            smtp_ca_file: None,
            from: "pulsehook <pulsehook@example.com>".into(),
            taskcluster: false,
            root_url: String::new(),
            interval_seconds: 1,
            settle_seconds: 0,
            max_age_seconds: 1,
            max_notices: 1,
            deny: Vec::new(),
        }
    }

    // Connections' pool lives in a runtime.
    #[tokio::test]
    async fn without_tls_only_this_machine_is_spoken_to_and_passwords_are_never_shown() {
        for good in
            ["smtps://mail.example.com", "smtp://mail.example.com:2587", "smtp+plain://127.0.0.1:2525"]
        {
            assert!(Smtp::new(&config(good)).is_ok(), "{good}");
        }
        for bad in [
            "smtp+plain://mail.example.com",
            "mail.example.com",
            "http://mail.example.com",
            "smtps://u:hunter2@mail.example.com",
            "smtps://mail.example.com/?tls=none",
        ] {
            let error = Smtp::new(&config(bad)).err().unwrap().to_string();
            assert!(error.contains("notify.smtp") && !error.contains("hunter2"), "{error}");
        }
        let error = Smtp::new(&Config { smtp_user: "u".into(), ..config("smtps://m") }).err().unwrap();
        assert!(error.to_string().contains("smtp_password"), "{error}");
    }

    #[tokio::test]
    async fn a_mail_is_one_plain_text_to_one_recipient_whatever_the_words_are() {
        let smtp = Smtp::new(&config("smtps://mail.example.com")).unwrap();
        let mail = Mail {
            to: "o@example.com".into(),
            id: "1".into(),
            subject: "ci/ü\r\nBcc: x@example.com".into(),
            body: "one\n.\ntwo ü".into(),
        };
        let text = String::from_utf8(smtp.message(&mail).unwrap().formatted()).unwrap();
        assert!(text.contains("Message-ID: <1@example.com>"), "{text}");
        assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
        let wrong = Mail { to: "not an address".into(), ..mail };
        assert!(matches!(smtp.message(&wrong), Err(SendError::Refused(_))));
    }
}
