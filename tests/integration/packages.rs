//! Packages of other people, unmodified, which pulsehook has to get along with: each set in a folder of its own below the
//! target folder, installed once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One test installs at a time: two may want the same set.
static INSTALLING: Mutex<()> = Mutex::new(());

fn run(program: impl AsRef<OsStr>, folder: &Path, arguments: &[&str]) {
    let done = Command::new(&program).args(arguments).current_dir(folder).output();
    let output = done.unwrap_or_else(|error| {
        panic!("{}: {error} (tests/run installs what the tests need)", program.as_ref().display())
    });
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The Python of a virtual environment with these packages from PyPI.
pub fn python(set: &str, packages: &[&str]) -> PathBuf {
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(set);
    let python = folder.join("bin/python");
    let wanted = packages.join(" ");
    // Written last: a set that was begun or that had other packages is installed anew.
    let ready = folder.join("ready");
    if std::fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    std::fs::create_dir_all(&folder).unwrap();
    run("python3", &folder, &["-m", "venv", "--clear", "."]);
    let mut install = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    install.extend(packages);
    run(&python, &folder, &install);
    std::fs::write(ready, wanted).unwrap();
    python
}

/// A folder with the script of `tests/tools/<set>` and the packages from npm that its lock file names.
pub fn node(set: &str, script: &str) -> PathBuf {
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(set);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(set);
    let lock = |folder: &Path| std::fs::read(folder.join("package-lock.json")).ok();
    // Written by npm as its last step.
    let installed = folder.join("node_modules/.package-lock.json").exists() && lock(&folder) == lock(&tool);
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json", script] {
        std::fs::copy(tool.join(file), folder.join(file)).unwrap();
    }
    if !installed {
        run("npm", &folder, &["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    }
    folder
}
