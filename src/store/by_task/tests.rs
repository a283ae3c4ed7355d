use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::store::{Config, NewFire, Recorded, Store, StoreError, schema};

fn connect(path: &std::path::Path) -> Connection {
    let mut connection = Connection::open(path).unwrap();
    schema::prepare(&mut connection, path).unwrap();
    // Nothing is cut off here, and these tests commit much.
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection
}

fn insert(connection: &Connection, fire: i64, incarnation: i64, task_id: &str) {
    connection
        .execute(
            "INSERT INTO fire (id, incarnation, task_id, occurrence, version, fired_by, exchange, routing_key, fired_at, epoch, state)
             VALUES (?1, ?2, ?3, 0, 1, 'pulseMessage', 'e', 'k', 0, 1, 1)",
            params![fire, incarnation, task_id],
        )
        .unwrap();
}

/// What a transaction does.
#[derive(Debug, Clone)]
enum Act {
    /// Adds so many fires.
    Add(usize),
    /// Adds so many and undoes them.
    AddInVain(usize),
    /// Removes the fire at this place among those that are there.
    Remove(usize),
}

#[derive(Debug, Clone)]
enum Turn {
    Commit(Vec<Act>),
    RollBack(Vec<Act>),
    /// The process ends, and another begins.
    Reopen,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let act = prop_oneof![
        4 => (1_usize..6).prop_map(Act::Add),
        1 => (1_usize..4).prop_map(Act::AddInVain),
        2 => any::<usize>().prop_map(Act::Remove),
    ];
    let acts = prop::collection::vec(act, 1..4);
    let turn = prop_oneof![
        8 => acts.clone().prop_map(Turn::Commit),
        2 => acts.prop_map(Turn::RollBack),
        1 => Just(Turn::Reopen),
    ];
    prop::collection::vec(turn, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_fire_is_found_by_its_task_and_no_other(turns in turns(), generation in 1_usize..20) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let mut connection = connect(&path);
        let mut by_task = ByTask::open_with(&mut connection, generation).unwrap();
        let mut standing: BTreeMap<String, i64> = BTreeMap::new();
        let mut made = 0;
        for turn in turns {
            let (acts, commits) = match turn {
                Turn::Commit(acts) => (acts, true),
                Turn::RollBack(acts) => (acts, false),
                Turn::Reopen => {
                    by_task = ByTask::open_with(&mut connection, generation).unwrap();
                    continue;
                }
            };
            let before = standing.clone();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for act in acts {
                let (count, in_vain) = match act {
                    Act::Add(count) => (count, false),
                    Act::AddInVain(count) => (count, true),
                    Act::Remove(place) => {
                        if let Some((task_id, fire)) = standing.iter().nth(place % standing.len().max(1)) {
                            let (task_id, fire) = (task_id.clone(), *fire);
                            connection.execute("DELETE FROM fire WHERE id = ?1", [fire]).unwrap();
                            by_task.remove(&connection, &task_id, fire).unwrap();
                            standing.remove(&task_id);
                        }
                        continue;
                    }
                };
                let savepoint = by_task.savepoint();
                connection.execute_batch("SAVEPOINT job").unwrap();
                for _ in 0..count {
                    made += 1;
                    let (fire, task_id) = (by_task.next_fire(), format!("task {made}"));
                    insert(&connection, fire, 7, &task_id);
                    by_task.add(&task_id, fire);
                    prop_assert_eq!(by_task.fire_of(&connection, 7, &task_id).unwrap(), Some(fire));
                    if !in_vain {
                        standing.insert(task_id, fire);
                    }
                }
                if in_vain {
                    connection.execute_batch("ROLLBACK TO job").unwrap();
                    by_task.roll_back_to(savepoint);
                }
                connection.execute_batch("RELEASE job").unwrap();
            }
            by_task.before_commit(&connection).unwrap();
            if commits {
                connection.execute_batch("COMMIT").unwrap();
                by_task.committed();
            } else {
                connection.execute_batch("ROLLBACK").unwrap();
                by_task.roll_back_to(0);
                standing = before;
            }
            for task in 1..=made {
                let task_id = format!("task {task}");
                let expected: Vec<_> = standing.get(&task_id).map(|fire| (*fire, 7)).into_iter().collect();
                prop_assert_eq!(by_task.fires(&connection, &task_id).unwrap(), expected, "{}", task_id);
            }
            let recent = by_task.lock();
            let waiting = recent.young.len() + recent.entering.sorted.len() - recent.entering.done;
            prop_assert!(waiting < 4 * generation + 40, "{waiting} of generations of {generation}");
        }
        // Entered is what stands, and each once.
        by_task = ByTask::open_with(&mut connection, 1).unwrap();
        prop_assert_eq!(by_task.lock().young.len(), 0);
        let mut statement = connection.prepare("SELECT fire FROM fire_by_task ORDER BY fire").unwrap();
        let entered: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut fires: Vec<i64> = standing.into_values().collect();
        fires.sort_unstable();
        prop_assert_eq!(entered, fires);
    }
}

#[test]
fn one_task_may_be_of_several_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(&folder.path().join("s.db"));
    insert(&connection, 1, 7, "same");
    insert(&connection, 2, 8, "same");
    for generation in [1, 100] {
        let by_task = ByTask::open_with(&mut connection, generation).unwrap();
        assert_eq!(by_task.fires(&connection, "same").unwrap(), [(1, 7), (2, 8)]);
        assert_eq!(by_task.fire_of(&connection, 8, "same").unwrap(), Some(2));
        assert_eq!(by_task.fire_of(&connection, 9, "same").unwrap(), None);
    }
}

#[test]
fn an_equal_hash_is_not_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(&folder.path().join("s.db"));
    insert(&connection, 1, 7, "this");
    let by_task = ByTask::open_with(&mut connection, 100).unwrap();
    by_task.add("another", 1);
    connection.execute("INSERT INTO fire_by_task VALUES (?1, 1)", [hash("a third")]).unwrap();
    assert_eq!(by_task.fires(&connection, "this").unwrap(), [(1, 7)]);
    assert_eq!(by_task.fires(&connection, "another").unwrap(), []);
    assert_eq!(by_task.fires(&connection, "a third").unwrap(), []);
}

#[tokio::test]
async fn a_store_of_an_older_format_knows_its_fires() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let connection = Connection::open(&path).unwrap();
    for step in &schema::STEPS[..6] {
        connection.execute_batch(step).unwrap();
    }
    connection.pragma_update(None, "user_version", 6).unwrap();
    insert(&connection, 1, 7, "made before");
    drop(connection);
    let store = Store::open(&Config { path }, || ()).unwrap();
    assert_eq!(store.fire_by_task(7, "made before".into()).await.unwrap().map(|fire| fire.id), Some(1));
    let fire = |task_id: &str| NewFire {
        incarnation: 7,
        version: 1,
        task_id: task_id.into(),
        occurrence: 0,
        fired_by: "pulseMessage",
        fired_at: 100,
        epoch: 1,
        digest: None,
        redelivered: false,
        message: Arc::default(),
        task: None,
        error: Some("{}".into()),
        cause: None,
    };
    let (known, new) = (fire("made before"), fire("new"));
    let recorded = store.write(move |w| Ok((w.fire(&known)?, w.fire(&new)?, w.fire(&new)?))).await.unwrap();
    assert!(matches!(recorded.0, Recorded::Known { fired_at: 0, .. }), "{recorded:?}");
    assert!(matches!(recorded.1, Recorded::New { id: 2, .. }), "{recorded:?}");
    assert!(matches!(recorded.2, Recorded::Known { fired_at: 100, .. }), "{recorded:?}");
    // A job that fails leaves nothing behind that would be taken for a fire.
    let in_vain = fire("in vain");
    let again = in_vain.clone();
    let failed = store.write(move |w| {
        w.fire(&in_vain)?;
        Err::<(), _>(StoreError::Sqlite("on purpose".into()))
    });
    failed.await.unwrap_err();
    assert!(store.fire_by_task(7, "in vain".into()).await.unwrap().is_none());
    let recorded = store.write(move |w| w.fire(&again)).await.unwrap();
    assert!(matches!(recorded, Recorded::New { .. }), "{recorded:?}");
}
