//! The one door to all pages: who asks, and is a form really theirs.
//!
//! A browser has one cookie from us: a random name for it. A session may stand behind that name; a form carries a token
//! that is made from it with a key of ours. So a page elsewhere can send a form here, but not with the right token; and a
//! person who is not signed in (who may be allowed things all the same) is protected in the same way without costing any memory.
//! What a form's sender claims by `Origin` and `Sec-Fetch-Site` is looked at, too.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt as _, Limited};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::page::Answer;
use super::refusal::Refusal;
use super::session::{self, Found};
use super::table::Page;
use super::{Ui, page};
use crate::api::inside::of_hook;
use crate::auth::{Identity, Insufficient};
use crate::hook::HookName;
use crate::store::HookRow;

/// Longest form, in bytes as it is sent: a hook of a megabyte, percent-encoded, and a message to try it on.
pub(super) const LONGEST_FORM: usize = 6 << 20;

/// Forms up to this size are read whoever else sends one: the bound on connections bounds them. Nobody who only opens
/// connections shall keep others from signing in.
const SMALL_FORM: usize = 64 << 10;

/// A sender gets so long for its form, with the wait for its turn.
const FORM_TIME: Duration = Duration::from_secs(30);

/// The field of every form that holds its token.
const TOKEN_FIELD: &str = "_token";

/// Makes form tokens. The key outlives restarts, so that a form in a browser does, too.
pub(super) struct FormKey(Hmac<Sha256>);

impl FormKey {
    /// From the deployment's secret for task ids.
    pub fn new(key: &[u8]) -> Self {
        let mut derive = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
        derive.update(b"pulsehook form token 1");
        let derived = derive.finalize().into_bytes();
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(&derived).unwrap_or_else(|_| unreachable!()))
    }

    fn token(&self, browser: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(browser.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Who they are and what they may do.
    pub identity: Identity,
    /// They have said who they are, or nobody needs to.
    pub signed_in: bool,
    /// They were signed in until just now.
    pub expired: bool,
    /// What their browser is called.
    pub browser: String,
    /// Their browser does not know that name yet.
    pub is_new: bool,
}

/// A request that was let in.
pub(super) struct Visit {
    pub ui: Ui,
    pub visitor: Visitor,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub source: Option<IpAddr>,
    /// Parameters of the route, decoded.
    pub params: BTreeMap<String, String>,
    query: Vec<(String, String)>,
    form: Vec<(String, String)>,
}

/// Lets a request in, or tells why not.
pub(super) async fn pass(
    ui: Ui,
    page: &'static Page,
    params: BTreeMap<String, String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let source = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let visitor = match ui.visitor(&parts.headers, source).await {
        Ok(visitor) => visitor,
        Err(refusal) => return page::without_visitor(&ui, refusal),
    };
    let writes = parts.method == Method::POST;
    let mut visit = Visit {
        query: pairs(parts.uri.query().unwrap_or_default().as_bytes()),
        ui,
        visitor,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        source,
        params,
        form: Vec::new(),
    };
    if writes && let Err(refusal) = visit.read_form(body).await {
        return visit.finish(Err(refusal));
    }
    let shown = visit.shell();
    let answer = (page.handler)(visit).await;
    shown.finish(answer)
}

/// Where there is no page.
pub(super) async fn no_such_page(State(ui): State<Ui>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let refusal = || Refusal::not_found("There is no page at this address.");
    match ui.visitor(&parts.headers, None).await {
        Ok(visitor) => {
            let visit = Visit {
                ui,
                visitor,
                method: parts.method,
                uri: parts.uri,
                headers: parts.headers,
                source: None,
                params: BTreeMap::new(),
                query: Vec::new(),
                form: Vec::new(),
            };
            visit.finish(Err(refusal()))
        }
        Err(_) => page::without_visitor(&ui, refusal()),
    }
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Cookies that came over TLS have a name that no plain page can set.
fn cookie_name(headers: &HeaderMap) -> &'static str {
    if over_tls(headers) { "__Host-pulsehook" } else { "pulsehook" }
}

/// What a proxy says that ends TLS. Who claims it without one only keeps its own browser from sending the cookie.
fn over_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// A name for a browser, from 244 random bits.
pub(super) fn new_browser() -> String {
    let mut hash = Sha256::new();
    hash.update(uuid::Uuid::new_v4());
    hash.update(uuid::Uuid::new_v4());
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

fn browser(headers: &HeaderMap) -> Option<String> {
    let name = cookie_name(headers);
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, value)| *found == name && value.len() == 43 && value.is_ascii())
        .map(|(_, value)| value.to_owned())
}

impl Ui {
    async fn visitor(&self, headers: &HeaderMap, source: Option<IpAddr>) -> Result<Visitor, Refusal> {
        let inner = &self.inner;
        let known = browser(headers);
        let found = match &known {
            Some(browser) if !inner.authenticator.is_open() => {
                inner.sessions.owner(&inner.authenticator, browser, source).await?
            }
            _ => Found::None,
        };
        let is_new = known.is_none();
        let browser = known.unwrap_or_else(new_browser);
        let (identity, signed_in, expired) = match found {
            Found::Owner(identity) => (identity, true, false),
            other => {
                let identity = session::nobody(&inner.authenticator, source).await?;
                (identity, inner.authenticator.is_open(), matches!(other, Found::Ended))
            }
        };
        Ok(Visitor { identity, signed_in, expired, browser, is_new })
    }
}

impl Visit {
    /// What is needed to answer, when the handler has the rest.
    fn shell(&self) -> Visit {
        Visit {
            ui: self.ui.clone(),
            visitor: self.visitor.clone(),
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            source: self.source,
            params: BTreeMap::new(),
            query: self.query.clone(),
            form: Vec::new(),
        }
    }

    async fn read_form(&mut self, body: Body) -> Result<(), Refusal> {
        self.sent_by_our_page()?;
        let ui = self.ui.clone();
        let mut turn = None;
        let mut waited = false;
        let mut read = Vec::new();
        let mut body = Limited::new(body, LONGEST_FORM);
        let reading = async {
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|_| too_long())?.into_data() else { continue };
                if read.len() + data.len() > SMALL_FORM && turn.is_none() {
                    turn = ui.inner.forms.try_acquire().ok();
                    if turn.is_none() {
                        waited = true;
                        turn = ui.inner.forms.acquire().await.ok();
                    }
                }
                read.extend_from_slice(&data);
            }
            Ok::<_, Refusal>(())
        };
        match tokio::time::timeout(FORM_TIME, reading).await {
            Ok(read) => read?,
            Err(_) if waited => return Err(Refusal::busy("Try again in a moment.")),
            Err(_) => return Err(Refusal::bad("The form took too long.")),
        }
        self.form = pairs(&read);
        let token = self.ui.inner.form_key.token(&self.visitor.browser);
        let given = self.field(TOKEN_FIELD);
        // A browser that was just given its name cannot have a form of ours.
        if self.visitor.is_new || !bool::from(token.as_bytes().ct_eq(given.as_bytes())) {
            return Err(Refusal::forged());
        }
        Ok(())
    }

    /// Browsers say where a form comes from.
    fn sent_by_our_page(&self) -> Result<(), Refusal> {
        let text =
            |name: header::HeaderName| self.headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let host = text(header::HOST).unwrap_or_default();
        let origin = text(header::ORIGIN);
        let elsewhere = origin.is_some_and(|origin| origin.split_once("://").map(|(_, at)| at) != Some(host));
        let site = self.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if elsewhere || site.is_some_and(|site| site != b"same-origin") {
            return Err(Refusal::forged());
        }
        Ok(())
    }

    /// A field of the form; empty if it was not sent.
    pub fn field(&self, name: &str) -> &str {
        find(&self.form, name).unwrap_or_default()
    }

    /// A field of the form, if it was sent and is not empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        find(&self.form, name).filter(|value| !value.is_empty())
    }

    /// A parameter of the query, if it is there and not empty.
    pub fn asked(&self, name: &str) -> Option<&str> {
        find(&self.query, name).filter(|value| !value.is_empty())
    }

    /// The token of the forms of this page.
    pub fn token(&self) -> String {
        self.ui.inner.form_key.token(&self.visitor.browser)
    }

    /// The hook that the route names.
    pub fn name(&self) -> Result<HookName, Refusal> {
        let param = |name: &str| self.params.get(name).cloned().unwrap_or_default();
        HookName::new(param("group"), param("hook"))
            .map_err(|error| Refusal::not_found(format!("There is no such hook: {error}.")))
    }

    /// The hook that the route names, for who may call this method of the API about it.
    pub async fn hook(&self, method: &str) -> Result<HookRow, Refusal> {
        let name = self.name()?;
        self.permitted(method, &of_hook(&name))?;
        match self.ui.inner.store.hook(name.clone()).await? {
            Some(row) => Ok(row),
            None => Err(Refusal::not_found(format!("There is no hook {name}."))),
        }
    }

    /// Whether they may call this method of the API; else what is missing.
    pub fn permitted(&self, method: &str, params: &[(&str, &str)]) -> Result<(), Insufficient> {
        self.ui.inner.api.permits(&self.visitor.identity, method, params)
    }

    /// Whether they may call this method of the API about a hook.
    pub fn may(&self, method: &str, name: &HookName) -> bool {
        self.permitted(method, &of_hook(name)).is_ok()
    }

    /// Whether they may see what all hooks did.
    pub fn may_see_all(&self) -> bool {
        self.permitted("listDeadLetters", &[]).is_ok()
    }

    /// Whether they have a scope that belongs to no method of the API.
    pub fn need(&self, scope: &str) -> Result<(), Insufficient> {
        self.visitor.identity.require(&[scope.to_owned()])
    }

    /// The header that gives the browser its name.
    pub fn cookie(&self, browser: &str) -> HeaderValue {
        let secure = if over_tls(&self.headers) { "; Secure" } else { "" };
        let name = cookie_name(&self.headers);
        let text = format!("{name}={browser}; Path=/; HttpOnly; SameSite=Lax{secure}");
        // The name is ours and base64.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// A page, with everything around it.
    pub fn finish(&self, answer: Result<Answer, Refusal>) -> Response {
        let mut response = match answer {
            Ok(answer) => page::respond(self, answer),
            Err(Refusal::Scopes(_)) if !self.visitor.signed_in && self.method == Method::GET => {
                let next = self.uri.path_and_query().map_or("/", |target| target.as_str());
                let query: String = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("next", next)
                    .extend_pairs(self.visitor.expired.then_some(("expired", "1")))
                    .finish();
                page::redirect(&format!("/sign-in?{query}"))
            }
            Err(refusal) => page::refused(self, &refusal),
        };
        if self.visitor.is_new && !response.headers().contains_key(header::SET_COOKIE) {
            response.headers_mut().insert(header::SET_COOKIE, self.cookie(&self.visitor.browser));
        }
        page::protect(response.headers_mut());
        response
    }
}

fn too_long() -> Refusal {
    Refusal::bad(format!("The form could not be read; it may have {LONGEST_FORM} bytes at most."))
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_browser() {
        let key = FormKey::new(b"key");
        let (one, other) = (new_browser(), new_browser());
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
        assert_eq!(key.token(&one), key.token(&one));
        assert_ne!(key.token(&one), key.token(&other));
        assert_ne!(key.token(&one), FormKey::new(b"another").token(&one));
    }

    #[test]
    fn our_cookie_is_found_among_others_and_only_by_its_name() {
        let value = new_browser();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; pulsehook={value}; c=d").parse().unwrap());
        assert_eq!(browser(&headers), Some(value));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(browser(&headers), None);
        headers.insert(header::COOKIE, HeaderValue::from_static("__Host-pulsehook=short"));
        assert_eq!(browser(&headers), None);
    }
}
