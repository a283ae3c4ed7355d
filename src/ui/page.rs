//! From what a page says to the answer: the frame around each page, and the headers that keep strangers' words from becoming
//! anything but text.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Ui;
use super::refusal::Refusal;
use super::visit::Visit;

/// What a handler answers.
pub(super) enum Answer {
    /// A page of this template, with these values.
    Page { status: StatusCode, template: &'static str, values: Value },
    /// A part of a page, for our own script.
    Part { template: &'static str, values: Value },
    /// To another page.
    Redirect(String),
    /// Anything else, complete.
    Raw(Box<Response>),
}

impl Answer {
    /// A page.
    pub fn page(template: &'static str, values: Value) -> Self {
        Self::Page { status: StatusCode::OK, template, values }
    }

    /// A page that says that something is not as it should be.
    pub fn faulty(template: &'static str, values: Value) -> Self {
        Self::Page { status: StatusCode::UNPROCESSABLE_ENTITY, template, values }
    }

    /// Another page, where what was done is told in a word of [`notice`].
    pub fn done(path: &str, what: &str) -> Self {
        let with = if path.contains('?') { '&' } else { '?' };
        Self::Redirect(format!("{path}{with}done={what}"))
    }

    /// A file for the browser to keep.
    pub fn download(name: &str, kind: &'static str, body: impl Into<axum::body::Body>) -> Self {
        let mut response = Response::new(body.into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let safe: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{safe}\"")) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        Self::Raw(Box::new(response))
    }
}

/// What was done, by the word in the address of the page that tells it: nobody can put other words onto our pages.
fn notice(what: &str) -> Option<&'static str> {
    Some(match what {
        "created" => "The hook has been created.",
        "saved" => "The hook has been saved; it counts for messages from now on.",
        "unchanged" => "There was nothing to save: the definition is the same.",
        "paused" => "The hook is paused: its messages wait in its queue.",
        "resumed" => "The hook goes on with what waited in its queue.",
        "deleted" => "The hook has been deleted, with what waited in its queue.",
        "reset" => "The trigger token has been reset; the former one is not good any more.",
        "requeued" => "The dead letter was rendered anew and is on its way.",
        "dropped" => "The dead letter has been dropped; its record stays.",
        "replayed" => "The message has been fired again under the same task id.",
        "replayed-as-new" => "The message has been fired again as a new task.",
        "triggered" => "The hook has been triggered.",
        "declined" => "The hook was triggered and did not fire: the time line below tells why.",
        "signed-out" => "You are signed out.",
        _ => return None,
    })
}

/// Renders an answer.
pub(super) fn respond(visit: &Visit, answer: Answer) -> Response {
    match answer {
        Answer::Page { status, template, values } => html(&visit.ui, status, template, framed(visit, values)),
        Answer::Part { template, values } => {
            html(&visit.ui, StatusCode::OK, template, merged(values, json!({ "token": visit.token() })))
        }
        Answer::Redirect(to) => redirect(&to),
        Answer::Raw(response) => *response,
    }
}

/// The values of a page, with those of its frame.
fn framed(visit: &Visit, values: Value) -> Value {
    let visitor = &visit.visitor;
    let inner = &visit.ui.inner;
    let may_list = visitor.identity.scopes.as_slice().iter().any(|scope| {
        crate::auth::scope::satisfies(scope, "hooks:list-hooks:") || scope.starts_with("hooks:list-hooks:")
    });
    let frame = json!({
        "visitor": {
            "client_id": visitor.identity.client_id,
            "signed_in": visitor.signed_in,
            "open": inner.authenticator.is_open(),
        },
        "may": {
            "list": may_list,
            "see_all": visit.may_see_all(),
            "audit_all": visit.need("hooks:audit:*").is_ok(),
        },
        "token": visit.token(),
        "path": visit.uri.path(),
        "notice": visit.asked("done").and_then(notice),
        "assets": inner.assets.addresses(),
        "product_version": env!("CARGO_PKG_VERSION"),
    });
    merged(values, frame)
}

/// Both objects in one; the first has its way.
pub(super) fn merged(mut values: Value, more: Value) -> Value {
    if let (Some(values), Value::Object(more)) = (values.as_object_mut(), more) {
        for (key, value) in more {
            values.entry(key).or_insert(value);
        }
    }
    values
}

/// A refusal as a page.
pub(super) fn refused(visit: &Visit, refusal: &Refusal) -> Response {
    let values = match refusal {
        Refusal::Scopes(refusal) => json!({
            "title": "Not allowed",
            "message": format!("{} may not do this. These scopes are missing:", refusal.client_id),
            "missing": refusal.missing,
        }),
        Refusal::Fault { title, message, .. } => json!({ "title": title, "message": message }),
    };
    html(&visit.ui, refusal.status(), "refused.html", framed(visit, values))
}

/// A refusal where it is not even known who asks.
pub(super) fn without_visitor(ui: &Ui, refusal: Refusal) -> Response {
    let (title, message) = match &refusal {
        Refusal::Scopes(refusal) => ("Not allowed", refusal.missing.join(", ")),
        Refusal::Fault { title, message, .. } => (*title, message.clone()),
    };
    let values = json!({
        "title": title, "message": message, "assets": ui.inner.assets.addresses(), "product_version": env!("CARGO_PKG_VERSION"),
    });
    let mut response = html(ui, refusal.status(), "refused.html", values);
    protect(response.headers_mut());
    response
}

fn html(ui: &Ui, status: StatusCode, template: &'static str, values: Value) -> Response {
    match ui.inner.templates.render(template, values) {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(template, %error, "a page cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "This page failed; the router's log says why.")
                .into_response()
        }
    }
}

/// To a page of ours.
pub(super) fn redirect(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::try_from(to) {
        Ok(to) => {
            response.headers_mut().insert(header::LOCATION, to);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// What every answer tells the browser to hold back from.
pub(super) const PROTECTION: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// Adds the headers of [`PROTECTION`], and that nothing is to be kept, where the answer does not say otherwise.
pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in PROTECTION {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// One segment of an address, whatever is in it.
pub(super) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_anything() {
        assert_eq!(segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        assert_eq!(segment("on-push_1.~"), "on-push_1.~");
    }

    #[test]
    fn the_policy_allows_nothing_inline() {
        let policy = PROTECTION[0].1;
        assert!(!policy.contains("unsafe") && policy.starts_with("default-src 'none'"), "{policy}");
    }

    #[test]
    fn only_known_words_become_notices() {
        assert!(notice("saved").is_some() && notice("<b>saved</b>").is_none());
    }
}
