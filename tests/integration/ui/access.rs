//! Who sees and does what: people with all scopes, some, none, and nobody at all; forms of other pages; sessions.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::http::Answer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::system::System;
use super::browser::Browser;
use super::deployment::{TOKEN, base, call, create, deployment, last_fire, on_push, populated};

/// A browser without a browser: a cookie, and the token of the last page.
pub struct Forms<'a> {
    system: &'a System,
    pub cookie: String,
}

impl<'a> Forms<'a> {
    pub fn new(system: &'a System) -> Self {
        Self { system, cookie: String::new() }
    }

    fn take(&mut self, answer: &Answer) {
        if let Some(set) = answer.headers.get("set-cookie") {
            self.cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
    }

    pub async fn get(&mut self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", base(self.system));
        let answer = self.system.http.call("GET", &url, &[("cookie", &self.cookie)], "").await.unwrap();
        self.take(&answer);
        (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Sends a form as a browser does, with the token of the page that it stands on.
    pub async fn send(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let (_, html) = self.get(page).await;
        let token = token(&html);
        self.post(path, &token, fields, &[]).await
    }

    pub async fn post(
        &mut self,
        path: &str,
        token: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let body: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("_token", token)
            .extend_pairs(fields)
            .finish();
        let mut all =
            vec![("cookie", self.cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        all.extend(headers);
        let url = format!("{}{path}", base(self.system));
        let answer = self.system.http.call("POST", &url, &all, body).await.unwrap();
        self.take(&answer);
        answer
    }

    pub async fn sign_in(&mut self, client_id: &str) {
        let fields = [("client_id", client_id), ("access_token", TOKEN)];
        let answer = self.send("/sign-in", "/sign-in", &fields).await;
        assert_eq!(answer.status, 303);
    }
}

pub fn token(html: &str) -> String {
    let at = html.find("name=\"_token\" value=\"").expect("the page has a form") + 21;
    html[at..].split('"').next().unwrap().to_owned()
}

fn location(answer: &Answer) -> &str {
    answer.headers["location"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_scopes_do_not_allow_is_not_offered_and_is_refused() {
    let system = populated("ui-access").await;
    let fire = last_fire(&system, "ci/broken").await;
    let dead = format!("/hooks/ci/broken/fires/{fire}");

    // Nobody is asked to sign in, wherever they come, and then gets there.
    let mut nobody = Forms::new(&system);
    for path in ["/hooks", "/hooks/ci/on-push", "/dead-letters", "/audit", "/new", &dead] {
        let url = format!("{}{path}", base(&system));
        let answer = system.http.get(&url).await.unwrap();
        assert_eq!(answer.status, 303, "{path}");
        assert!(location(&answer).starts_with("/sign-in?next=%2F"), "{path}: {}", location(&answer));
    }
    let fields = [("client_id", "reader"), ("access_token", TOKEN), ("next", "/hooks/ci/on-push")];
    let answer = nobody.send("/sign-in", "/sign-in", &fields).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/hooks/ci/on-push"));
    let fields = [("client_id", "reader"), ("access_token", "wrong"), ("next", "//evil.example")];
    let answer = Forms::new(&system).send("/sign-in", "/sign-in", &fields).await;
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 401);
    assert!(page.contains("wrong access token") && !page.contains("evil"), "{page}");

    // The reader reads the group, and is offered nothing else.
    let mut reader = nobody;
    let (status, page) = reader.get("/hooks/ci/on-push").await;
    assert_eq!(status, 200);
    for word in ["/edit", "/trigger", "/manage", "/audit\"", "/dead-letters", "/sources"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("History") && page.contains("Live"));
    let (_, page) = reader.get(&dead).await;
    assert!(!page.contains("Requeue") && !page.contains("Drop"), "{page}");
    let (_, page) = reader.get("/hooks").await;
    assert!(page.contains("on-push") && !page.contains("foreign"), "{page}");
    let refused = [
        "/hooks/ops",
        "/hooks/ops/foreign",
        "/hooks/ci/on-push/edit",
        "/hooks/ci/on-push/trigger",
        "/hooks/ci/on-push/manage",
        "/hooks/ci/on-push/audit",
        "/dead-letters",
        "/sources",
        "/sources/github",
        "/audit",
        "/new",
    ];
    for path in refused {
        let (status, page) = reader.get(path).await;
        assert_eq!(status, 403, "{path}");
        assert!(page.contains("<code>hooks:"), "the page says which scopes are missing: {page}");
    }
    let (status, _) = reader.get("/").await;
    assert_eq!(status, 303, "the overview is about all hooks");
    // What is not offered is refused if asked, with a token that is good.
    let (_, page) = reader.get("/hooks/ci/on-push").await;
    let token = token(&page);
    for (path, what) in [
        (dead.as_str(), "requeue"),
        (&dead, "drop"),
        (&dead, "replay-as-new"),
        ("/hooks/ci/on-push/manage", "delete"),
        ("/hooks/ci/on-push/manage", "token"),
        ("/hooks/ci/on-push/manage", "pause"),
        ("/hooks/ci/on-push/edit", "save"),
        ("/hooks/ci/on-push/edit", "preview"),
        ("/hooks/ci/on-push/trigger", ""),
        ("/new", "create"),
        ("/dead-letters", "drop"),
    ] {
        let fields = [
            ("do", what),
            ("name", "ci/on-push"),
            ("document", "{}"),
            ("hook", "ci/broken"),
            ("task", &fire),
            ("group", "ci"),
            ("id", "x"),
        ];
        let answer = reader.post(path, &token, &fields, &[]).await;
        assert_eq!(answer.status, 403, "{path} {what}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(call(&system, "GET", "/hooks/ci/on-push", None).await.status, 200);

    // One without scopes is signed in and sees nothing.
    let mut without = Forms::new(&system);
    without.sign_in("nobody").await;
    for path in ["/hooks", "/hooks/ci/on-push", "/dead-letters", &dead] {
        assert_eq!(without.get(path).await.0, 403, "{path}");
    }

    // The admin sees all of it, and signs out for good.
    let browser = Browser::start(&base(&system)).await;
    browser.sign_in("admin", TOKEN).await;
    browser.until("Problems of hooks").await;
    browser.open(&dead).await;
    browser.until("Requeue").await;
    browser.press("Sign out").await;
    browser.until("You are signed out").await;
    browser.open(&dead).await;
    browser.until("Access token").await;
    browser.content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_pages_do_nothing() {
    let system = populated("ui-forged").await;
    let mut admin = Forms::new(&system);
    admin.sign_in("admin").await;
    let manage = "/hooks/ci/on-push/manage";
    let (_, page) = admin.get(manage).await;
    let good = token(&page);
    let delete = [("do", "delete"), ("name", "ci/on-push")];
    let mut other = Forms::new(&system);
    let (_, page) = other.get("/sign-in").await;
    for wrong in ["", "wrong", &token(&page)] {
        let answer = admin.post(manage, wrong, &delete, &[]).await;
        assert_eq!(answer.status, 403, "{wrong}");
    }
    let from_elsewhere = [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for header in from_elsewhere {
        assert_eq!(admin.post(manage, &good, &delete, &[header]).await.status, 403, "{header:?}");
    }
    // A form without the cookie has nobody behind it.
    let cookie = std::mem::take(&mut admin.cookie);
    assert_eq!(admin.post(manage, &good, &delete, &[]).await.status, 403);
    admin.cookie = cookie;
    assert_eq!(call(&system, "GET", "/hooks/ci/on-push", None).await.status, 200, "it is still there");
    // Nothing is done by GET, nor by other methods.
    let url = format!("{}{manage}?do=delete&name=ci/on-push&_token={good}", base(&system));
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        system.http.call(method, &url, &[("cookie", &admin.cookie)], "").await.unwrap();
    }
    assert_eq!(call(&system, "GET", "/hooks/ci/on-push", None).await.status, 200);
    assert_eq!(admin.post(manage, &good, &delete, &[("origin", &base(&system))]).await.status, 303);
    assert_eq!(call(&system, "GET", "/hooks/ci/on-push", None).await.status, 404);
}

/// Begins to send a form of a megabyte, goes no further, and waits for the status of the answer.
async fn unfinished_form(system: &System, begun: usize) -> String {
    let address = base(system).strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n";
    stream.write_all(format!("{head}{}", "x".repeat(begun)).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    let answer = tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut status));
    answer.await.expect("an answer within the time that a form has").unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_never_end_keep_nobody_from_signing_in() {
    let system = deployment("ui-slow-forms").await;
    let begun = [vec![0; 40], vec![100 << 10; 20]].concat();
    let (mut answers, ()) =
        tokio::join!(join_all(begun.into_iter().map(|begun| unfinished_form(&system, begun))), async {
            for _ in 0..5 {
                let asked = Instant::now();
                Forms::new(&system).sign_in("admin").await;
                assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        },);
    // Sixteen large ones are read at a time; the others may come again.
    answers.sort();
    assert_eq!(answers[..56], vec!["HTTP/1.1 400"; 56]);
    assert_eq!(answers[56..], vec!["HTTP/1.1 503"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_and_headers_hold_browsers_back() {
    let system = populated("ui-headers").await;
    let url = format!("{}/sign-in", base(&system));
    let plain = system.http.get(&url).await.unwrap();
    let cookie = plain.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Secure"),
        "{cookie}"
    );
    let tls = system.http.call("GET", &url, &[("x-forwarded-proto", "https")], "").await.unwrap();
    let cookie = tls.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-pulsehook=") && cookie.contains("; Secure") && cookie.contains("Path=/;"),
        "{cookie}"
    );
    for path in ["/sign-in", "/nowhere", "/static/style.css", "/static/none"] {
        let answer = system.http.get(&format!("{}{path}", base(&system))).await.unwrap();
        let header = |name: &str| {
            answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        if path != "/static/none" {
            let policy = header("content-security-policy");
            assert!(
                policy.contains("default-src 'none'")
                    && policy.contains("frame-ancestors 'none'")
                    && !policy.contains("unsafe"),
                "{policy}"
            );
            assert_eq!(
                (header("x-content-type-options"), header("x-frame-options")),
                ("nosniff".into(), "DENY".into())
            );
        }
        let kept = if path.starts_with("/static/style") { "immutable" } else { "" };
        assert!(header("cache-control").contains(kept), "{path}");
    }
    // Signing in gives the browser another name: one that was planted gets nothing.
    let mut forms = Forms::new(&system);
    forms.get("/sign-in").await;
    let before = forms.cookie.clone();
    forms.sign_in("admin").await;
    assert_ne!(before, forms.cookie);
    assert_eq!(forms.get("/dead-letters").await.0, 200);
    forms.cookie = before;
    assert_eq!(forms.get("/dead-letters").await.0, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_changed_without_script() {
    let system = populated("ui-plain").await;
    let mut admin = Forms::new(&system);
    admin.sign_in("admin").await;
    let edit = "/hooks/ci/on-push/edit";
    let document = serde_json::json!({ "metadata": on_push()["metadata"], "task": on_push()["task"], "triggerSchema": {"type": "object"}, "paused": true }).to_string();
    let fields = [("version", "1"), ("document", document.as_str()), ("do", "review")];
    let answer = admin.send(edit, edit, &fields).await;
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{page}");
    assert!(page.contains("paused: true") && page.contains("class=\"removed\""), "{page}");
    let answer = admin.send(edit, edit, &[("version", "1"), ("document", &document), ("do", "save")]).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/hooks/ci/on-push?done=saved"));
    let saved = call(&system, "GET", "/hooks/ci/on-push", None).await.json();
    assert_eq!((&saved["paused"], &saved["bindings"]), (&json!(true), &json!([])));
    let example = on_push();
    create(&system, "ci/another", &example).await;
    let answer = admin
        .send(
            "/hooks/ci/another/manage",
            "/hooks/ci/another/manage",
            &[("do", "delete"), ("name", "another")],
        )
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(call(&system, "GET", "/hooks/ci/another", None).await.status, 200);
}
