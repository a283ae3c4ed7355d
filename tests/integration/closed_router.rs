//! A router whose configuration names nobody: open to its own machine and to nothing else.

use harness::{Http, Process};

use super::system::{BINARY, hook, shared_rabbit};

#[tokio::test(flavor = "multi_thread")]
async fn without_auth_the_api_is_for_programs_of_this_machine() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("open").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let router = |listen: &str| {
        Process::new("router", BINARY)
            .arg("router")
            .env("PULSEHOOK_PULSE__URL", rabbit.url("open"))
            .env("PULSEHOOK_STORE__PATH", folder.path().join("pulsehook.db").display().to_string())
            .env("PULSEHOOK_QUEUE__ACCESS_TOKEN", "a token of at least some length")
            .env("PULSEHOOK_API__LISTEN", listen)
            .env("PULSEHOOK_KEYS__TASK_ID", "0123456789abcdef0123456789abcdef")
    };
    let http = Http::default();
    let definition = hook(&[]);
    let mut local = router("127.0.0.1:0");
    let url = format!("http://{}/api/hooks/v1/hooks/ci/open", local.start().await.unwrap());
    assert_eq!(http.json("PUT", &url, &definition).await.unwrap().status, 200);
    for headers in [&[("host", "evil.example")][..], &[("origin", "http://evil.example")]] {
        assert_eq!(http.call("GET", &url, headers, "").await.unwrap().status, 403, "{headers:?}");
    }
    let answer = http.get(&url).await.unwrap();
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    local.stop().await.unwrap();

    let mut wide = router("0.0.0.0:0");
    let port = wide.start().await.unwrap().port();
    let url = format!("http://127.0.0.1:{port}/api/hooks/v1/hooks/ci/open");
    assert!([401, 403].contains(&http.get(&url).await.unwrap().status.as_u16()));
    wide.stop().await.unwrap();
}
