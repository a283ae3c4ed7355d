//! The pages: what people see of their hooks, and what they do with them, in a browser.
//!
//! Server-rendered, one stylesheet, a little script of our own, all compiled in; everything but what is live works without the
//! script. The pages have no way of their own to anything: what they show is shown, and what they do is done, through the
//! entries of the API ([`crate::api::inside`]), so that scopes, checks and the audit trail are the same. All pages stand in one table,
//! `table::PAGES`, and are reached through one door (`visit`), which knows who asks and holds every form to its token.
//!
//! Promises: nothing that a stranger wrote (a message, a hook's name, a header) is ever markup or script: templates escape, and
//! the Content-Security-Policy allows no inline script or style; no secret is on a page but a trigger token that was
//! asked for.

mod assets;
mod audit;
mod code;
mod dead;
mod decision;
mod document;
mod edit;
mod explorer;
mod fields;
mod fire;
mod hook;
mod live;
mod manage;
mod new;
mod overview;
mod page;
mod plot;
mod preview;
mod refusal;
mod session;
mod sign_in;
mod sources;
mod table;
mod templates;
mod timeline;
mod trigger;
mod visit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::routing::on;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::auth::Authenticator;
use crate::store::Store;
pub use sources::Bridge;

/// `[ui]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where a task is looked at, with `{taskId}` in it; empty: the Taskcluster UI at `queue.root_url`.
    pub task_link: String,
    /// Who was signed in for so long signs in again.
    pub session_hours: u32,
    /// Where bridges are reached from outside, for the addresses that are shown to be pasted at a provider.
    pub webhook_url: String,
    /// Where a bridge tells how it is (its `bridge.status_listen`); empty: nothing is shown of bridges.
    pub bridge_status: String,
}

impl Config {
    /// Checks what only this module understands.
    pub fn check(&self) -> Result<(), String> {
        if !self.task_link.is_empty() && !self.task_link.contains("{taskId}") {
            return Err(format!(
                "ui.task_link = {:?}: it must have {{taskId}} in it, or be empty",
                self.task_link
            ));
        }
        if self.session_hours == 0 {
            return Err("ui.session_hours is 0; nobody could stay signed in".to_owned());
        }
        for (option, value) in [("webhook_url", &self.webhook_url), ("bridge_status", &self.bridge_status)] {
            let usable = || url::Url::parse(value).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !value.is_empty() && !usable() {
                return Err(format!(
                    "ui.{option} = {value:?}: it must be an address as http://host:port, or empty"
                ));
            }
        }
        Ok(())
    }
}

/// What the pages are given.
pub struct Parts<'a> {
    /// `[ui]`.
    pub config: &'a Config,
    /// `[queue] root_url`.
    pub root_url: &'a str,
    /// `[pulse] user`.
    pub user: &'a str,
    /// The API, through which everything is done.
    pub api: Api,
    /// Where hooks and fires are kept.
    pub store: Store,
    /// The router that is running on it.
    pub router: crate::router::Router,
    /// Tells who signs in.
    pub authenticator: Arc<Authenticator>,
    /// The deployment's secret for task ids, from which that for form tokens is derived.
    pub task_id_key: &'a [u8],
    /// How the bridge is asked how it is.
    pub bridge: Bridge,
    /// Ends what would never end by itself: live tails.
    pub stop: CancellationToken,
}

/// The pages on a running router. Clones share it.
#[derive(Clone)]
pub struct Ui {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api,
    store: Store,
    router: crate::router::Router,
    authenticator: Arc<Authenticator>,
    sessions: session::Sessions,
    form_key: visit::FormKey,
    templates: templates::Templates,
    assets: assets::Assets,
    user: String,
    task_link: String,
    webhook_url: String,
    bridge: Bridge,
    forms: Semaphore,
    previews: Semaphore,
    tails: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Large forms that are read at a time, each up to [`visit::LONGEST_FORM`]; more wait.
const FORMS: usize = 16;

/// Previews at a time: they share threads with the messages on the road.
const PREVIEWS: usize = 2;

/// Live tails at a time; more are refused.
const TAILS: usize = 256;

impl Ui {
    /// The pages of a router. Fails when the configuration is not usable, as [`Config::check`] says beforehand.
    pub fn new(parts: Parts<'_>) -> anyhow::Result<Self> {
        parts.config.check().map_err(anyhow::Error::msg)?;
        let task_link = match parts.config.task_link.as_str() {
            "" => format!("{}/tasks/{{taskId}}", parts.root_url.trim_end_matches('/')),
            given => given.to_owned(),
        };
        let assets = assets::Assets::new();
        let inner = Inner {
            sessions: session::Sessions::new(Duration::from_secs(
                u64::from(parts.config.session_hours) * 3600,
            )),
            form_key: visit::FormKey::new(parts.task_id_key),
            templates: templates::Templates::new()?,
            assets,
            user: parts.user.to_owned(),
            task_link,
            webhook_url: parts.config.webhook_url.trim_end_matches('/').to_owned(),
            bridge: parts.bridge,
            forms: Semaphore::new(FORMS),
            previews: Semaphore::new(PREVIEWS),
            tails: Arc::new(Semaphore::new(TAILS)),
            stop: parts.stop,
            api: parts.api,
            store: parts.store,
            router: parts.router,
            authenticator: parts.authenticator,
        };
        let ui = Self { inner: Arc::new(inner) };
        Ok(ui)
    }

    /// The routes, with their full paths.
    pub fn routes(&self) -> Router {
        let mut routes = Router::new();
        for page in table::PAGES {
            let handler = async move |State(ui): State<Ui>,
                                      Path(params): Path<BTreeMap<String, String>>,
                                      request: Request| {
                visit::pass(ui, page, params, request).await
            };
            routes = routes.route(page.route, on(page.method, handler));
        }
        routes
            .route("/static/{file}", axum::routing::get(assets::serve))
            .method_not_allowed_fallback(visit::no_such_page)
            .with_state(self.clone())
    }

    /// What is answered where there is no page.
    pub fn fallback(&self) -> Router {
        Router::new().fallback(visit::no_such_page).with_state(self.clone())
    }
}
