//! What has to be done so that the hooks at the router are those of the files. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use super::files::Hooks;
use crate::cli::output::text;
use crate::cli::render::diff::{Difference, differences};
use crate::hook::HookName;

/// One change.
#[derive(Debug)]
pub(super) struct Step {
    pub name: HookName,
    pub action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Create(Value),
    Update { document: Value, differences: Vec<Difference> },
    Delete,
}

/// The groups that the files name.
pub(super) fn groups(hooks: &Hooks) -> BTreeSet<String> {
    hooks.keys().map(|name| name.group.clone()).collect()
}

/// The changes, in the order of the names; deletions last.
pub(super) fn plan(hooks: &Hooks, registered: &[Value], prune: bool) -> Vec<Step> {
    let named = |hook: &Value| HookName::new(text(hook, "hookGroupId"), text(hook, "hookId")).ok();
    let registered: BTreeMap<HookName, &Value> =
        registered.iter().filter_map(|hook| Some((named(hook)?, hook))).collect();
    let mut steps = Vec::new();
    for (name, found) in hooks {
        let document = found.hook.to_json();
        let action = match registered.get(name) {
            None => Action::Create(document),
            Some(former) if **former == document => continue,
            Some(former) => {
                let differences = differences("", former, &document, false);
                Action::Update { document, differences }
            }
        };
        steps.push(Step { name: name.clone(), action });
    }
    if prune {
        let gone = registered.into_keys().filter(|name| !hooks.contains_key(name));
        steps.extend(gone.map(|name| Step { name, action: Action::Delete }));
    }
    steps
}

impl Step {
    pub fn to_json(&self) -> Value {
        let (action, differences) = match &self.action {
            Action::Create(_) => ("create", json!([])),
            Action::Update { differences, .. } => ("update", json!(differences)),
            Action::Delete => ("delete", json!([])),
        };
        json!({ "hook": self.name, "action": action, "differences": differences })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Create(_) => write!(f, "+ {}", self.name),
            Action::Delete => write!(f, "- {}", self.name),
            Action::Update { differences, .. } => {
                write!(f, "~ {}", self.name)?;
                for difference in differences {
                    for line in difference.to_string().lines() {
                        write!(f, "\n    {line}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// How many hooks were (or would be) changed, and in what way.
pub(super) struct Summary {
    counts: [usize; 4],
    failed: usize,
    dry_run: bool,
}

/// Sums up the steps that were done; `files` is the number of hooks in files, of which `unsaved` could not be saved.
pub(super) fn summary<'a>(
    done: impl Iterator<Item = &'a Step> + Clone,
    files: usize,
    failed: usize,
    unsaved: usize,
    dry_run: bool,
) -> Summary {
    let count = |is: fn(&Action) -> bool| done.clone().filter(|step| is(&step.action)).count();
    let created = count(|action| matches!(action, Action::Create(_)));
    let updated = count(|action| matches!(action, Action::Update { .. }));
    let deleted = count(|action| matches!(action, Action::Delete));
    let unchanged = files - created - updated - unsaved;
    Summary { counts: [created, updated, deleted, unchanged], failed, dry_run }
}

impl Summary {
    pub fn to_json(&self) -> Value {
        let [create, update, delete, unchanged] = self.counts;
        json!({
            "created": create, "updated": update, "deleted": delete, "unchanged": unchanged, "failed": self.failed,
            "dryRun": self.dry_run,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [create, update, delete, unchanged] = self.counts;
        let verb = if self.dry_run { "to be " } else { "" };
        write!(
            f,
            "{create} {verb}created, {update} {verb}updated, {delete} {verb}deleted, {unchanged} unchanged"
        )?;
        if self.failed > 0 { write!(f, ", {} failed", self.failed) } else { Ok(()) }
    }
}
