//! Mode `static`: clients and roles from the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use hawk::{Key, SHA256};

use super::hawk::{CLOCK_SKEW, Claim, SignedRequest};
use super::role::{RoleError, Roles, well_formed};
use super::scope::valid;
use super::{ANONYMOUS, AuthError, Config, ConfigError, Identity, ScopeSet, temporary};

/// What everybody has, besides `auth.anonymous`.
const ANONYMOUS_ROLE: &str = "assume:anonymous";

pub(super) struct Clients {
    clients: HashMap<String, Client>,
    roles: Roles,
    anonymous: Vec<String>,
    anonymous_scopes: Arc<ScopeSet>,
}

struct Client {
    key: Key,
    /// Expanded, with everybody's.
    scopes: Arc<ScopeSet>,
}

impl Clients {
    pub fn new(config: &Config) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let pairs = config.role.iter().map(|role| (role.role_id.clone(), role.scopes.clone()));
        let roles = Roles::new(pairs).unwrap_or_else(|mistakes| {
            errors.extend(mistakes.iter().map(|mistake| ConfigError(format!("auth.role: {mistake}"))));
            Roles::default()
        });
        let anonymous: Vec<String> =
            config.anonymous.iter().cloned().chain([ANONYMOUS_ROLE.to_owned()]).collect();
        let expand = |scopes: &[String], errors: &mut Vec<ConfigError>, place: &str| {
            for scope in scopes.iter().filter(|scope| !well_formed(scope)) {
                errors.push(ConfigError(format!("{place}: {}", RoleError::Scope(scope.clone()))));
            }
            let scopes = scopes.iter().chain(&anonymous).map(String::as_str);
            let expanded = roles.expand(scopes).unwrap_or_else(|error| {
                errors.push(ConfigError(format!("{place}: {error}")));
                ScopeSet::default()
            });
            Arc::new(expanded)
        };
        let anonymous_scopes = expand(&config.anonymous, &mut errors, "auth.anonymous");
        let mut clients = HashMap::new();
        for client in &config.client {
            let place = format!("auth.client {:?}", client.client_id);
            let scopes = expand(&client.scopes, &mut errors, &place);
            match key(client) {
                Ok(key) => {
                    if clients.insert(client.client_id.clone(), Client { key, scopes }).is_some() {
                        errors.push(ConfigError(format!("{place} is defined twice")));
                    }
                }
                Err(reason) => errors.push(ConfigError(format!("{place}: {reason}"))),
            }
        }
        if errors.is_empty() { Ok(Self { clients, roles, anonymous, anonymous_scopes }) } else { Err(errors) }
    }

    /// No client, and nothing that everybody may do.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.anonymous_scopes.as_slice() == [ANONYMOUS_ROLE]
    }

    pub fn anonymous(&self) -> Identity {
        Identity { client_id: ANONYMOUS.to_owned(), scopes: self.anonymous_scopes.clone(), expires: None }
    }

    pub fn expand(&self, scopes: &[String]) -> Result<ScopeSet, AuthError> {
        self.roles
            .expand(scopes.iter().map(String::as_str))
            .map_err(|error| AuthError::Failed(format!("the scopes cannot be expanded: {error}")))
    }

    pub fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        claim: &Claim<'_>,
        now: SystemTime,
    ) -> Result<Identity, AuthError> {
        let certificate = claim.ext.certificate.as_ref();
        let issuer = certificate.and_then(|certificate| certificate.issuer.as_deref());
        let known = issuer.unwrap_or(&claim.client_id);
        let client = self
            .clients
            .get(known)
            .ok_or_else(|| AuthError::Failed(format!("there is no client {known:?}")))?;
        let (scopes, expires) = match certificate {
            None => {
                claim.verify(request, &client.key, now, CLOCK_SKEW)?;
                (client.scopes.clone(), None)
            }
            Some(certificate) => {
                let moment = DateTime::<Utc>::from(now);
                let good =
                    temporary::check(certificate, &claim.client_id, &client.key, &client.scopes, moment)?;
                claim.verify(request, &good.key, now, CLOCK_SKEW)?;
                (Arc::new(self.with_anonymous(&certificate.scopes)?), Some(good.expires))
            }
        };
        let scopes = match &claim.ext.authorized_scopes {
            None => scopes,
            Some(authorized) => Arc::new(self.restricted(&scopes, authorized)?),
        };
        Ok(Identity { client_id: claim.client_id.clone().into_owned(), scopes, expires })
    }

    /// What is left of `scopes` when the call restricts itself to `authorized`.
    fn restricted(&self, scopes: &ScopeSet, authorized: &[String]) -> Result<ScopeSet, AuthError> {
        if let Some(bad) = authorized.iter().find(|scope| !valid(scope)) {
            return Err(AuthError::Failed(format!("authorizedScopes: {bad:?} is not a scope")));
        }
        let missing: Vec<&str> =
            authorized.iter().map(String::as_str).filter(|scope| !scopes.satisfies(scope)).collect();
        if !missing.is_empty() {
            return Err(AuthError::Failed(format!(
                "the credentials do not satisfy the authorizedScopes; missing: {}",
                missing.join(", ")
            )));
        }
        self.with_anonymous(authorized)
    }

    /// What everybody may do is never lost by saying who one is.
    fn with_anonymous(&self, scopes: &[String]) -> Result<ScopeSet, AuthError> {
        let scopes: Vec<String> = scopes.iter().chain(&self.anonymous).cloned().collect();
        self.expand(&scopes)
    }
}

fn key(client: &super::ClientConfig) -> Result<Key, String> {
    let id = &client.client_id;
    if id.is_empty() || id == ANONYMOUS || id.contains('"') || !valid(id) {
        return Err(format!(
            "client_id must be printable ASCII without double quotes, and not {ANONYMOUS:?}"
        ));
    }
    let token = client.access_token.resolve().map_err(|error| format!("access_token: {error}"))?;
    if token.is_empty() {
        return Err("access_token is empty".to_owned());
    }
    Key::new(token, SHA256).map_err(|_| "access_token cannot be used as a key".to_owned())
}
