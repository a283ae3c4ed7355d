//! `pulsehook doctor`: everything well beside a running deployment, and each fault named with what to do.

use std::path::Path;
use std::process::Command;

use harness::free_port;
use serde_json::Value;

use super::mail::MailServer;
use super::system::{BINARY, System, shared_rabbit};

/// Runs it; answers whether it found everything well, and its findings.
fn doctor(config: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (bool, Vec<Value>) {
    let mut command = Command::new(BINARY);
    command.arg("doctor").arg("--config").arg(config).args(["--output", "json"]).args(arguments);
    command.envs(variables.iter().copied()).env("PULSEHOOK_LOG", "error");
    let output = command.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(told["ok"], output.status.success());
    (output.status.success(), told["findings"].as_array().unwrap().clone())
}

fn finding<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {findings:#?}"))
}

/// The check failed, and says what to do.
fn failed(findings: &[Value], check: &str, advice: &str) {
    let finding = finding(findings, check);
    assert_eq!(finding["outcome"], "failed", "{finding}");
    assert!(finding["advice"].as_str().is_some_and(|text| text.contains(advice)), "{finding}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_deployment_is_well_and_each_fault_is_named_with_what_to_do() {
    let mut server = MailServer::new("starttls");
    server.process.start().await.unwrap();
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("doctor").await.unwrap();
    let password = ("TEST_MAIL_PASSWORD", "a password for the mail server");
    let config = server.config("smtp", 3600, "");
    let system = System::start_configured(&rabbit.url("doctor"), &config, &[password]).await;
    let file = system.folder().join("pulsehook.toml");

    let (well, findings) = doctor(&file, &[password], &[]);
    assert!(well, "{findings:#?}");
    for check in [
        "configuration",
        "webhook sources",
        "broker connection",
        "broker permissions",
        "spool",
        "store",
        "queue service",
        "clock",
        "credentials",
        "mail",
    ] {
        assert_eq!(finding(&findings, check)["outcome"], "ok", "{}", finding(&findings, check));
    }
    assert!(finding(&findings, "store")["found"].as_str().unwrap().contains("a router has it open"));

    // One after the other, everything is taken away or wrong.
    let port = free_port().unwrap().to_string();
    let nowhere = format!("http://127.0.0.1:{port}");
    let broker = format!("amqp://guest:hunter2@{}/doctor", rabbit.address());
    let mail = format!("smtp://localhost:{port}");
    let missing = system.folder().join("nowhere/pulsehook.db").display().to_string();
    for (variable, check, advice) in [
        (("PULSEHOOK_PULSE__URL", broker.as_str()), "broker connection", "check pulse.url"),
        (("PULSEHOOK_QUEUE__ROOT_URL", nowhere.as_str()), "queue service", "check queue.root_url"),
        (("PULSEHOOK_QUEUE__ACCESS_TOKEN", "another token"), "credentials", "queue.access_token"),
        (("PULSEHOOK_NOTIFY__SMTP", mail.as_str()), "mail", "host, port"),
        (("TEST_MAIL_PASSWORD", "wrong"), "mail", "password"),
        (("PULSEHOOK_STORE__PATH", missing.as_str()), "store", "make the folder"),
        (("PULSEHOOK_BRIDGE__SPOOL__PATH", missing.as_str()), "spool", "make the folder"),
        (("PULSEHOOK_KEYS__TASK_ID", "short"), "configuration", "explains every option"),
    ] {
        let (well, findings) = doctor(&file, &[password, variable], &[]);
        assert!(!well, "{variable:?}");
        failed(&findings, check, advice);
        let failures = findings.iter().filter(|finding| finding["outcome"] == "failed").count();
        assert_eq!(failures, 1, "{variable:?}: {findings:#?}");
        assert!(!format!("{findings:?}").contains("hunter2"), "the password is shown");
    }

    // A user of the broker that may not configure its names.
    rabbit.ctl(&["add_user", "weak", "weak"]).await.unwrap();
    rabbit.ctl(&["set_permissions", "-p", "doctor", "weak", "^$", ".*", ".*"]).await.unwrap();
    let weak = format!("amqp://weak:weak@{}/doctor", rabbit.address());
    let variables = [password, ("PULSEHOOK_PULSE__URL", weak.as_str())];
    let (well, findings) = doctor(&file, &variables, &["--role", "bridge"]);
    // A bridge works with the exchanges that there are.
    assert!(well && finding(&findings, "broker: declare")["outcome"] == "warning", "{findings:#?}");
    assert_eq!(finding(&findings, "broker permissions")["outcome"], "ok", "{findings:#?}");
    assert!(!findings.iter().any(|finding| finding["check"] == "store"), "that is the router's");
    let elsewhere = [password, variables[1], ("PULSEHOOK_PULSE__USER", "nobody")];
    let (_, findings) = doctor(&file, &elsewhere, &["--role", "bridge"]);
    failed(&findings, "broker: declare", "configure");
    let found = finding(&findings, "broker: declare")["found"].as_str().unwrap();
    assert!(found.contains("no exchange/nobody/v1/webhook and no exchange/nobody/v1/clock"), "{found}");

    // One that may do what a bridge does, and no more.
    rabbit.ctl(&["add_user", "narrow", "narrow"]).await.unwrap();
    let own = "^exchange/pulsehook/.*$";
    rabbit.ctl(&["set_permissions", "-p", "doctor", "narrow", own, own, "^$"]).await.unwrap();
    let narrow = format!("amqp://narrow:narrow@{}/doctor", rabbit.address());
    let variables = [password, ("PULSEHOOK_PULSE__URL", narrow.as_str())];
    let (_, findings) = doctor(&file, &variables, &["--role", "bridge"]);
    assert_eq!(finding(&findings, "broker permissions")["outcome"], "ok", "{findings:#?}");
    let (_, findings) = doctor(&file, &variables, &["--role", "router"]);
    failed(&findings, "broker: declare", "configure");
}
