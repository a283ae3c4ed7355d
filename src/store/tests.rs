use super::*;

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&Config { path: dir.path().join("s.db") }, || panic!("nobody else holds the lock")).unwrap()
}

#[tokio::test]
async fn a_failing_job_takes_nothing_else_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let good = store.write(|w| meta::set(w.connection, "a", "1"));
    let bad = store.write(|w| {
        meta::set(w.connection, "b", "1")?;
        Err::<(), _>(StoreError::Sqlite("on purpose".into()))
    });
    let (good, bad) = tokio::join!(good, bad);
    good.unwrap();
    assert!(bad.is_err());
    let (a, b) = store.read(|c| Ok((meta::get(c, "a")?, meta::get(c, "b")?))).await.unwrap();
    assert_eq!((a.as_deref(), b), (Some("1"), None));
}

#[tokio::test]
async fn a_failing_job_that_can_be_repeated_takes_nothing_else_with_it_either() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let count = |w: &mut Writing<'_>, key| {
        let count = meta::get(w.connection, key)?.map_or(0, |count| count.parse::<i64>().unwrap_or(-1));
        meta::set(w.connection, key, &(count + 1).to_string())
    };
    // Together in one transaction: they are sent before the writer looks.
    for _ in 0..20 {
        let good = store.write_repeatable(move |w| count(w, "good"));
        let bad = store.write_repeatable(move |w| {
            count(w, "bad")?;
            Err::<(), _>(StoreError::Sqlite("on purpose".into()))
        });
        let once = store.write(move |w| count(w, "once"));
        let (good, bad, once) = tokio::join!(good, bad, once);
        assert!(good.is_ok() && bad.is_err() && once.is_ok());
    }
    let read = |key: &'static str| store.read(move |c| meta::get(c, key));
    assert_eq!(read("good").await.unwrap().as_deref(), Some("20"));
    assert_eq!(read("once").await.unwrap().as_deref(), Some("20"));
    assert_eq!(read("bad").await.unwrap(), None);
}

#[tokio::test]
async fn a_job_that_goes_along_is_committed_with_others_and_if_need_be_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let along = |patience, key| store.write_along(patience, move |w| meta::set(w.connection, key, "1"));
    let hour = Duration::from_secs(3600);
    let (one, other) = tokio::join!(along(hour, "with"), store.write(|w| meta::set(w.connection, "a", "1")));
    one.and(other).unwrap();
    along(Duration::from_millis(1), "alone").await.unwrap();
    let at_the_end = along(hour, "at the end");
    let close = async {
        tokio::task::spawn_blocking({
            let store = store.clone();
            move || store.close()
        })
        .await
    };
    let (last, closed) = tokio::join!(at_the_end, close);
    closed.unwrap();
    last.unwrap();
    assert!(matches!(along(hour, "too late").await, Err(StoreError::Closed)));
    for key in ["with", "alone", "at the end"] {
        assert_eq!(store.read(move |c| meta::get(c, key)).await.unwrap().as_deref(), Some("1"), "{key}");
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9999).unwrap();
    let error = Store::open(&Config { path }, || ()).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
}

#[test]
fn a_second_owner_waits_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir);
    let config = Config { path: dir.path().join("s.db") };
    let (waits, waiting) = std::sync::mpsc::channel();
    let second =
        std::thread::spawn(move || Store::open(&config, move || waits.send(()).unwrap()).map(|_| ()));
    waiting.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    first.close();
    drop(first);
    second.join().unwrap().unwrap();
}
