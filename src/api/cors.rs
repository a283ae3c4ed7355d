//! Cross-origin requests, answered as Taskcluster services answer them: pages from elsewhere may call, because what a call
//! may do is in its signature and not in a cookie. Never in open mode, where being on this machine is all it takes.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What answers are given: the origins that may call, `*` for all.
pub(super) async fn cors(State(origin): State<HeaderValue>, request: Request, next: Next) -> Response {
    let asks = request.method() == Method::OPTIONS;
    let mut response = if asks { StatusCode::OK.into_response() } else { next.run(request).await };
    let fixed: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control,Idempotency-Key,X-Hook-Token",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After"),
        (header::ACCESS_CONTROL_MAX_AGE, "900"),
    ];
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
