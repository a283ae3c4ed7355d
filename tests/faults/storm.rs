//! The storm: all faults, in lanes side by side, and the table at the end.

use harness::Rabbit;
use tokio::sync::Semaphore;

use super::account::{self, Row};
use super::lane::is_long;
use super::{answers, connections, crash_points, processes};

/// Lanes of the long run that run at a time. With more the processors would be the fault.
const LONG_LANES: usize = 2;

/// A lane runs where `PULSEHOOK_FAULTS_LANE` names it or is not set.
async fn lane(
    name: &str,
    turns: &Semaphore,
    run: impl Future<Output = anyhow::Result<Vec<Row>>>,
) -> anyhow::Result<Vec<Row>> {
    match std::env::var("PULSEHOOK_FAULTS_LANE") {
        Ok(wanted) if wanted != name => Ok(Vec::new()),
        _ => {
            let _turn = turns.acquire().await?;
            run.await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_becomes_one_task_or_one_reason_on_record() {
    if let Ok(level) = std::env::var("PULSEHOOK_LOG") {
        tracing_subscriber::fmt().with_env_filter(level).init();
    }
    let rabbit = Rabbit::start().await.unwrap();
    for vhost in ["roles", "connections", "answers", "crashes"] {
        rabbit.add_vhost(vhost).await.unwrap();
    }
    let turns = Semaphore::new(if is_long() { LONG_LANES } else { Semaphore::MAX_PERMITS });
    let lanes = tokio::join!(
        lane("roles", &turns, processes::roles(&rabbit, "roles")),
        lane("broker", &turns, processes::broker()),
        lane("connections", &turns, connections::all(&rabbit, "connections")),
        lane("answers", &turns, answers::all(&rabbit, "answers")),
        lane("crashes", &turns, crash_points::all(&rabbit, "crashes")),
    );
    let lanes: [anyhow::Result<Vec<Row>>; 5] = [lanes.0, lanes.1, lanes.2, lanes.3, lanes.4];
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for lane in lanes {
        match lane {
            Ok(lane) => rows.extend(lane),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    let table = account::table(&rows);
    println!("{table}");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.txt");
    std::fs::write(&path, &table).unwrap();
    println!("written to {}", path.display());
    for row in rows {
        if !row.lost.is_empty() || !row.doubled.is_empty() {
            failures.push(format!("{}: lost {:?}, doubled {:?}", row.fault, row.lost, row.doubled));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
