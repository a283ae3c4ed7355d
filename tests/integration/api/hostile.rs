//! Requests that no client would send: each gets its clear error within its time, and the service goes on for others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::system::{System, hook};
use super::client::{TOKEN, call_as, deployment, send, signature};

/// The longest that anything may take: a body has half a minute.
const PATIENCE: Duration = Duration::from_secs(60);

fn address(system: &System) -> String {
    system.api_url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned()
}

/// Sends these bytes as they are, then pieces of `more` until the other side has said something, and reads what it says.
async fn raw(system: &System, head: &[u8], more: impl Iterator<Item = Vec<u8>> + Send) -> String {
    let stream = TcpStream::connect(address(system)).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let writer = async {
        // The other side may stop listening at any point: its answer is what counts.
        let mut sent = writing.write_all(head).await;
        for piece in more {
            if sent.is_err() {
                break;
            }
            sent = writing.write_all(&piece).await;
        }
        // Kept open: the end of what is sent must not be what ends the request.
        std::future::pending::<()>().await
    };
    let mut said = Vec::new();
    let reader = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = reading.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..count]);
            if complete(&said) {
                break;
            }
        }
    };
    let answered = async {
        tokio::select! {
            () = reader => {}
            () = writer => {}
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer, or an end");
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether the answer is there with all of its body.
fn complete(said: &[u8]) -> bool {
    let text = String::from_utf8_lossy(said).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// An error as the API has them.
fn refused(answer: &harness::http::Answer, status: u16, code: &str) -> String {
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

/// Others are served, and quickly.
async fn goes_on(system: &System) {
    let asked = Instant::now();
    let answer = call_as(system, "admin", "GET", "/hooks/ci/steady", &[], None).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

async fn prepared(vhost: &str) -> System {
    let system = deployment(vhost).await;
    let saved = call_as(&system, "admin", "PUT", "/hooks/ci/steady", &[], Some(&hook(&[]))).await;
    assert_eq!(saved.status, 200);
    system
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_a_hundred_megabytes_are_refused_without_being_kept() {
    const MEGABYTE: usize = 1 << 20;
    let system = prepared("hostile-bodies").await;
    let before = system.router.lock().await.memory().unwrap();
    let pieces = || std::iter::repeat_n(vec![b' '; MEGABYTE], 100);
    let declared = format!(
        "PUT /api/hooks/v1/hooks/ci/x HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        100 * MEGABYTE
    );
    let chunked = "PUT /api/hooks/v1/hooks/ci/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = || {
        pieces()
            .map(|piece| [format!("{:x}\r\n", piece.len()).into_bytes(), piece, b"\r\n".to_vec()].concat())
    };
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(raw(&system, declared.as_bytes(), pieces()).await);
        answers.push(raw(&system, chunked.as_bytes(), chunk()).await);
    }
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(
            answer.contains("InputTooLarge") && answer.contains("10485760 bytes are allowed"),
            "{answer}"
        );
    }
    let grown = system.router.lock().await.memory().unwrap().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes");
    goes_on(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_said_to_be() {
    let system = prepared("hostile-json").await;
    let put = async |body: String, kind: &str| {
        let path = "/hooks/ci/x";
        let authorization = signature(&system, "admin", TOKEN, "PUT", path);
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        system.http.call("PUT", &format!("{}{path}", system.api_url), &headers, body).await.unwrap()
    };
    let json_type = "application/json";
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for levels in [130, 100_000, 4 << 20] {
        refused(&put(deep(levels), json_type).await, 400, "MalformedPayload");
    }
    let mut definition = hook(&[]);
    definition["task"]["payload"]["deep"] = serde_json::from_str(&deep(110)).unwrap();
    let message = refused(&put(definition.to_string(), json_type).await, 400, "InputError");
    assert!(message.contains("nested deeper than"), "{message}");
    for (body, kind) in [("", json_type), ("{", json_type), ("{}", "text/plain"), ("\u{feff}{}", json_type)] {
        refused(&put(body.into(), kind).await, 400, "MalformedPayload");
    }
    for body in ["null", "[]", "1", "{}", "{\"metadata\": null, \"task\": []}"] {
        refused(&put(body.into(), json_type).await, 400, "InputValidationError");
    }
    // A payload as deep as JSON parsers go, to a hook that takes any.
    let payload = json!({ "deep": serde_json::from_str::<Value>(&deep(120)).unwrap() });
    let triggered = call_as(&system, "admin", "POST", "/hooks/ci/steady/trigger", &[], Some(&payload)).await;
    let message = refused(&triggered, 400, "InputError");
    assert!(message.contains("deep"), "{message}");
    goes_on(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_are_given_up_and_hold_up_nobody() {
    const SLOW: usize = 200;
    let system = prepared("hostile-slow").await;
    let begun = "PUT /api/hooks/v1/hooks/ci/x HTTP/1.1\r\nhost: x\r\n";
    let half = format!("{begun}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"meta");
    // Never a whole head; never a whole body; and nothing at all.
    let started = Instant::now();
    let (heads, bodies, silent, ()) = tokio::join!(
        join_all((0..SLOW).map(|_| raw(&system, begun.as_bytes(), std::iter::empty()))),
        join_all((0..SLOW).map(|_| raw(&system, half.as_bytes(), std::iter::empty()))),
        join_all((0..SLOW).map(|_| raw(&system, b"", std::iter::empty()))),
        async {
            for _ in 0..20 {
                goes_on(&system).await;
            }
        },
    );
    assert!(started.elapsed() < PATIENCE);
    for answer in heads.iter().chain(&silent) {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    for answer in bodies {
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("did not arrive within"), "{answer}");
    }
    goes_on(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_room_of_slow_senders_is_asked_to_come_again() {
    let system = prepared("hostile-room").await;
    let head = "PUT /api/hooks/v1/hooks/ci/x HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let large = format!("{head}content-length: 10485760\r\n\r\n{}", " ".repeat(100 << 10));
    // 25 such bodies are the room for all.
    let (answers, ()) =
        tokio::join!(join_all((0..30).map(|_| raw(&system, large.as_bytes(), std::iter::empty()))), async {
            for _ in 0..5 {
                goes_on(&system).await;
            }
        },);
    let (waited, slow): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.starts_with("HTTP/1.1 503 "));
    assert_eq!((waited.len(), slow.len()), (5, 25), "{answers:?}");
    for answer in waited {
        assert!(answer.contains("retry-after: 1") && answer.contains("ServiceUnavailable"), "{answer}");
    }
    for answer in slow {
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("did not arrive within"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signature_is_refused_whatever_is_wrong_with_it() {
    let system = prepared("hostile-hawk").await;
    let path = "/hooks/ci/steady";
    let good = signature(&system, "admin", TOKEN, "GET", path);
    let with = |from: &str, to: &str| {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from}");
        changed
    };
    let now = chrono::Utc::now().timestamp();
    let of_time = |time: String| {
        let start = good.find("ts=\"").unwrap() + 4;
        let end = start + good[start..].find('"').unwrap();
        format!("{}{time}{}", &good[..start], &good[end..])
    };
    let bad = [
        String::new(),
        "Hawk".into(),
        "Basic YWRtaW46YWRtaW4=".into(),
        "Bearer abc".into(),
        "Hawk id".into(),
        "Hawk id=".into(),
        "Hawk id=\"admin".into(),
        "Hawk id=\"admin\" id=\"admin\"".into(),
        "Hawk ,,,,=\"\"".into(),
        with("id=\"admin\"", "id=\"\""),
        with("id=\"admin\"", "id=\"unknown\""),
        with("id=\"admin\"", "id=\"admin\", app=\"x\""),
        with("id=\"admin\"", "id=\"admin\", surprise=\"x\""),
        with("mac=\"", "mac=\"!"),
        with("mac=\"", "mac=\"AAAA"),
        with("nonce=\"", "nonce=\"x"),
        with("Hawk ", "Hawk ext=\"not base64 of JSON\", "),
        with("Hawk ", "Hawk ext=\"e30\", "),
        with("Hawk ", "Hawk hash=\"AAAA\", "),
        with("Hawk ", &format!("Hawk ext=\"{}\", ", "A".repeat(17 << 10))),
        of_time((now - 3600).to_string()),
        of_time("99999999999999999999".into()),
        of_time("-1".into()),
        of_time("1e9".into()),
        of_time(String::new()),
    ];
    for authorization in &bad {
        let answer = send(&system, "GET", path, &[("authorization", authorization)], None).await;
        let message = refused(&answer, 401, "AuthenticationFailed");
        assert!(!message.contains(TOKEN), "{message}");
    }
    for bewit in ["", "%FF", "YQ", "AAAA&bewit=AAAA", "YWRtaW5cOTk5OTk5OTk5OVxBQUFBXA"] {
        let answer = send(&system, "GET", &format!("{path}?bewit={bewit}"), &[], None).await;
        refused(&answer, 401, "AuthenticationFailed");
    }
    // Bytes that are no text, and a header that is longer than any: refused before anybody looks for credentials.
    let start = "GET /api/hooks/v1/hooks/ci/steady HTTP/1.1\r\nhost: x\r\nauthorization: Hawk ";
    let bytes = [start.as_bytes(), b"\xff\xfe\r\n\r\n"].concat();
    let answer = raw(&system, &bytes, std::iter::empty()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("printable ASCII"), "{answer}");
    let endless = std::iter::repeat_n(vec![b'x'; 1 << 16], 64);
    let answer = raw(&system, start.as_bytes(), endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(send(&system, "GET", path, &[("authorization", &good)], None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_overheard_is_good_for_nothing() {
    let system = prepared("hostile-replay").await;
    let path = "/hooks/ci/steady/trigger?wait=0";
    let authorization = signature(&system, "admin", TOKEN, "POST", path);
    let headers = [("authorization", authorization.as_str())];
    let body = json!({});
    let answers = join_all((0..20).map(|_| send(&system, "POST", path, &headers, Some(&body)))).await;
    let (taken, refusals): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(taken.len(), 1, "of equal requests one counts, also when they come together");
    for answer in refusals {
        assert!(refused(answer, 401, "AuthenticationFailed").contains("already used"));
    }
    goes_on(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_with_every_odd_character_are_refused_by_name() {
    let system = prepared("hostile-ids").await;
    let get = async |path: String| call_as(&system, "admin", "GET", &path, &[], None).await;
    for byte in 0..=255_u8 {
        let good = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let escaped = format!("x%{byte:02X}y");
        let (of_group, of_hook) = (good, good || byte == b'/');
        for (path, good) in
            [(format!("/hooks/{escaped}/h"), of_group), (format!("/hooks/g/{escaped}"), of_hook)]
        {
            let answer = get(path.clone()).await;
            let (status, code) =
                if good { (404, "ResourceNotFound") } else { (400, "InvalidRequestArguments") };
            let body = answer.json();
            assert_eq!(
                (answer.status.as_u16(), body["code"].as_str()),
                (status, Some(code)),
                "{path}: {body}"
            );
        }
    }
    let long = |length: usize| "x".repeat(length);
    refused(&get(format!("/hooks/g/{}", long(1_000))).await, 404, "ResourceNotFound");
    for path in [
        format!("/hooks/g/{}", long(1_001)),
        format!("/hooks/{}/h", long(1_001)),
        format!("/hooks/g/{}", "%C3%A4".repeat(100)),
    ] {
        refused(&get(path).await, 400, "InvalidRequestArguments");
    }
    for path in ["/hooks/g/h/nothing", "/hooks/g/h/i/j/k", "/nothing", "/hooks//h", "/hooks/..%2F..%2Fping"] {
        let answer = get(path.into()).await;
        assert!([400, 404].contains(&answer.status.as_u16()) && answer.json()["code"].is_string(), "{path}");
    }
    // A scope is not had by naming a hook cleverly.
    let clever = call_as(&system, "reader", "GET", "/hooks/ci/*", &[], None).await;
    refused(&clever, 400, "InvalidRequestArguments");
    refused(&call_as(&system, "reader", "GET", "/hooks/c/x", &[], None).await, 403, "InsufficientScopes");
    goes_on(&system).await;
}
