//! Signing in and out: with a client id and its access token, or with Taskcluster credentials (which may have a certificate).

use axum::http::{StatusCode, header};
use serde_json::json;

use super::page::{self, Answer};
use super::refusal::Refusal;
use super::session::Credentials;
use super::visit::{Visit, new_browser};
use crate::auth::AuthError;

/// The form.
pub(super) async fn form(visit: Visit) -> Result<Answer, Refusal> {
    if visit.ui.inner.authenticator.is_open() {
        return Ok(Answer::Redirect("/".into()));
    }
    let values = json!({ "next": next(visit.asked("next")), "expired": visit.asked("expired").is_some() });
    Ok(Answer::page("sign_in.html", values))
}

/// Opens a session, under a new name of the browser: one that somebody else may have planted gets nothing.
pub(super) async fn sign_in(visit: Visit) -> Result<Answer, Refusal> {
    let next = next(visit.given("next"));
    let certificate = visit.given("certificate").map(str::trim).filter(|text| !text.is_empty());
    let credentials = Credentials {
        client_id: visit.field("client_id").trim(),
        access_token: visit.field("access_token").trim(),
        certificate,
    };
    let inner = &visit.ui.inner;
    let browser = new_browser();
    match inner.sessions.open(&inner.authenticator, &browser, &credentials, visit.source).await {
        Ok(identity) => {
            tracing::info!(client_id = identity.client_id, "signed in to the pages");
            inner.sessions.close(&visit.visitor.browser);
            let mut response = page::redirect(&next);
            response.headers_mut().insert(header::SET_COOKIE, visit.cookie(&browser));
            Ok(Answer::Raw(Box::new(response)))
        }
        Err(AuthError::Failed(reason)) => {
            tracing::warn!(peer = ?visit.source, reason, "sign-in to the pages refused");
            let values = json!({ "next": next, "given_client_id": credentials.client_id, "refused": reason });
            Ok(Answer::Page { status: StatusCode::UNAUTHORIZED, template: "sign_in.html", values })
        }
        Err(unavailable) => Err(unavailable.into()),
    }
}

/// Ends the session.
pub(super) async fn sign_out(visit: Visit) -> Result<Answer, Refusal> {
    visit.ui.inner.sessions.close(&visit.visitor.browser);
    let mut response = page::redirect("/sign-in?done=signed-out");
    response.headers_mut().insert(header::SET_COOKIE, visit.cookie(&new_browser()));
    Ok(Answer::Raw(Box::new(response)))
}

/// Where to go afterwards: a page of ours, whatever the address says.
fn next(asked: Option<&str>) -> String {
    let ours = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.starts_with("/\\")
            && path.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
    };
    asked.filter(ours).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_only_ever_goes_on_to_a_page_of_ours() {
        for elsewhere in ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/a\nb", ""] {
            assert_eq!(next(Some(elsewhere)), "/", "{elsewhere:?}");
        }
        assert_eq!(next(Some("/hooks/a/b%2Fc?x=1")), "/hooks/a/b%2Fc?x=1");
    }
}
