//! Who is signed in. Sessions live in the memory of this process: a restart signs everybody out, and nothing of a session is ever
//! on disk. A session holds the credentials with which it was opened, ready for signing, and asks with them again every
//! few seconds, so that a revoked client, or one with other scopes now, does not go on with what it had.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use crate::auth::signer::Signer;
use crate::auth::{AuthError, Authenticator, Call, Identity};

/// Sessions that are kept; beyond that the one that was quiet longest ends. Some kilobytes each.
const MOST: usize = 4_096;

/// For so long an identity is believed without asking again.
const FRESH: Duration = Duration::from_secs(5);

/// What is signed to find out who signs in: no request that anybody serves.
const HOST: (&str, u16) = ("ui.pulsehook.invalid", 443);
const TARGET: &str = "/sign-in";

/// Credentials as they are typed in.
pub(super) struct Credentials<'a> {
    pub client_id: &'a str,
    pub access_token: &'a str,
    /// JSON text of temporary credentials.
    pub certificate: Option<&'a str>,
}

/// All sessions, by a digest of the cookie: what is looked up by a secret must not tell by its time how much of it was right.
pub(super) struct Sessions {
    lifetime: Duration,
    open: Mutex<HashMap<[u8; 32], Session>>,
}

struct Session {
    signer: Arc<Signer>,
    identity: Identity,
    checked: Instant,
    opened: Instant,
    used: Instant,
}

/// What became of a session that was asked for.
pub(super) enum Found {
    /// There is none.
    None,
    /// There was one; its credentials are no longer good.
    Ended,
    /// Its owner.
    Owner(Identity),
}

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

impl Sessions {
    /// No sessions yet.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, open: Mutex::default() }
    }

    /// Opens a session under this id with credentials that are found good.
    pub async fn open(
        &self,
        authenticator: &Authenticator,
        id: &str,
        credentials: &Credentials<'_>,
        source: Option<IpAddr>,
    ) -> Result<Identity, AuthError> {
        let Credentials { client_id, access_token, certificate } = *credentials;
        let signer = Signer::new(client_id, access_token, certificate, HOST.0, HOST.1)
            .map_err(|error| AuthError::Failed(error.to_string()))?;
        let identity = ask(authenticator, &signer, source).await?;
        let now = Instant::now();
        let session = Session {
            signer: Arc::new(signer),
            identity: identity.clone(),
            checked: now,
            opened: now,
            used: now,
        };
        let mut open = self.lock();
        open.insert(digest(id), session);
        if open.len() > MOST {
            let quiet = open.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            quiet.and_then(|key| open.remove(&key));
        }
        Ok(identity)
    }

    /// Whose session it is, as of the last few seconds.
    pub async fn owner(
        &self,
        authenticator: &Authenticator,
        id: &str,
        source: Option<IpAddr>,
    ) -> Result<Found, AuthError> {
        let key = digest(id);
        let signer = {
            let mut open = self.lock();
            let Some(session) = open.get_mut(&key) else { return Ok(Found::None) };
            if session.opened.elapsed() > self.lifetime {
                open.remove(&key);
                return Ok(Found::Ended);
            }
            session.used = Instant::now();
            if session.checked.elapsed() < FRESH {
                return Ok(Found::Owner(session.identity.clone()));
            }
            session.signer.clone()
        };
        match ask(authenticator, &signer, source).await {
            Ok(identity) => {
                if let Some(session) = self.lock().get_mut(&key) {
                    (session.identity, session.checked) = (identity.clone(), Instant::now());
                }
                Ok(Found::Owner(identity))
            }
            Err(AuthError::Failed(_)) => {
                self.close(id);
                Ok(Found::Ended)
            }
            Err(unavailable) => Err(unavailable),
        }
    }

    /// Ends a session.
    pub fn close(&self, id: &str) {
        self.lock().remove(&digest(id));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(
    authenticator: &Authenticator,
    signer: &Signer,
    source: Option<IpAddr>,
) -> Result<Identity, AuthError> {
    let signed = signer.sign("GET", TARGET, None);
    let authorization =
        signed.map_err(|_| AuthError::Failed("these credentials cannot be used".to_owned()))?;
    authenticate(authenticator, &HeaderMap::from_iter([(header::AUTHORIZATION, authorization)]), source).await
}

/// Whoever does not say who they are.
pub(super) async fn nobody(
    authenticator: &Authenticator,
    source: Option<IpAddr>,
) -> Result<Identity, AuthError> {
    authenticate(authenticator, &HeaderMap::new(), source).await
}

async fn authenticate(
    authenticator: &Authenticator,
    headers: &HeaderMap,
    source: Option<IpAddr>,
) -> Result<Identity, AuthError> {
    let call = Call { method: "GET", target: TARGET, host: HOST.0, port: HOST.1, headers, body: b"", source };
    authenticator.authenticate(&call).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Config, Deployment};

    fn authenticator() -> Authenticator {
        let config: Config = toml::from_str(
            "[[client]]\nclient_id = \"me\"\naccess_token = \"a token\"\nscopes = [\"hooks:*\"]\n",
        )
        .unwrap();
        let nothing = pulse::Secret::new("");
        let deployment =
            Deployment { root_url: "", client_id: "", access_token: &nothing, certificate: &nothing };
        Authenticator::new(&config, deployment).unwrap_or_else(|_| panic!("the configuration is good"))
    }

    fn credentials(access_token: &str) -> Credentials<'_> {
        Credentials { client_id: "me", access_token, certificate: None }
    }

    #[tokio::test]
    async fn only_good_credentials_open_a_session_and_it_ends() {
        let (auth, sessions) = (authenticator(), Sessions::new(Duration::from_secs(60)));
        assert!(sessions.open(&auth, "id", &credentials("wrong"), None).await.is_err());
        assert!(matches!(sessions.owner(&auth, "id", None).await, Ok(Found::None)));
        let identity = sessions.open(&auth, "id", &credentials("a token"), None).await.unwrap();
        assert!(identity.scopes.satisfies("hooks:anything"));
        assert!(
            matches!(sessions.owner(&auth, "id", None).await, Ok(Found::Owner(owner)) if owner == identity)
        );
        assert!(matches!(sessions.owner(&auth, "other", None).await, Ok(Found::None)));
        sessions.close("id");
        assert!(matches!(sessions.owner(&auth, "id", None).await, Ok(Found::None)));
        let brief = Sessions::new(Duration::ZERO);
        brief.open(&auth, "id", &credentials("a token"), None).await.unwrap();
        assert!(matches!(brief.owner(&auth, "id", None).await, Ok(Found::Ended)));
    }

    #[tokio::test]
    async fn there_are_only_so_many() {
        let (auth, sessions) = (authenticator(), Sessions::new(Duration::from_secs(60)));
        for id in 0..=MOST {
            sessions.open(&auth, &id.to_string(), &credentials("a token"), None).await.unwrap();
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert!(matches!(sessions.owner(&auth, "0", None).await, Ok(Found::None)));
    }
}
