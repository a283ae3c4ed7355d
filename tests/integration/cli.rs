//! The command line against a running server: declarative sync, triggers by hand, what is on record.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::local::Dev;
use super::system::hook;

fn write(folder: &Path, number: usize, change: &str) {
    let mut document = hook(&[]);
    document["hookGroupId"] = json!("many");
    document["hookId"] = json!(format!("hook-{number:04}"));
    document["metadata"]["description"] = json!(change);
    let file = folder.join(format!("group-{}", number % 7)).join(format!("{number}.json"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, document.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_applied_and_the_second_time_nothing_changes() {
    const HOOKS: usize = 1_000;
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    for number in 0..HOOKS {
        write(folder.path(), number, "first");
    }
    let (code, text) = dev.run(&["apply", &path, "--dry-run"]);
    assert!(code == 2 && text.contains("1000 to be created"), "{code} {text}");
    let (code, text) = dev.run(&["apply", &path]);
    assert!(code == 0 && text.contains("+ many/hook-0000") && text.contains("1000 created"), "{code} {text}");

    let started = Instant::now();
    let (code, text) = dev.run(&["apply", &path]);
    assert!(code == 0, "{text}");
    assert_eq!(text.trim(), "0 created, 0 updated, 0 deleted, 1000 unchanged");
    // Two seconds is what is promised of a release build on a machine of its own.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    write(folder.path(), 7, "second");
    std::fs::remove_file(folder.path().join("group-1/8.json")).unwrap();
    let (code, text) = dev.run(&["apply", &path, "--prune", "--dry-run"]);
    assert_eq!(code, 2, "{text}");
    for line in [
        "~ many/hook-0007",
        "    metadata.description",
        "    - \"first\"",
        "    + \"second\"",
        "- many/hook-0008",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let (code, text) = dev.run(&["apply", &path, "--prune", "--output", "json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((code, &summary["updated"], &summary["deleted"]), (0, &json!(1), &json!(1)), "{text}");
    let (code, text) = dev.run(&["hook", "show", "many/hook-0008"]);
    assert!(code == 1 && text.contains("no hook many/hook-0008"), "{text}");
    // Other groups are not touched.
    assert!(dev.run(&["hook", "list"]).1.contains("proj-demo/on-webhook"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_faults_change_nothing_and_each_fault_has_its_place() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 1, "good");
    let bad = "hookGroupId: many\nhookId: bad\nmetadata: {name: bad, description: of the test, owner: o@example.com}\nfilter: payload.ref ==\ntask:\n  payload: '{{ x'\n";
    std::fs::write(folder.path().join("bad.yml"), bad).unwrap();
    let (code, text) = dev.run(&["apply", &folder.path().display().to_string()]);
    assert!(code == 1 && text.contains("nothing was changed"), "{text}");
    assert!(text.contains("bad.yml:4: filter") && text.contains("bad.yml:6: task.payload"), "{text}");
    assert!(!dev.run(&["hook", "list"]).1.contains("many/"), "{text}");
    std::fs::write(folder.path().join("bad.yml"), "metadata: [").unwrap();
    let (code, text) = dev.run(&["apply", &folder.path().display().to_string()]);
    assert!(code == 1 && text.contains("bad.yml: line"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_triggered_by_hand_and_its_record_read() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hook.json");
    let mut document = hook(&[]);
    document["filter"] = json!("payload.go");
    std::fs::write(&file, document.to_string()).unwrap();
    let (code, text) = dev.run(&["hook", "create", &file.display().to_string(), "--name", "ci/by/hand"]);
    assert!(code == 0 && text.contains("created ci/by/hand"), "{text}");

    let (code, id) = dev.run(&["hook", "trigger", "ci/by/hand", "--payload", "{go: true}"]);
    assert!(code == 0 && id.trim().len() == 22, "{id}");
    let (_, text) = dev.run(&["hook", "trigger", "ci/by/hand", "--payload", "{\"go\": false}"]);
    assert!(text.contains("declined"), "{text}");
    let (code, text) = dev.run(&["hook", "trigger", "ci/by/hand", "--payload", "[1]"]);
    assert!(code == 1 && text.contains("must be of type object"), "{text}");

    let (_, fires) = dev.run(&["hook", "fires", "ci/by/hand"]);
    assert!(
        fires.lines().count() == 1 && fires.contains(id.trim()) && fires.contains("triggerHook"),
        "{fires}"
    );
    let (_, decisions) = dev.run(&["hook", "decisions", "ci/by/hand"]);
    assert!(decisions.contains("filtered") && decisions.contains("payload.go"), "{decisions}");
    let (_, audit) = dev.run(&["hook", "audit", "ci/by/hand"]);
    assert!(audit.contains("somebody\tcreate-hook") && audit.contains("trigger-hook"), "{audit}");
    let (_, yaml) = dev.run(&["hook", "fires", "ci/by/hand", "--output", "yaml"]);
    assert!(yaml.starts_with("---") && yaml.contains(&format!("taskId: {}", id.trim())), "{yaml}");

    let token = dev.run(&["hook", "token", "ci/by/hand"]).1;
    assert_eq!(token, dev.run(&["hook", "token", "ci/by/hand"]).1);
    assert_ne!(token, dev.run(&["hook", "reset-token", "ci/by/hand"]).1);
    let (code, script) = dev.run(&["completions", "bash"]);
    assert!(code == 0 && script.contains("reset-token"));
}
