//! Routes that come later: a router answers for its health from the first moment, and for its API once it owns the store.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router as Routes};
use http::{StatusCode, header};
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::health::Health;

/// A call that comes while the router starts waits for so long; a standby answers at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// The place for routes that come later.
#[derive(Clone)]
pub(super) struct Late {
    routes: watch::Sender<Option<Routes>>,
    health: Health,
}

impl Late {
    pub fn new(health: Health) -> Self {
        Self { routes: watch::Sender::new(None), health }
    }

    /// From now on these routes answer.
    pub fn come(&self, routes: Routes) {
        self.routes.send_replace(Some(routes));
    }

    /// What answers for them meanwhile.
    pub fn routes(&self) -> Routes {
        Routes::new().fallback(answer).with_state(self.clone())
    }
}

async fn answer(State(late): State<Late>, request: Request<Body>) -> Response {
    let mut routes = late.routes.subscribe();
    let known = routes.borrow_and_update().clone();
    let found = match known {
        Some(found) => Some(found),
        None if late.health.is_standing_by() => None,
        None => match tokio::time::timeout(PATIENCE, routes.wait_for(Option::is_some)).await {
            Ok(Ok(routes)) => routes.clone(),
            _ => None,
        },
    };
    match found {
        Some(routes) => routes.oneshot(request).await.unwrap_or_else(|never| match never {}),
        None => {
            let body = json!({
                "code": "ServiceUnavailable",
                "message": "another router owns the store, or this one is still starting; try again",
            });
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], Json(body)).into_response()
        }
    }
}
