//! The local queue: a recording stand-in for the queue service, for `pulsehook dev`, tests and staging.
//!
//! It takes tasks as the real one does (signature, schema, rules, defaults, idempotency, error bodies) and keeps
//! them; it has no workers and runs nothing. One thing it is stricter in: a signed call must carry
//! `authorizedScopes`, because a router that submits with all of its own scopes would be a hole.
//! Not kept: task groups (sealing, one scheduler per group), runs, artifacts, scopes of roles.
//!
//! A 200 means the same as there: the task is stored. With a data file it is committed to disk; several calls
//! share a commit when they come together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::auth::hawk;

mod answer;
mod faults;
mod routes;
mod storage;

/// What the local queue is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where tasks are kept.
    pub data: Data,
    /// Whose signature createTask needs; `None` takes any call, which is for this machine alone.
    pub credentials: Option<Credentials>,
    /// Whether `/__faults__` lets callers provoke failures. For tests.
    pub faults: bool,
}

/// Where tasks are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In this SQLite file.
    File(PathBuf),
    /// In memory, gone with the process. For benchmarks.
    Memory,
}

/// The one client that may create tasks.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Its id.
    pub client_id: String,
    /// Its access token.
    pub access_token: pulse::Secret,
}

/// Why the local queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data file cannot be used.
    #[error("the local queue's data file {path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A later version wrote the data file.
    #[error(
        "the local queue's data file {path} has version {found}, this program knows {known}: use a newer program, or another file"
    )]
    TooNew {
        /// Its path.
        path: String,
        /// The version found.
        found: i64,
        /// The latest version known.
        known: i64,
    },
    /// The access token cannot be read or used.
    #[error("the local queue's access token: {0}")]
    Token(String),
    /// The compiled-in schema is broken.
    #[error("the task schema: {0}")]
    Schema(String),
    /// The writer thread cannot be started.
    #[error("the local queue's writer cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The local queue. Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub struct LocalQueue(Arc<Inner>);

struct Inner {
    storage: storage::Storage,
    client: Option<Client>,
    schema: jsonschema::Validator,
    faults: Option<faults::Faults>,
    started: Instant,
}

struct Client {
    id: String,
    key: ::hawk::Key,
}

impl LocalQueue {
    /// Opens or creates the data file and starts its writer.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let client = match config.credentials {
            None => None,
            Some(credentials) => {
                let token = credentials
                    .access_token
                    .resolve()
                    .map_err(|error| OpenError::Token(error.to_string()))?;
                if token.is_empty() {
                    return Err(OpenError::Token("it is empty".to_owned()));
                }
                let key = ::hawk::Key::new(token, ::hawk::SHA256)
                    .map_err(|error| OpenError::Token(error.to_string()))?;
                Some(Client { id: credentials.client_id, key })
            }
        };
        Ok(Self(Arc::new(Inner {
            storage: storage::Storage::open(&config.data)?,
            client,
            schema: super::definition::validator().map_err(OpenError::Schema)?,
            faults: config.faults.then(faults::Faults::default),
            started: Instant::now(),
        })))
    }

    /// How many tasks it holds.
    pub async fn count(&self) -> Result<u64, String> {
        self.0.storage.count().await.map_err(|error| error.to_string())
    }

    /// The routes, all under `/api/queue/v1` (and `/__faults__` where asked for), to be merged into another
    /// router or handed to [`serve`](crate::server::serve).
    pub fn routes(&self) -> axum::Router {
        routes::routes(self.clone())
    }

    /// Serves it on a listener of its own until `stop`; see [`serve`](crate::server::serve).
    pub async fn serve(&self, listener: tokio::net::TcpListener, stop: CancellationToken) {
        crate::server::serve(listener, self.routes().fallback(routes::nothing_here), stop).await;
    }
}

impl Inner {
    /// Who signed the call: client id and authorized scopes. Without credentials everybody is welcome.
    fn authenticate(
        &self,
        head: &http::request::Parts,
        body: &[u8],
    ) -> Result<(String, Vec<String>), answer::Problem> {
        use answer::Problem;
        let authorization = head.headers.get(http::header::AUTHORIZATION);
        let authorization =
            authorization.map(|value| value.to_str().unwrap_or("")).filter(|text| !text.is_empty());
        let (host, port) = hawk::address(&head.headers, &head.uri)
            .ok_or_else(|| Problem::unauthenticated("the request has no Host header"))?;
        let request = hawk::SignedRequest {
            method: head.method.as_str(),
            target: head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
            host: &host,
            port,
            authorization,
        };
        let Some(client) = &self.client else {
            // Open: what the call says of itself is recorded, not believed.
            let claim = hawk::Claim::read(&request).ok().flatten();
            return Ok(claim.map_or_else(Default::default, |claim| {
                (claim.client_id.into_owned(), claim.ext.authorized_scopes.unwrap_or_default())
            }));
        };
        let claim = hawk::Claim::read(&request)
            .map_err(Problem::unauthenticated)?
            .ok_or_else(|| Problem::unauthenticated("the request is not signed"))?;
        if claim.client_id != client.id {
            return Err(Problem::unauthenticated(format!("no such client: {}", claim.client_id)));
        }
        claim
            .verify(&request, &client.key, std::time::SystemTime::now(), hawk::CLOCK_SKEW)
            .map_err(Problem::unauthenticated)?;
        if let Some(hash) = claim.payload_hash() {
            let content_type =
                head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            hawk::payload_matches(hash, content_type, body).map_err(Problem::unauthenticated)?;
        }
        Ok((claim.client_id.into_owned(), claim.ext.authorized_scopes.unwrap_or_default()))
    }

    /// The same for a call that makes something.
    fn authorize(
        &self,
        head: &http::request::Parts,
        body: &[u8],
    ) -> Result<(String, Vec<String>), answer::Problem> {
        let (client, scopes) = self.authenticate(head, body)?;
        if self.client.is_some() && scopes.is_empty() {
            return Err(answer::Problem::new(
                403,
                "InsufficientScopes",
                "this stand-in takes tasks only from calls with authorizedScopes: a router that submits with all of its own scopes would let every hook do what it may do itself",
            ));
        }
        Ok((client, scopes))
    }
}
