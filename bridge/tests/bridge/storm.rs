//! Limits: one sender's storm is answered 429 and leaves the others alone; slow and large senders are cut off.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::Request;
use hyper::body::Frame;

use crate::support::{bridge, event, post, send};

const LIMITED: &str = r#"
    max_body_bytes = 8192
    read_timeout_seconds = 2
    trusted_proxies = ["10.0.0.0/8"]
    [limits]
    peer_per_second = 1
    peer_burst = 3
    source_per_second = 0
    body_memory_bytes = 8192
    [[source]]
    name = "loud"
    provider = "hmac"
    secrets = ["key for tests"]
    per_second = 1
    burst = 2
    [[source]]
    name = "quiet"
    provider = "hmac"
    secrets = ["key for tests"]
"#;

fn from(address: &str, forwarded: Option<&str>, mut request: Request<Body>) -> Request<Body> {
    let address: std::net::SocketAddr = format!("{address}:4711").parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(address));
    if let Some(forwarded) = forwarded {
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_peers_storm_is_its_own_and_addresses_are_believed_from_proxies_only() {
    let (bridge, _broker) = bridge(LIMITED);
    for number in 0..3 {
        let request = from("192.0.2.1", Some(&format!("203.0.113.{number}")), event("quiet", None, "{}"));
        assert_eq!(send(&bridge, request).await.status, 200);
    }
    let refused = send(&bridge, from("192.0.2.1", Some("203.0.113.9"), event("quiet", None, "{}"))).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "TooManyRequests"));
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    for number in 0..10 {
        let request = from("10.0.0.1", Some(&format!("203.0.113.{number}")), event("quiet", None, "{}"));
        assert_eq!(send(&bridge, request).await.status, 200, "behind a proxy each sender counts for itself");
    }
}

#[tokio::test]
async fn a_sources_storm_is_its_own_and_strangers_cannot_use_up_its_share() {
    let (bridge, broker) = bridge(LIMITED);
    for number in 0..50 {
        let request = post("/webhooks/loud", &[("x-hub-signature-256", "sha256=00")], "{}");
        let status = send(&bridge, from(&format!("192.0.2.{number}"), None, request)).await.status;
        assert_eq!(status, 403);
    }
    let mut statuses = Vec::new();
    for number in 0..4 {
        let request = event("loud", Some(&number.to_string()), "{}");
        statuses.push(send(&bridge, from(&format!("198.51.100.{number}"), None, request)).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(send(&bridge, from("198.51.100.9", None, event("quiet", None, "{}"))).await.status, 200);
    assert_eq!(broker.messages().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_is_too_slow_is_cut_off_and_gives_back_what_it_held() {
    let (bridge, _broker) = bridge(LIMITED);
    let body = Body::new(Endless(Some(Bytes::from(vec![b' '; 8000]))));
    let slow =
        from("192.0.2.1", None, post("/webhooks/quiet", &[("x-hub-signature-256", "sha256=00")], body));
    let slow = send(&bridge, slow);
    let quick = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        send(&bridge, from("192.0.2.2", None, event("quiet", None, "{}"))).await
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!((slow.status, slow.code().as_str()), (408, "RequestTooSlow"));
    assert_eq!((quick.status, quick.code().as_str()), (503, "Unavailable"), "the memory was taken");
    assert_eq!(send(&bridge, from("192.0.2.3", None, event("quiet", None, "{}"))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn one_address_that_stalls_cannot_fill_the_memory_for_bodies() {
    let (bridge, _broker) = bridge(
        &LIMITED
            .replace("body_memory_bytes = 8192", "body_memory_bytes = 65536")
            .replace("peer_burst = 3", "peer_burst = 99"),
    );
    let bridge = std::sync::Arc::new(bridge);
    let mut stalling = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let bridge = std::sync::Arc::clone(&bridge);
        stalling.spawn(async move {
            let body = Body::new(Endless(Some(Bytes::from(vec![b' '; 8000]))));
            let headers = [("x-hub-signature-256", "sha256=00")];
            send(&bridge, from("192.0.2.1", None, post("/webhooks/quiet", &headers, body))).await.status
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&bridge, from("192.0.2.2", None, event("quiet", None, "{}"))).await.status, 200);
    let statuses = stalling.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 408).count(), 2, "they had room: {statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 10, "{statuses:?}");
}

/// A body whose beginning comes at once and whose end never does.
struct Endless(Option<Bytes>);

impl axum::body::HttpBody for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.0.take() {
            Some(begin) => Poll::Ready(Some(Ok(Frame::data(begin)))),
            None => Poll::Pending,
        }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn what_a_few_bytes_expand_to_is_counted_before_it_is_there() {
    let options = "max_body_bytes = 1048576\n[limits]\nbody_memory_bytes = 1048576\n[[source]]\nname = \"ci\"\nprovider = \"hmac\"\nsecrets = [\"key for tests\"]\n";
    let plenty = options.replace("body_memory_bytes = 1048576", "body_memory_bytes = 8388608");
    let send_gzip = async |options: &str, plain: &[u8], signed: &[u8]| {
        let (bridge, _) = bridge(options);
        let signature = format!("sha256={}", crate::support::hmac_sha256("key for tests", signed));
        let headers = [("content-encoding", "gzip"), ("x-hub-signature-256", signature.as_str())];
        send(&bridge, post("/webhooks/ci", &headers, gzip(plain))).await.status
    };
    let large = [vec![b' '; 500_000], b"{}".to_vec()].concat();
    let small = [vec![b' '; 50_000], b"{}".to_vec()].concat();
    assert_eq!(send_gzip(&plenty, &large, &large).await, 200, "signed before it was compressed");
    assert_eq!(send_gzip(&plenty, &large, b"another").await, 403);
    assert_eq!(send_gzip(options, &large, b"another").await, 503, "there is no room for it");
    assert_eq!(send_gzip(options, &small, b"another").await, 403);
    assert_eq!(send_gzip(options, &small, &small).await, 200);
}

#[tokio::test]
async fn gzip_is_read_within_bounds_whichever_bytes_were_signed() {
    let (bridge, broker) = bridge(LIMITED);
    let send_gzip = async |address: &str, sent: Vec<u8>, signed: &[u8]| {
        let signature = format!("sha256={}", crate::support::hmac_sha256("key for tests", signed));
        let headers = [("content-encoding", "gzip"), ("x-hub-signature-256", signature.as_str())];
        send(&bridge, from(address, None, post("/webhooks/quiet", &headers, sent))).await
    };
    let compressed = gzip(b"{\"a\":1}");
    assert_eq!(send_gzip("192.0.2.1", compressed.clone(), &compressed).await.status, 200);
    assert_eq!(broker.messages()[0].body.as_ref(), b"{\"a\":1}");
    let other = gzip(b"{\"a\":2}");
    assert_eq!(send_gzip("192.0.2.2", other.clone(), b"{\"a\":2}").await.status, 200);
    assert_eq!(send_gzip("192.0.2.3", other, b"{\"a\":3}").await.status, 403);
    let bomb = gzip(&vec![b' '; 1 << 20]);
    assert_eq!(send_gzip("192.0.2.4", bomb.clone(), &bomb).await.status, 413);
    assert_eq!(broker.messages().len(), 2);
}
