//! A router whose configuration names nobody: hooks fire, and its API is closed, on every address.

use harness::{Http, Process};

use super::system::{BINARY, hook, shared_rabbit};

#[tokio::test(flavor = "multi_thread")]
async fn without_auth_the_api_refuses_everybody_and_says_why() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("closed").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let http = Http::default();
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut router = Process::new("router", BINARY)
            .arg("router")
            .env("PULSEHOOK_PULSE__URL", rabbit.url("closed"))
            .env("PULSEHOOK_STORE__PATH", folder.path().join("pulsehook.db").display().to_string())
            .env("PULSEHOOK_QUEUE__ACCESS_TOKEN", "a token of at least some length")
            .env("PULSEHOOK_API__LISTEN", listen)
            .env("PULSEHOOK_KEYS__TASK_ID", "0123456789abcdef0123456789abcdef");
        let port = router.start().await.unwrap().port();
        let api = format!("http://127.0.0.1:{port}/api/hooks/v1");
        let signed = [("authorization", r#"Hawk id="root", ts="1", nonce="n", mac="AAAA""#)];
        for headers in [&[][..], &signed] {
            let refused = http.call("GET", &format!("{api}/hooks"), headers, "").await.unwrap();
            let body = refused.json();
            assert_eq!((refused.status.as_u16(), body["code"].as_str()), (401, Some("AuthenticationFailed")));
            assert!(body["message"].as_str().unwrap().contains("[auth]"), "{body}");
        }
        let create = http.json("PUT", &format!("{api}/hooks/ci/x"), &hook(&[])).await.unwrap();
        assert_eq!(create.status, 401, "{}", create.json());
        assert_eq!(http.get(&format!("{api}/ping")).await.unwrap().status, 200);
        assert!(router.lines().iter().any(|line| line.contains("[auth] names no client")));
        router.stop().await.unwrap();
    }
}
