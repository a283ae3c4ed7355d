//! The hooks at a glance: the left side of every page about hooks. Groups, search, and of each hook what it did last and what
//! is wrong with it; only what the visitor may list, and states only where they may see them.
//!
//! A page shows so many hooks and groups at most, whatever there are: it stays small with ten thousand.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::page::segment;
use super::refusal::Refusal;
use super::visit::Visit;
use crate::hook::HookName;
use crate::router::looking::Glance;
use crate::store::{FireState, HookEntry, LastOutcome};

/// Hooks on a page.
const HOOKS: usize = 100;

/// Groups on a page; the others are found by search.
const GROUPS: usize = 200;

/// Where a hook's pages begin.
pub(super) fn path(name: &HookName) -> String {
    format!("/hooks/{}/{}", segment(&name.group), segment(&name.id))
}

/// What is to be seen of a hook in a word: a name for the style, and a text for people.
pub(super) struct Mark {
    pub tone: &'static str,
    pub text: String,
}

/// The mark of a hook.
pub(super) fn mark(glance: Option<&Glance>, last: Option<&LastOutcome>) -> Mark {
    let mark = |tone, text: &str| Mark { tone, text: text.to_owned() };
    let Some(glance) = glance else {
        return mark("bad", "not valid for this version of pulsehook: it does not fire");
    };
    if glance.paused {
        return mark("paused", "paused");
    }
    if glance.queue_error.is_some() {
        return mark("warn", "its queue does not stand");
    }
    if let [(binding, _), ..] = glance.refused.as_slice() {
        return Mark { tone: "warn", text: format!("binding to {} refused", binding.exchange) };
    }
    if glance.held_for.is_some() {
        return mark("warn", "held: its fires keep failing");
    }
    match last {
        Some(LastOutcome { fire: Some((state, _)), .. }) => match state {
            FireState::Success => mark("good", "last fire: task created"),
            FireState::Pending => mark("busy", "a fire is on its way"),
            FireState::Dead => mark("bad", "last fire: dead letter"),
            FireState::Cancelled => mark("idle", "last fire: cancelled"),
            FireState::Dropped => mark("idle", "last fire: dropped"),
        },
        Some(LastOutcome { decision: Some((outcome, _)), .. }) => {
            Mark { tone: "idle", text: format!("never fired; last message: {outcome}") }
        }
        _ => mark("none", "no message yet"),
    }
}

/// What the left side shows: `{query, groups, hooks, more, total}`; `selected` is the hook on the right.
pub(super) async fn explorer(visit: &Visit, selected: Option<&HookName>) -> Result<Value, Refusal> {
    let inner = &visit.ui.inner;
    let query = visit.asked("q").map(str::trim).unwrap_or_default().to_lowercase();
    let of_groups = visit.permitted("listHookGroups", &[]).is_ok();
    let mut listable: HashMap<String, bool> = HashMap::new();
    let mut may_list = |group: &str| match listable.get(group) {
        Some(may) => *may,
        None => {
            let may = visit.permitted("listHooks", &[("hookGroupId", group)]).is_ok();
            listable.insert(group.to_owned(), may);
            may
        }
    };
    let entries = inner.store.hook_entries().await?;
    let mut groups: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for entry in &entries {
        let may = may_list(&entry.name.group);
        if may || of_groups {
            let group = groups.entry(&entry.name.group).or_insert((0, may));
            group.0 += usize::from(may);
        }
    }
    let asked = selected.map(|name| name.group.as_str()).or(visit.params.get("group").map(String::as_str));
    let open = match (asked, groups.len()) {
        (None, 1) => groups.keys().next().copied(),
        (asked, _) => asked,
    };
    let wanted = |entry: &&HookEntry| {
        if query.is_empty() {
            open == Some(entry.name.group.as_str())
        } else {
            entry.name.to_string().to_lowercase().contains(&query)
        }
    };
    let found: Vec<&HookEntry> =
        entries.iter().filter(wanted).filter(|entry| may_list(&entry.name.group)).collect();
    let total = found.len();
    let page = visit.asked("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(0);
    let shown: Vec<HookEntry> =
        match selected.and_then(|name| found.iter().position(|entry| entry.name == *name)) {
            // The selected hook is on its page, wherever that is.
            Some(at) if visit.asked("page").is_none() => found.chunks(HOOKS).nth(at / HOOKS),
            _ => found.chunks(HOOKS).nth(page),
        }
        .unwrap_or_default()
        .iter()
        .map(|entry| (*entry).clone())
        .collect();
    let page = selected
        .filter(|_| visit.asked("page").is_none())
        .and_then(|name| found.iter().position(|entry| entry.name == *name))
        .map_or(page, |at| at / HOOKS);
    let hooks = items(visit, &shown, selected).await?;
    let base = match (query.is_empty(), open) {
        (false, _) => {
            let query: String =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("q", &query).finish();
            format!("/hooks?{query}&page=")
        }
        (true, Some(group)) => format!("/hooks/{}?page=", segment(group)),
        (true, None) => "/hooks?page=".to_owned(),
    };
    let (group_count, all_groups) = (groups.len(), groups);
    let groups: Vec<Value> = all_groups
        .iter()
        .filter(|(group, _)| query.is_empty() || group.to_lowercase().contains(&query))
        .take(GROUPS)
        .map(|(group, (count, listable))| {
            let href = format!("/hooks/{}", segment(group));
            json!({ "name": group, "count": count, "listable": listable, "href": href, "open": open == Some(*group) })
        })
        .collect();
    Ok(json!({
        "query": query,
        "groups": groups,
        "group_count": group_count,
        "hooks": hooks,
        "total": total,
        "from": page * HOOKS + 1,
        "previous": (page > 0).then(|| format!("{base}{}", page - 1)),
        "next": ((page + 1) * HOOKS < total).then(|| format!("{base}{}", page + 1)),
        "open": open.filter(|_| query.is_empty()),
    }))
}

async fn items(
    visit: &Visit,
    shown: &[HookEntry],
    selected: Option<&HookName>,
) -> Result<Vec<Value>, Refusal> {
    let inner = &visit.ui.inner;
    let last = inner.store.last_outcomes(shown.iter().map(|entry| entry.incarnation).collect()).await?;
    let item = |(entry, last): (&HookEntry, &LastOutcome)| {
        let name = &entry.name;
        let mut item = json!({
            "group": name.group, "id": name.id, "href": path(name), "current": selected == Some(name),
        });
        if visit.may("listLastFires", name) || visit.may("getHookStatus", name) {
            let mark = mark(inner.router.glance(name).as_ref(), Some(last));
            item["tone"] = json!(mark.tone);
            item["state"] = json!(mark.text);
        }
        item
    };
    Ok(shown.iter().zip(&last).map(item).collect())
}
