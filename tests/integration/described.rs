//! The API is what its OpenAPI document says: schemathesis, unmodified, makes calls from the document and holds the answers to it.

use std::path::Path;
use std::process::Command;

use super::packages;
use super::system::{System, shared_rabbit};

/// For so many seconds it makes calls, unless the variable `SECONDS_VARIABLE` says otherwise.
const SECONDS: &str = "120";

const SECONDS_VARIABLE: &str = "PULSEHOOK_SCHEMATHESIS_SECONDS";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: tests/schemathesis/run"]
async fn schemathesis_finds_no_failure() {
    let python = packages::python("schemathesis", &["schemathesis==4.32.5"]);
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("described").await.unwrap();
    let system = System::start(&rabbit.url("described")).await;
    let seconds = std::env::var(SECONDS_VARIABLE).unwrap_or_else(|_| SECONDS.to_owned());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .arg("--config-file")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/schemathesis.toml"))
        .args(["--no-color", "run", "--max-time", &seconds])
        .arg(format!("{}/openapi.json", system.api_url))
        // It leaves files where it runs.
        .current_dir(folder);
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    let log = system.router.lock().await.lines().join("\n");
    assert!(status.success(), "schemathesis: {status} (its report is above)");
    for word in ["panicked", "does not satisfy its schema"] {
        assert!(!log.contains(word), "{log}");
    }
}
