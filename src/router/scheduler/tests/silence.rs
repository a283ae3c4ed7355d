//! A router without any bridge: no tick comes, and the log says what to do.

use super::*;

/// What is logged, as the operator reads it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn wait_for(log: &Log, text: &str) {
    // The clock of the runtime is paused: waiting costs no time.
    for _ in 0..1_000 {
        if log.text().contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("not logged: {text}; {}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_router_that_hears_no_ticks_says_so_while_hooks_have_schedules() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let world = World::new("2026-11-22T10:00:30Z").await;
    let running = tokio::spawn(world.scheduler().clone().run());

    tokio::time::sleep(2 * SILENCE).await;
    assert!(!log.text().contains("no tick"));
    world.create("g/h", &["0 * * * *"], "latest").await;
    wait_for(&log, "no tick of the clock has come, so no schedule fires: run a bridge").await;

    let tick = pulse::Message {
        exchange: "exchange/pulsehook/v1/clock".into(),
        routing_key: "time.2026.11.22.sun.10.05".into(),
        body: bytes::Bytes::from_static(b"{\"time\": \"2026-11-22T10:15:00Z\"}"),
        ..Default::default()
    };
    assert!(world.transport().publish(&tick, true).await.unwrap().routed);
    wait_for(&log, "the clock ticks again").await;
    wait_for(&log, "the clock of a bridge is ahead").await;
    running.abort();
}
