use std::sync::Mutex;

use async_trait::async_trait;

use super::super::deny::DenyList;
use super::super::{Config, Mailer};
use super::*;
use crate::hook::HookName;
use crate::store::NewNotice;

const INTERVAL: u64 = 12 * 3600;

/// Ends each attempt as it is told, and remembers to whom.
#[derive(Default)]
struct Told {
    outcomes: Mutex<Vec<Result<(), SendError>>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Mailer for Arc<Told> {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        self.asked.lock().unwrap().push(mail.to.clone());
        self.outcomes.lock().unwrap().pop().unwrap_or(Ok(()))
    }

    async fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

fn notifier(mailer: &Arc<Told>) -> Notifier {
    let config = Config {
        smtp: String::new(),
        smtp_user: String::new(),
        smtp_password: pulse::Secret::new(""),
        smtp_ca_file: None,
        from: String::new(),
        taskcluster: false,
        root_url: String::new(),
        interval_seconds: INTERVAL,
        settle_seconds: 0,
        max_age_seconds: 48 * 3600,
        max_notices: 10,
        deny: Vec::new(),
    };
    Notifier { config, deny: DenyList::new(&[]), mailer: Arc::new(mailer.clone()) }
}

fn notice(address: &str) -> NewNotice {
    NewNotice {
        address: address.into(),
        hook: HookName { group: "ci".into(), id: "x".into() },
        kind: "template",
        failures: 1,
        first_at: now_ms(),
        last_at: now_ms(),
        example: "{}".into(),
    }
}

fn open(dir: &tempfile::TempDir) -> Store {
    let config = crate::store::Config { path: dir.path().join("s.db") };
    Store::open(&config, || panic!("nobody else holds the lock")).unwrap()
}

#[tokio::test]
async fn an_address_is_one_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let told = Arc::new(Told::default());
    let notifier = notifier(&told);
    notifier.note(&store, vec![notice("Ann@X.org"), notice("ann@x.org")], None).await.unwrap();
    round(&notifier, &store).await.unwrap();
    notifier.note(&store, vec![notice("ANN@x.org")], None).await.unwrap();
    round(&notifier, &store).await.unwrap();
    assert_eq!(*told.asked.lock().unwrap(), ["ann@x.org"]);
    assert_eq!(store.mail_figures().await.unwrap().held_back, 1, "the rest is for the next mail");
}

#[tokio::test]
async fn a_mail_that_may_have_gone_is_not_repeated_within_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let told = Arc::new(Told::default());
    let notifier = notifier(&told);
    told.outcomes.lock().unwrap().push(Err(SendError::Unknown("no answer".into())));
    notifier.note(&store, vec![notice("o@example.com")], None).await.unwrap();
    for _ in 0..3 {
        round(&notifier, &store).await.unwrap();
        // What fails meanwhile makes no other mail either.
        notifier.note(&store, vec![notice("o@example.com")], None).await.unwrap();
    }
    assert_eq!(told.asked.lock().unwrap().len(), 1);
    let later = now_ms() + ms(Duration::from_secs(INTERVAL));
    assert!(store.mails_due(later - 60_000, 10).await.unwrap().is_empty());
    assert_eq!(store.mails_due(later, 10).await.unwrap()[0].attempts, 1, "after it, it is");
}

#[tokio::test]
async fn a_mail_that_cannot_have_gone_is_tried_again_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let told = Arc::new(Told::default());
    let notifier = notifier(&told);
    told.outcomes.lock().unwrap().push(Err(SendError::Later("RCPT: no answer".into())));
    notifier.note(&store, vec![notice("o@example.com")], None).await.unwrap();
    round(&notifier, &store).await.unwrap();
    assert_eq!(told.asked.lock().unwrap().len(), 1);
    assert_eq!(store.mails_due(now_ms() + ms(FIRST_BACKOFF), 10).await.unwrap()[0].attempts, 1);
}
