//! Loops: a hook that would fire on a task which it made itself, directly or through other hooks, never ends.
//!
//! Taskcluster's messages about a task name it in their routing key. Where that task is one that a fire made, the new fire
//! records it as its cause; so each fire has a line of ancestors, and a hook that finds itself among them does not fire.

use std::collections::HashMap;

use super::Inner;
use super::registry::LiveHook;
use crate::store::Ancestor;

/// A line of ancestors longer than this is taken for a loop that takes in many hooks.
pub(super) const LONGEST: u32 = 64;

/// What a message is about: a task that a hook made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// That task.
    pub task_id: String,
    /// Why the hook must not fire on it, if that would never end.
    pub refusal: Option<String>,
}

/// Causes by task id.
pub(super) type Causes = HashMap<String, Cause>;

/// The task that a message is about, by its routing key: the first word that is a task id.
pub(super) fn task_in(routing_key: &str) -> Option<&str> {
    routing_key.split('.').find(|word| is_slugid(word))
}

/// 22 characters of URL-safe base64 over a version 4 UUID.
fn is_slugid(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() == 22
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && matches!(bytes[8], b'Q'..=b'T')
        && b"CGKOSWaeimquy26-".contains(&bytes[10])
        && b"AQgw".contains(&bytes[21])
}

impl Inner {
    /// The causes of messages, by task id; only of those that are about a task which some hook made.
    pub(super) async fn causes<'a>(
        &self,
        hook: &LiveHook,
        routing_keys: impl Iterator<Item = &'a str>,
    ) -> Causes {
        let mut causes = Causes::new();
        for task_id in routing_keys.filter_map(task_in) {
            if causes.contains_key(task_id) {
                continue;
            }
            match self.store.ancestors(task_id.to_owned(), LONGEST).await {
                Ok(ancestors) if ancestors.is_empty() => {}
                Ok(ancestors) => {
                    let refusal = refusal(hook.incarnation, task_id, &ancestors);
                    causes.insert(task_id.to_owned(), Cause { task_id: task_id.to_owned(), refusal });
                }
                // What cannot be read cannot be recorded either: the batch will wait.
                Err(error) => tracing::error!(hook = %hook.name, %error, "cannot look for loops"),
            }
        }
        causes
    }
}

fn refusal(incarnation: i64, task_id: &str, ancestors: &[Ancestor]) -> Option<String> {
    let own = ancestors.iter().find(|ancestor| ancestor.incarnation == incarnation);
    match own {
        Some(own) if own.distance == 0 => Some(format!(
            "The message is about task {task_id}, which this hook made: firing on it would never end."
        )),
        Some(own) => Some(format!(
            "The message is about task {task_id}, which came of task {} of this hook through {} other hooks: firing on it would never end.",
            own.task_id, own.distance
        )),
        None if ancestors.iter().any(|ancestor| ancestor.distance >= LONGEST) => Some(format!(
            "The message is about task {task_id}, which came of a line of {LONGEST} fires, one on the task of another: that looks like a loop."
        )),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_message_is_in_its_routing_key() {
        let key = "primary.fN1SbArXTPSVFNUvaOlinQ.0.us-west.i-1.proj.linux.-.VUlKgxXpQgy0z2z2QdVTvA._";
        assert_eq!(task_in(key), Some("fN1SbArXTPSVFNUvaOlinQ"));
        for key in ["github.push._.mozilla.gecko-dev", "", "aaaaaaaaaaaaaaaaaaaaaa", "fN1SbArXTPSVFNUvaOlin"]
        {
            assert_eq!(task_in(key), None, "{key}");
        }
    }

    #[test]
    fn a_hook_among_the_ancestors_is_a_loop() {
        let line = |ids: &[i64]| -> Vec<Ancestor> {
            let row = |(distance, incarnation): (usize, &i64)| Ancestor {
                incarnation: *incarnation,
                task_id: format!("t{distance}"),
                distance: distance as u32,
            };
            ids.iter().enumerate().map(row).collect()
        };
        assert_eq!(refusal(1, "t", &line(&[2, 3])), None);
        assert!(refusal(1, "t", &line(&[1])).unwrap().contains("which this hook made"));
        assert!(refusal(1, "t", &line(&[2, 1])).unwrap().contains("task t1 of this hook through 1 other"));
        let long: Vec<i64> = (2..80).collect();
        assert!(refusal(1, "t", &line(&long)).unwrap().contains("looks like a loop"));
    }
}
