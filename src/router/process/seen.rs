//! What a batch looks like to whoever looks on, and in the counts of its minute.

use super::super::recent::{PER_HOOK, Seen};
use super::{Entry, Item};
use crate::router::Inner;
use crate::router::registry::LiveHook;
use crate::store::{NewFire, Recorded};

impl Inner {
    /// Counts what was decided, and remembers the newest of it for whoever looks on.
    pub(super) fn note_seen(
        &self,
        hook: &LiveHook,
        at: i64,
        items: &[Item],
        entries: &[Entry],
        recorded: &[Option<Recorded>],
    ) {
        let passed = entries.iter().filter(|entry| matches!(entry, Entry::Decision(..))).count() as u32;
        let ended =
            |recorded: &&Option<Recorded>| matches!(recorded, Some(Recorded::New { ended_seq: Some(_), .. }));
        let dead = recorded.iter().filter(ended).count() as u32;
        self.activity.count(at, |minute| {
            minute.messages += items.len() as u32;
            minute.passed += passed;
            minute.dead += dead;
        });
        let skipped = match self.recent.is_watched() {
            true => 0,
            false => items.len().saturating_sub(PER_HOOK),
        };
        let batch = items.iter().zip(entries).zip(recorded).skip(skipped);
        let seen = batch.map(|((item, entry), recorded)| {
            let (outcome, reason, task_id) = match entry {
                Entry::Decision(row, task_id) => (row.outcome.clone(), row.reason.clone(), task_id),
                Entry::Fire(fire) => {
                    let (outcome, reason) = fired(fire, recorded.as_ref());
                    (outcome, reason, &fire.task_id)
                }
            };
            let message = item.delivery.message.clone();
            Seen { seq: 0, at, message, outcome, reason, task_id: task_id.clone() }
        });
        self.recent.add(hook.incarnation, seen);
    }
}

/// A fire, in a word and in a sentence.
fn fired(fire: &NewFire, recorded: Option<&Recorded>) -> (String, String) {
    if matches!(recorded, Some(Recorded::Known { .. })) {
        return ("repeat".to_owned(), "This message has been seen before; it fires once.".to_owned());
    }
    let Some(error) = &fire.error else { return ("fire".to_owned(), "The hook fires.".to_owned()) };
    let error: serde_json::Value = serde_json::from_str(error).unwrap_or_default();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}
