use super::*;
use crate::store::{Config, MailFigures, MailRow, RefusedBinding};

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&Config { path: dir.path().join("s.db") }, || panic!("nobody else holds the lock")).unwrap()
}

fn notice(id: &str, failures: u32, at: i64) -> NewNotice {
    NewNotice {
        address: "o@example.com".into(),
        hook: HookName { group: "ci".into(), id: id.into() },
        kind: "template",
        failures,
        first_at: at,
        last_at: at,
        example: "{}".into(),
    }
}

fn mail(at: i64) -> MailRow {
    MailRow {
        address: "o@example.com".into(),
        mail_id: format!("m{at}"),
        subject: "s".into(),
        body: "b".into(),
        composed_at: at,
        attempts: 0,
    }
}

#[tokio::test]
async fn failures_are_counted_until_a_mail_takes_them_up_and_what_comes_meanwhile_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.note(vec![notice("a", 1, 10)], Some(7), 10).await.unwrap();
    store.note(vec![notice("a", 2, 20), notice("b", 1, 20)], None, 10).await.unwrap();
    assert_eq!(store.noted_watermark().await.unwrap(), 7);
    let read = store.notices("o@example.com".into(), 10).await.unwrap();
    assert_eq!(
        read.iter().map(|n| (n.failures, n.first_at, n.last_at)).collect::<Vec<_>>(),
        [(3, 10, 20), (1, 20, 20)]
    );
    store.note(vec![notice("a", 5, 30)], None, 10).await.unwrap();
    let told = read.iter().map(|n| (n.id, n.failures)).collect();
    store.compose(mail(40), told).await.unwrap();
    let left = store.notices("o@example.com".into(), 10).await.unwrap();
    assert_eq!(left.iter().map(|n| n.failures).collect::<Vec<_>>(), [5]);
    assert_eq!(store.mail_figures().await.unwrap(), MailFigures { held_back: 5, waiting: 1 });
}

#[tokio::test]
async fn an_address_is_due_once_its_last_mail_is_long_enough_ago_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.note(vec![notice("a", 1, 10)], None, 10).await.unwrap();
    assert!(store.addresses_due(9, 0, 10).await.unwrap().is_empty(), "it settles");
    assert_eq!(store.addresses_due(10, 0, 10).await.unwrap(), ["o@example.com"]);
    store.compose(mail(40), Vec::new()).await.unwrap();
    assert!(store.addresses_due(100, 100, 10).await.unwrap().is_empty(), "one is on its way");
    store.mail_failed("o@example.com".into(), 90, "away".into()).await.unwrap();
    assert!(store.mails_due(89, 10).await.unwrap().is_empty());
    assert_eq!(store.mails_due(90, 10).await.unwrap()[0].attempts, 1);
    store.mail_ended("o@example.com".into(), 95).await.unwrap();
    store.close();
    drop(store);
    let store = open(&dir);
    assert!(store.addresses_due(100, 94, 10).await.unwrap().is_empty());
    assert_eq!(store.addresses_due(100, 95, 10).await.unwrap(), ["o@example.com"]);
    assert_eq!(store.forget_mails(96).await.unwrap(), 1);
}

#[tokio::test]
async fn beyond_the_bound_known_failures_are_counted_and_new_ones_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.note(vec![notice("a", 1, 1)], None, 1).await.unwrap();
    assert_eq!(store.note(vec![notice("a", 1, 2), notice("b", 1, 2)], None, 1).await.unwrap(), 1);
    assert_eq!(store.mail_figures().await.unwrap().held_back, 2);
}

#[tokio::test]
async fn a_refused_binding_is_news_once_until_it_has_stood() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let binding = RefusedBinding { incarnation: 1, exchange: "e".into(), pattern: "#".into() };
    assert_eq!(store.refused_bindings(vec![binding.clone()]).await.unwrap(), std::slice::from_ref(&binding));
    assert!(store.refused_bindings(vec![binding.clone()]).await.unwrap().is_empty());
    assert!(store.refused_bindings(Vec::new()).await.unwrap().is_empty());
    assert_eq!(store.refused_bindings(vec![binding.clone()]).await.unwrap(), [binding]);
}
