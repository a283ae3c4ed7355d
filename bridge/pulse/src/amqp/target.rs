//! Where the broker is and who we are there, from an `amqp://` or `amqps://` URL.

use std::path::Path;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use super::tls;
use crate::naming::unescape_word;

const AMQP_PORT: u16 = 5672;
const AMQPS_PORT: u16 = 5671;

/// A broker, a virtual host and an account. Without `Debug`: it holds the password.
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub vhost: String,
    pub tls: Option<Tls>,
}

pub(super) struct Tls {
    pub connector: TlsConnector,
    pub server_name: ServerName<'static>,
}

/// Why a broker URL cannot be used. No message holds any part of the URL but host and scheme: the rest is secret.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all.
    #[error("the broker URL is not a URL ({0}); it looks like amqp://user:password@host:5672/vhost")]
    Syntax(url::ParseError),
    /// Another scheme.
    #[error("the broker URL begins with {0:?}; use amqp://, amqps:// or \"embedded\"")]
    Scheme(String),
    /// No host.
    #[error("the broker URL names no host")]
    Host,
    /// A user name, password or virtual host that is not percent-encoded UTF-8 or is longer than AMQP allows.
    #[error("the {0} in the broker URL is not valid percent-encoded text of at most 255 bytes")]
    Part(&'static str),
    /// `?…` or `#…`.
    #[error(
        "the broker URL carries parameters (?… or #…), which are not supported: use the options of [pulse]"
    )]
    Parameters,
    /// TLS cannot be set up.
    #[error("TLS to the broker cannot be set up: {0}")]
    Tls(String),
}

impl Target {
    /// Reads the URL. Without a user it is `guest` with the password `guest`; without a path, or with `/` alone, the
    /// virtual host is `/`. `ca_file`: the CAs to trust (PEM) in place of the system's.
    pub fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self, TargetError> {
        let url = Url::parse(url).map_err(TargetError::Syntax)?;
        let default_port = match url.scheme() {
            "amqp" => AMQP_PORT,
            "amqps" => AMQPS_PORT,
            other => return Err(TargetError::Scheme(other.to_owned())),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(TargetError::Parameters);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(TargetError::Host)?;
        // A literal IPv6 address stands in brackets in a URL, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let part = |what, text: &str| {
            unescape_word(text).filter(|text| text.len() <= 255).ok_or(TargetError::Part(what))
        };
        let (user, password) = match (url.username(), url.password()) {
            ("", None) => ("guest".to_owned(), "guest".to_owned()),
            (user, password) => (part("user", user)?, part("password", password.unwrap_or_default())?),
        };
        let vhost = match url.path().strip_prefix('/').unwrap_or_default() {
            "" => "/".to_owned(),
            path => part("virtual host", path)?,
        };
        let tls = if url.scheme() == "amqps" {
            let server_name = ServerName::try_from(host.clone()).map_err(|_| TargetError::Host)?;
            Some(Tls { connector: tls::connector(ca_file).map_err(TargetError::Tls)?, server_name })
        } else {
            None
        };
        Ok(Self { host, port: url.port().unwrap_or(default_port), user, password, vhost, tls })
    }

    /// For people: everything but the password.
    pub fn describe(&self) -> String {
        format!("{}:{} as user {:?}, virtual host {:?}", self.host, self.port, self.user, self.vhost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, None)
    }

    #[test]
    fn parts_are_decoded() {
        let target = parse("amqp://us%40er:p%2Fw@broker.example:5673/a%2Fb").ok().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("broker.example", 5673));
        assert_eq!((target.user.as_str(), target.password.as_str()), ("us@er", "p/w"));
        assert_eq!(target.vhost, "a/b");
        assert_eq!(target.describe(), "broker.example:5673 as user \"us@er\", virtual host \"a/b\"");
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        for url in ["amqp://host", "amqp://host/", "amqp://host/%2F"] {
            let target = parse(url).ok().unwrap();
            assert_eq!((target.vhost.as_str(), target.user.as_str(), target.port), ("/", "guest", 5672));
        }
        let target = parse("amqps://[::1]").ok().unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls.is_some()), ("::1", 5671, true));
    }

    #[test]
    fn errors_never_show_the_secret() {
        for url in [
            "http://u:hunter2@host",
            "amqp://u:hunter2@host:99999/",
            "amqp://u:hunter2@/",
            "amqp://u:hunter2%FF@host",
            "amqp://u:hunter2@host?x=hunter2",
            "hunter2",
        ] {
            let error = parse(url).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
