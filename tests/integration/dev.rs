//! `pulsehook dev`: a newcomer's first command.

use harness::{Http, Process, eventually};
use serde_json::Value;

use super::local::start_in;
use super::system::{BINARY, SOON};

/// The command that `dev` prints, run by a shell as a newcomer would paste it.
fn paste(process: &Process) -> Value {
    let lines = process.lines();
    let from =
        lines.iter().position(|line| line.trim_start().starts_with("curl ")).expect("a command is printed");
    let command: Vec<&str> =
        lines[from..].iter().take_while(|line| !line.trim().is_empty()).map(String::as_str).collect();
    let output = std::process::Command::new("bash").arg("-c").arg(command.join("\n")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn tasks(http: &Http, url: &str, count: usize) -> Vec<Value> {
    eventually(SOON, || async {
        let listed = http.get(&format!("{url}/api/queue/v1/tasks")).await.ok()?.json();
        let tasks = listed["tasks"].as_array()?.clone();
        (tasks.len() == count).then_some(tasks)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_command_makes_a_task_and_a_second_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let http = Http::default();
    let (mut process, url) = start_in(folder.path()).await;
    let answer = paste(&process);
    assert_eq!(answer["routed"], true, "{answer}");
    let first = tasks(&http, &url, 1).await;
    let id = first[0]["taskId"].as_str().unwrap();
    let task = http.get(&format!("{url}/api/queue/v1/task/{id}")).await.unwrap().json();
    assert!(task.to_string().contains("Hello world"), "the task shows values of the message: {task}");
    eventually(SOON, async || process.lines().iter().any(|line| line.contains(id)).then_some(())).await;
    let lines = process.lines();
    // The first tick has its exchange, and nothing is missed that cannot be here.
    for worry in ["ticks wait", "what becomes of tasks"] {
        assert!(!lines.iter().any(|line| line.contains(worry)), "{worry}: {lines:#?}");
    }
    process.stop().await.unwrap();

    let (mut process, url) = start_in(folder.path()).await;
    assert_eq!(paste(&process)["routed"], true);
    let both = tasks(&http, &url, 2).await;
    assert_eq!(both[0]["taskId"].as_str(), Some(id));
    process.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let http = Http::default();
    let (mut process, _) = start_in(folder.path()).await;
    for _ in 0..5 {
        assert_eq!(paste(&process)["routed"], true);
    }
    process.kill9().unwrap();
    let (mut process, url) = start_in(folder.path()).await;
    tasks(&http, &url, 5).await;
    process.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_open_to_this_machine_and_to_no_web_page() {
    let folder = tempfile::tempdir().unwrap();
    let http = Http::default();
    let (mut process, url) = start_in(folder.path()).await;
    let hooks = format!("{url}/api/hooks/v1/hooks");
    for headers in [&[("host", "evil.example")][..], &[("origin", "http://evil.example")]] {
        assert_eq!(http.call("GET", &hooks, headers, "").await.unwrap().status, 403, "{headers:?}");
    }
    let plain =
        http.call("PUT", &format!("{hooks}/a/b"), &[("content-type", "text/plain")], "{}").await.unwrap();
    assert_eq!(plain.status, 400);
    let answer = http.get(&hooks).await.unwrap();
    assert_eq!(answer.status, 200);
    let ask = [("origin", "http://evil.example"), ("access-control-request-method", "PUT")];
    let asked = http.call("OPTIONS", &format!("{hooks}/a/b"), &ask, "").await.unwrap();
    assert_eq!(asked.status, 403);
    for headers in [&answer.headers, &asked.headers] {
        assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{headers:?}");
    }
    process.stop().await.unwrap();

    let mut other = Process::new("dev", BINARY).arg("dev").arg("--listen").arg("0.0.0.0:0");
    let refused = other.start().await.unwrap_err().to_string();
    assert!(refused.contains("loopback"), "{refused}");

    // Nor does it take part in somebody's deployment.
    let mut other = Process::new("dev", BINARY)
        .arg("dev")
        .env("PULSEHOOK_PULSE__URL", "amqp://guest:guest@127.0.0.1:1/x");
    let refused = other.start().await.unwrap_err().to_string();
    assert!(refused.contains("pulse.url names a broker"), "{refused}");
}
