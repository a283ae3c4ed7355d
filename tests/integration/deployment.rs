//! What is shipped for a deployment, checked as far as it can be without an engine: options that exist, commands that are
//! understood, units that systemd reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use pulsehook::config::Config;
use serde_json::Value;

use super::system::BINARY;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(path: &str) -> String {
    std::fs::read_to_string(root().join("config").join(path)).unwrap()
}

/// The command line is one that pulsehook takes: its subcommand and options exist.
fn understood(arguments: &[&str]) {
    let output = Command::new(BINARY).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Every variable is an option of the configuration, or one that the command line reads.
fn options(variables: &[(String, String)]) {
    const OTHERS: [&str; 2] = ["PULSEHOOK_LOG_FORMAT", "PULSEHOOK_COMMIT"];
    for (name, value) in variables {
        if name.starts_with("PULSEHOOK_") && !OTHERS.contains(&name.as_str()) {
            let option = name.contains("__") || name == "PULSEHOOK_TASK_ID_KEY";
            assert!(option, "{name} is no option");
            let loaded = Config::load(None, [(name.clone(), value.clone())]);
            assert!(loaded.is_ok(), "{name}: {}", loaded.unwrap_err());
        }
    }
}

#[test]
fn the_container_file_builds_the_binary_that_there_is_and_runs_it_as_nobody() {
    let text = shipped("container/Containerfile");
    let instructions: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let of = |name: &str| {
        instructions.iter().filter(|(word, _)| *word == name).map(|(_, rest)| *rest).collect::<Vec<_>>()
    };
    assert_eq!(of("FROM").len(), 2, "built in one image, run in another");
    assert!(of("RUN").iter().any(|run| run.contains("cargo build --profile dist --locked --bin pulsehook")));
    assert!(of("COPY").contains(&"--from=build /source/target/dist/pulsehook /usr/local/bin/pulsehook"));
    assert_eq!(of("ENTRYPOINT"), [r#"["/usr/local/bin/pulsehook"]"#]);
    assert_eq!(of("USER"), ["65532:65532"]);
    assert_eq!(Path::new(BINARY).file_name().unwrap(), "pulsehook");
    // The toolchain is one that the workspace takes.
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    assert!(manifest["profile"].get("dist").is_some(), "the profile that it builds");
    let wanted = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(of("FROM")[0].contains(&format!("rust:{wanted}-")), "{:?}", of("FROM"));
    let variables: Vec<(String, String)> = of("ENV")
        .iter()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    options(&variables);
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "target"), "the build's context would hold all of target/");
}

#[test]
fn the_compose_file_starts_commands_that_there_are_with_options_that_there_are() {
    let file: Value = serde_saphyr::from_str(&shipped("container/compose.yml")).unwrap();
    let services = file["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["bridge", "queue", "rabbitmq", "router"]);
    for (name, service) in services {
        assert!(service["restart"].is_string(), "{name}");
        for volume in service["volumes"].as_array().unwrap() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(file["volumes"].as_object().unwrap().contains_key(volume), "{name}: {volume}");
        }
        if name == "rabbitmq" {
            continue;
        }
        let build = &service["build"];
        let context = root().join("config/container").join(build["context"].as_str().unwrap());
        assert!(context.join(build["dockerfile"].as_str().unwrap()).exists(), "{build}");
        let command: Vec<&str> =
            service["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        understood(&command);
        let environment = service["environment"].as_object().unwrap();
        let variables: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        options(&variables);
        for config in service["configs"].as_array().into_iter().flatten() {
            let content = file["configs"][config["source"].as_str().unwrap()]["content"].as_str().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pulsehook.toml");
            std::fs::write(&path, content).unwrap();
            Config::load(Some(&path), variables.clone()).unwrap();
        }
        for (needed, _) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(needed), "{name} needs {needed}");
        }
    }
}

#[test]
fn systemd_reads_the_units_and_they_start_commands_that_there_are() {
    for unit in ["pulsehook-router.service", "pulsehook-bridge.service"] {
        let text = shipped(&format!("systemd/{unit}"));
        let values = |name: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{name}=")));
            lines.map(str::to_owned).collect()
        };
        let start = &values("ExecStart")[0];
        let words: Vec<&str> = start.split(' ').collect();
        assert_eq!(words[0], "/usr/local/bin/pulsehook", "{unit}");
        understood(&words[1..]);
        // The configuration of the comment is one: it writes where it may write, and reads the credentials that it gets.
        let shown = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let shown: Vec<&str> = shown.skip_while(|line| !line.starts_with('[')).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pulsehook.toml");
        std::fs::write(&path, shown.join("\n")).unwrap();
        Config::load(Some(&path), []).unwrap();
        let shown = shown.join(" ");
        assert!(shown.contains(&format!("path = \"/var/lib/{}/", values("StateDirectory")[0])), "{unit}");
        for credential in values("LoadCredential") {
            let (name, file) = credential.split_once(':').unwrap();
            assert!(file.starts_with("/etc/pulsehook/secrets/"), "{credential}");
            assert!(shown.contains(&format!("\"file:/run/credentials/{unit}/{name}\"")), "{unit}: {name}");
        }
        for hardening in ["NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n"] {
            assert!(text.contains(hardening), "{unit}: {hardening}");
        }
        verify(unit, &text);
    }
}

/// `systemd-analyze verify`, where there is one; with a binary that is there, as it looks for it.
fn verify(unit: &str, text: &str) {
    let Some(analyze) = ["/usr/bin", "/bin"]
        .map(|folder| PathBuf::from(folder).join("systemd-analyze"))
        .into_iter()
        .find(|path| path.exists())
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(unit);
    std::fs::write(&path, text.replace("/usr/local/bin/pulsehook", BINARY)).unwrap();
    let output = Command::new(analyze).args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let about: Vec<&str> = told.lines().filter(|line| line.contains(unit)).collect();
    assert!(about.is_empty(), "{unit}: {about:#?}");
}
