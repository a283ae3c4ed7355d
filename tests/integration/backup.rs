//! Backup while the router works, and restore: as README.md tells it.

use std::path::Path;
use std::process::{Command, Output};

use super::system::{BINARY, SOON, System, hook, shared_rabbit};

fn store(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("store").args(arguments).arg("--config").arg(config).env("PULSEHOOK_LOG", "error");
    command.output().unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output, reason: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains(reason), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_the_router_works_is_whole_and_can_be_gone_back_to() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("backup").await.unwrap();
    let system = System::start(&rabbit.url("backup")).await;
    let config = system.folder().join("pulsehook.toml");
    let file = system.folder().join("backup.db").display().to_string();
    system.create_hook("ci/kept", &hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")])).await;
    for n in 0..20 {
        system.send_until_taken("push", &format!("before-{n}"), format!("{{\"n\": {n}}}").as_bytes()).await;
    }
    system.wait_for_tasks(20, SOON).await;
    // Messages go on coming while it is made.
    let (backup, ()) = tokio::join!(
        tokio::task::spawn_blocking({
            let (config, file) = (config.clone(), file.clone());
            move || store(&config, &["backup", &file])
        }),
        async {
            for n in 0..20 {
                let body = format!("{{\"n\": {n}}}");
                system.send_until_taken("push", &format!("during-{n}"), body.as_bytes()).await;
            }
        }
    );
    done(&backup.unwrap());
    assert!(done(&store(&config, &["check", &file])).contains("whole"));
    assert!(!system.folder().join("backup.db.part").exists());
    refused(&store(&config, &["backup", &file]), "exists");
    refused(&store(&config, &["restore", &file]), "a router has it open");
    system.wait_for_tasks(40, SOON).await;

    // A hook that came later, and then the store is lost.
    system.create_hook("ci/later", &hook(&[])).await;
    let mut router = system.router.lock().await;
    router.stop().await.unwrap();
    let path = system.folder().join("pulsehook.db");
    std::fs::write(&path, b"not a database").unwrap();
    let told = done(&store(&config, &["restore", &file]));
    assert!(told.contains(".before-"), "{told}");
    router.start().await.unwrap();
    drop(router);
    let hooks = system.http.get(&format!("{}/hooks/ci", system.api_url)).await.unwrap().json();
    let names: Vec<&str> =
        hooks["hooks"].as_array().unwrap().iter().map(|hook| hook["hookId"].as_str().unwrap()).collect();
    assert_eq!(names, ["kept"]);
    let fires =
        system.http.get(&format!("{}/hooks/ci/kept/last-fires", system.api_url)).await.unwrap().json();
    assert!(fires["lastFires"].as_array().unwrap().len() >= 20);
    system.send_until_taken("push", "after", b"{\"n\": \"after\"}").await;
    system.wait_for_tasks(41, SOON).await;

    refused(&store(&config, &["check", &config.display().to_string()]), "pulsehook.toml");
    std::fs::write(system.folder().join("half.db"), &std::fs::read(&file).unwrap()[..8192]).unwrap();
    let half = system.folder().join("half.db").display().to_string();
    assert!(!store(&config, &["check", &half]).status.success());
}
