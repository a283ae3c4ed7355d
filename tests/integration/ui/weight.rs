//! Pages stay light and quick with many hooks; the figures are printed.

use std::time::Instant;

use super::super::system::hook;
use super::access::Forms;
use super::deployment::{call, deployment};

/// What a page may weigh with stylesheet and script, in bytes.
const MOST: usize = 150 << 10;

const HOOKS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_light_with_a_thousand_hooks() {
    let system = deployment("ui-weight").await;
    let definition = hook(&[]);
    for start in (0..HOOKS).step_by(50) {
        let made = (start..start + 50).map(|number| {
            let (system, definition) = (&system, &definition);
            async move {
                call(system, "PUT", &format!("/hooks/many/hook-number-{number:04}"), Some(definition))
                    .await
                    .status
            }
        });
        assert!(futures_util::future::join_all(made).await.iter().all(|status| *status == 200));
    }
    let mut forms = Forms::new(&system);
    forms.sign_in("admin").await;
    let mut shared = 0;
    let (_, page) = forms.get("/hooks/many").await;
    assert!(page.contains("hook-number-0000") && page.contains("1–100 of 1000"), "{page}");
    for asset in ["/static/style.css", "/static/script.js", "/static/icon.svg"] {
        shared += forms.get(asset).await.1.len();
    }
    for path in [
        "/",
        "/hooks",
        "/hooks/many",
        "/hooks/many/hook-number-0500",
        "/hooks/many/hook-number-0500/edit",
        "/hooks?q=5",
        "/new",
    ] {
        let started = Instant::now();
        let (status, page) = forms.get(path).await;
        let took = started.elapsed();
        assert_eq!(status, 200, "{path}");
        let weight = page.len() + shared;
        println!(
            "{path}: {weight} bytes with stylesheet and script, {:.1} ms ({HOOKS} hooks)",
            took.as_secs_f64() * 1e3
        );
        assert!(weight < MOST, "{path} weighs {weight}");
    }
    // The hook that is shown is in the list beside it, wherever it stands.
    let (_, page) = forms.get("/hooks/many/hook-number-0500").await;
    assert!(page.contains("aria-current=\"page\"><span class=\"dot"), "{page}");
}
