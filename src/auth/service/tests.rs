//! Connections: TLS with a certificate that is trusted and with one that is not, limits, and reuse.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn limits() -> Limits {
    Limits {
        call: Duration::from_secs(5),
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(60),
        concurrency: 4,
    }
}

/// A CA, and a certificate of it for `localhost` with its key.
fn certificates() -> (CertificateDer<'static>, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    (ca_certificate.der().clone(), certificate.der().clone(), key)
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn https_is_for_those_whose_certificate_is_trusted() {
    let (ca, certificate, key) = certificates();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate breaks off here.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(ANSWER).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    let call = async |host: &str, roots| {
        let service = Service::trusting(&format!("https://{host}:{port}"), limits(), Some(roots)).unwrap();
        service.call(Method::GET, "/".into(), HeaderMap::new(), Bytes::new(), 10).await
    };
    let mut trusting = RootCertStore::empty();
    trusting.add(ca).unwrap();
    assert_eq!(call("localhost", trusting.clone()).await.unwrap().body, "ok");
    for (host, roots) in [("localhost", RootCertStore::empty()), ("127.0.0.1", trusting)] {
        let error = call(host, roots).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn calls_are_bounded_in_number_time_and_size_and_share_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(length) = stream.read(&mut request).await {
                    if length == 0 {
                        break;
                    }
                    // Silence for whoever asks for it.
                    if !request[..length].starts_with(b"GET /silence") {
                        stream.write_all(ANSWER).await.unwrap();
                    }
                }
            });
        }
    });
    let short = Limits { call: Duration::from_millis(200), ..limits() };
    let service = Arc::new(Service::new(&format!("http://{address}"), short).unwrap());
    let call = async |path: &str, max| {
        service.call(Method::GET, path.to_owned(), HeaderMap::new(), Bytes::new(), max).await
    };
    assert!(matches!(call("/silence", 10).await, Err(CallError::TimedOut(_))));
    assert!(matches!(call("/", 1).await, Err(CallError::TooLong(1))));
    let before = connections.load(Ordering::SeqCst);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                service.call(Method::GET, "/".into(), HeaderMap::new(), Bytes::new(), 10).await.unwrap();
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(connections.load(Ordering::SeqCst) - before <= 4, "a hundred calls, four connections at a time");
}

/// A server that answers each request on a connection, and then does as told.
async fn server(
    after: impl Fn(usize) -> bool + Send + 'static,
) -> (String, tokio::sync::mpsc::UnboundedReceiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (news, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let closes = after(number);
            let news = news.clone();
            let _ = news.send("opened");
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    stream.write_all(ANSWER).await.unwrap();
                    if closes {
                        break;
                    }
                }
                drop(stream);
                let _ = news.send("closed");
            });
        }
    });
    (url, told)
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_costs_nothing() {
    let (url, mut told) = server(|number| number < 3).await;
    let service = Service::new(&url, limits()).unwrap();
    for _ in 0..3 {
        service.call(Method::PUT, "/".into(), HeaderMap::new(), "x".into(), 10).await.unwrap();
        assert_eq!(told.recv().await, Some("opened"));
        assert_eq!(told.recv().await, Some("closed"));
    }
    for _ in 0..3 {
        service.call(Method::PUT, "/".into(), HeaderMap::new(), "x".into(), 10).await.unwrap();
    }
    assert_eq!(told.recv().await, Some("opened"));
    assert!(told.try_recv().is_err(), "the last one serves them all");
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed() {
    let (url, mut told) = server(|_| false).await;
    let limits = Limits { idle: Duration::from_millis(50), ..limits() };
    let service = Service::new(&url, limits).unwrap();
    for _ in 0..2 {
        service.call(Method::GET, "/".into(), HeaderMap::new(), Bytes::new(), 10).await.unwrap();
        assert_eq!(told.recv().await, Some("opened"));
        assert_eq!(told.recv().await, Some("closed"));
    }
}
