//! Programs of others, written in Python: a mail server, Prometheus' parser. They are installed once, in an environment of
//! their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What is installed, by exact versions.
const PACKAGES: [&str; 2] = ["aiosmtpd==1.4.6", "prometheus-client==0.26.0"];

/// The Python of the environment.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let (python, ready) = (folder.join("bin/python"), folder.join("ready"));
        let wanted = PACKAGES.join(" ");
        if std::fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
            return python;
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES));
        std::fs::write(ready, wanted).unwrap();
        python
    })
}

/// A script of `tests/tools`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
