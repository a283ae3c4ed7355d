//! The guides of the README, tried as written: its configuration is loaded, its commands are run against a bridge.

use std::path::Path;

use bridge::{Bridge, Config};
use serde_json::json;

use crate::support::{Broker, DEADLINE, eventually};

const README: &str = include_str!("../../README.md");

/// The code blocks of a language (empty: of none), without their indentation.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let body: Vec<&str> = lines
            .by_ref()
            .take_while(|line| line.trim() != "```")
            .map(|line| line.get(indent..).unwrap_or_default())
            .collect();
        if found == language {
            blocks.push(body.join("\n"));
        }
    }
    blocks
}

fn block(language: &str, word: &str) -> String {
    blocks(language)
        .into_iter()
        .find(|block| block.contains(word))
        .unwrap_or_else(|| panic!("no block with {word}"))
}

/// The README's configuration with every file below `folder`.
fn configuration(folder: &Path, word: &str) -> Config {
    let text = block("toml", word).replace("/etc/pulsehook", folder.to_str().unwrap());
    let value: toml::Table = toml::from_str(&text).unwrap();
    let mut config: Config = value["bridge"].clone().try_into().unwrap();
    config.spool.path = folder.join("spool.db");
    config.clock.enabled = false;
    config
}

#[test]
fn every_piece_of_configuration_loads() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["github", "hg", "nagios"] {
        std::fs::write(folder.path().join(format!("{name}.secret")), "a secret\n").unwrap();
    }
    let mut sources = 0;
    for text in blocks("toml") {
        let text = text
            .replace("/etc/pulsehook", folder.path().to_str().unwrap())
            .replace("env:GITHUB_WEBHOOK_SECRET", "a secret");
        let value: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let config: Config =
            value["bridge"].clone().try_into().unwrap_or_else(|error| panic!("{text}: {error}"));
        sources += bridge::check(&config, None).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).len();
    }
    assert_eq!(sources, 4);
    // The defaults that the README tells are the defaults.
    let limits: toml::Table = toml::from_str(&block("toml", "[bridge.limits]")).unwrap();
    let told: Config = limits["bridge"].clone().try_into().unwrap();
    assert_eq!(told.limits, Config::default().limits);
}

#[test]
fn every_provider_is_listed() {
    for name in bridge::provider::load(None).unwrap().keys() {
        assert!(README.contains(name.as_str()), "{name} is not in the README");
    }
}

/// Runs a shell command of the README against a bridge on a real socket and returns what was published.
async fn run(config: Config, folder: &Path, command: String, environment: &[(&str, &str)]) -> pulse::Message {
    let broker = Broker::new();
    let bridge = Bridge::new(&config, "pulsehook", broker.clone()).unwrap();
    bridge.start().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, bridge.routes()).into_future());
    let command = command
        .replace("https://bridge.example.com", &format!("http://{address}"))
        .replace("/etc/pulsehook", folder.to_str().unwrap());
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(&command).env("PATH", path).envs(environment.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, shell.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    let message = eventually("the message", async || broker.messages().pop()).await;
    bridge.stop().await;
    server.abort();
    message
}

fn secret(folder: &Path, name: &str) {
    std::fs::write(folder.join(format!("{name}.secret")), "sesame\n").unwrap();
    std::fs::write(folder.join(format!("{name}.header")), "Authorization: Bearer sesame\n").unwrap();
}

#[tokio::test]
async fn a_push_to_mercurial_becomes_its_message() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    secret(folder.path(), "hg");
    // Mercurial itself is not needed to know that the script sends what it gets from it.
    let hg = folder.path().join("hg");
    std::fs::write(
        &hg,
        "#!/bin/sh\ncase $1 in root) echo /srv/hg/my-repository;; log) echo '[{\"node\":\"abc\"}]';; esac\n",
    )
    .unwrap();
    std::fs::set_permissions(&hg, std::fs::Permissions::from_mode(0o755)).unwrap();
    let environment = [("HG_NODE", "abc"), ("HG_NODE_LAST", "def")];
    let config = configuration(folder.path(), "name = \"hg\"");
    let message = run(config, folder.path(), block("sh", "hg log"), &environment).await;
    assert_eq!(message.routing_key, "hg.push.my-repository");
    assert_eq!(message.properties.headers["x-pulsehook-delivery"], "def");
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(body, json!({"repository": "my-repository", "changesets": [{"node": "abc"}]}));
}

#[tokio::test]
async fn an_alert_of_nagios_becomes_its_message() {
    let folder = tempfile::tempdir().unwrap();
    secret(folder.path(), "nagios");
    let definition = block("", "define command");
    let line = definition.lines().find_map(|line| line.trim().strip_prefix("command_line")).unwrap();
    let mut command = line.trim().to_owned();
    for (name, value) in [
        ("$NOTIFICATIONTYPE$", "PROBLEM"),
        ("$HOSTNAME$", "web1.example.com"),
        ("$SERVICEDESC$", "HTTP"),
        ("$SERVICESTATE$", "CRITICAL"),
        ("$SERVICEOUTPUT$", "no answer & no hope"),
    ] {
        assert!(command.contains(name), "{name}");
        command = command.replace(name, value);
    }
    let mut config = configuration(folder.path(), "name = \"nagios\"");
    config.source[0].coalesce.as_mut().unwrap().window_seconds = 1;
    let message = run(config, folder.path(), command, &[]).await;
    assert_eq!(message.routing_key, "nagios.PROBLEM.web1%2Eexample%2Ecom.HTTP");
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!((&body["state"], &body["output"]), (&json!("CRITICAL"), &json!("no answer & no hope")));
    assert_eq!(message.properties.headers["x-pulsehook-count"], 1);
}
