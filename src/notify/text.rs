//! The mails' text: plain, in the order in which a person asks. What failed, why and where, which message did it, what to do.

use std::fmt::Write as _;

use super::failure::{Example, Kind};
use crate::hook::HookName;
use crate::store::Notice;

/// Entries that a digest shows in full; the rest is counted.
const SHOWN: usize = 50;

/// Characters of a reason that are shown: the record has the rest.
const LONGEST_REASON: usize = 2_000;

/// Characters of a reason in a digest.
const LONGEST_REASON_IN_DIGEST: usize = 400;

/// Subject and text of one mail.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub subject: String,
    pub body: String,
}

/// The mail for these notices, of which there is at least one.
pub(super) fn compose(notices: &[Notice], root_url: &str, interval_hours: u64) -> Text {
    match notices {
        [only] if only.failures == 1 => single(only, root_url, interval_hours),
        many => digest(many, root_url, interval_hours),
    }
}

fn single(notice: &Notice, root_url: &str, hours: u64) -> Text {
    let (kind, example) = read(notice);
    let hook = &notice.hook;
    let mut body = format!("The hook {hook} failed: {}.\n\n", kind.title());
    let _ = writeln!(body, "When:         {}", time(notice.first_at));
    let _ = writeln!(body, "What:\n{}\n", indent(&clip(&example.message, LONGEST_REASON)));
    body.push_str(&about(hook, kind, &example, root_url));
    let _ = writeln!(body, "\nWhat to do:\n{}", indent(&wrap(kind.advice())));
    body.push_str(&footer(hours));
    Text { subject: format!("[pulsehook] {hook}: {}", kind.title()), body }
}

fn digest(notices: &[Notice], root_url: &str, hours: u64) -> Text {
    let failures: i64 = notices.iter().map(|notice| notice.failures).sum();
    let mut hooks: Vec<&HookName> = notices.iter().map(|notice| &notice.hook).collect();
    hooks.sort();
    hooks.dedup();
    let first = notices.iter().map(|notice| notice.first_at).min().unwrap_or_default();
    let last = notices.iter().map(|notice| notice.last_at).max().unwrap_or_default();
    let of = if hooks.len() == 1 { format!("{}", hooks[0]) } else { format!("{} hooks", hooks.len()) };
    let mut body = format!("{failures} failures of {of}, from {} to {}.\n", time(first), time(last));
    for notice in notices.iter().take(SHOWN) {
        let (kind, example) = read(notice);
        let times =
            if notice.failures == 1 { "once".to_owned() } else { format!("{} times", notice.failures) };
        let _ = writeln!(body, "\n* {}: {} ({times})", notice.hook, kind.title());
        let _ = writeln!(body, "\n  {}:", if notice.failures == 1 { "It was" } else { "The first was" });
        let _ = writeln!(body, "{}", indent(&clip(&example.message, LONGEST_REASON_IN_DIGEST)));
        body.push_str(&indent(&about(&notice.hook, kind, &example, root_url)));
        body.push('\n');
    }
    if notices.len() > SHOWN {
        let _ = writeln!(
            body,
            "\n… and {} more of that kind, which are on the hooks' records.",
            notices.len() - SHOWN
        );
    }
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in notices.iter().map(|notice| Kind::from_stored(&notice.kind)) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    body.push_str("\nWhat to do:\n");
    for kind in kinds {
        let _ = writeln!(body, "{}", indent(&wrap(&format!("If {}: {}", kind.title(), kind.advice()))));
    }
    body.push_str(&footer(hours));
    Text { subject: format!("[pulsehook] {failures} failures of {of}"), body }
}

fn read(notice: &Notice) -> (Kind, Example) {
    (Kind::from_stored(&notice.kind), serde_json::from_str(&notice.example).unwrap_or_default())
}

/// The message that did it, and where to read more.
fn about(hook: &HookName, kind: Kind, example: &Example, root_url: &str) -> String {
    let mut text = String::new();
    let root = root_url.trim_end_matches('/');
    let id = hook.id.replace('/', "%2F");
    if kind == Kind::BindingRefused {
        let _ = writeln!(text, "Exchange:     {}", line(&example.exchange));
        let _ = writeln!(text, "Pattern:      {}", line(&example.routing_key));
        if !root.is_empty() {
            let _ = writeln!(text, "Bindings:     {root}/hooks/{}/{id}", hook.group);
        }
        return text;
    }
    let _ = writeln!(text, "Message:      {} on {}", line(&example.routing_key), line(&example.exchange));
    if let Some(message_id) = &example.message_id {
        let _ = writeln!(text, "Message id:   {}", line(message_id));
    }
    if let (Some(digest), Some(size)) = (&example.digest, example.size) {
        let _ = writeln!(text, "Content:      {size} bytes, SHA-256 {digest}");
    }
    if let Some(task_id) = &example.task_id {
        let _ = writeln!(text, "Task id:      {task_id}");
        if !root.is_empty() {
            let _ = writeln!(text, "On record:    {root}/hooks/{}/{id}/fires/{task_id}", hook.group);
        }
        let _ = writeln!(text, "Show it:      pulsehook dead show {hook} {task_id}");
        let _ = writeln!(text, "Try again:    pulsehook dead requeue {hook} {task_id}");
    }
    text
}

fn footer(hours: u64) -> String {
    let often = match hours {
        0 => "more often than each hour".to_owned(),
        1 => "more often than each hour".to_owned(),
        hours => format!("more often than each {hours} hours"),
    };
    format!(
        "\n-- \nYou get this because you are the owner of the hook and its metadata has emailOnError. pulsehook does not write \
         to\nyou {often}: what fails meanwhile is in the next mail.\n"
    )
}

fn time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A publisher's words on one line of ours.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… (the record has the rest)", &text[..end]),
        None => text.to_owned(),
    }
}

fn indent(text: &str) -> String {
    let lines = text.trim_end().lines().map(|text| format!("    {}", line(text)).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Lines of some 76 characters.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(last) = lines.last_mut() else { continue };
        if !last.is_empty() && last.chars().count() + word.chars().count() > 75 {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(hook: &str, kind: Kind, failures: i64) -> Notice {
        let example = Example {
            message: "The template failed: task.payload.env.REV: undefined value\nhere".into(),
            task_id: Some("bJjtJ_-IQg6szLKlrxfq7g".into()),
            exchange: "exchange/pulsehook/v1/webhook".into(),
            routing_key: "github.push\r\nBcc: x".into(),
            message_id: Some("github-1".into()),
            digest: Some("ab".repeat(32)),
            size: Some(17),
            ..Example::default()
        };
        Notice {
            id: 1,
            hook: HookName { group: "ci".into(), id: hook.into() },
            kind: kind.as_str().into(),
            failures,
            first_at: 1_795_000_000_000,
            last_at: 1_795_000_060_000,
            example: serde_json::to_string(&example).unwrap(),
        }
    }

    #[test]
    fn one_failure_is_told_with_its_place_message_link_and_advice() {
        let text = compose(&[notice("a/b", Kind::Template, 1)], "https://hooks.example.com/", 12);
        assert_eq!(text.subject, "[pulsehook] ci/a/b: its task template fails");
        for part in [
            "    The template failed: task.payload.env.REV: undefined value",
            "Message:      github.push  Bcc: x on exchange/pulsehook/v1/webhook",
            "Message id:   github-1",
            "17 bytes, SHA-256 abab",
            "https://hooks.example.com/hooks/ci/a%2Fb/fires/bJjtJ_-IQg6szLKlrxfq7g",
            "pulsehook dead requeue ci/a/b bJjtJ_-IQg6szLKlrxfq7g",
            "Correct the template",
            "each 12 hours",
        ] {
            assert!(text.body.contains(part), "{part:?} is missing:\n{}", text.body);
        }
    }

    #[test]
    fn many_failures_are_a_digest_per_hook_and_kind() {
        let notices =
            [notice("a", Kind::Template, 999), notice("a", Kind::Scopes, 1), notice("b", Kind::Template, 2)];
        let text = compose(&notices, "", 12);
        assert_eq!(text.subject, "[pulsehook] 1002 failures of 2 hooks");
        for part in [
            "* ci/a: its task template fails (999 times)",
            "* ci/a: its role lacks scopes (once)",
            "* ci/b: its task template fails (2 times)",
        ] {
            assert!(text.body.contains(part), "{part:?} is missing:\n{}", text.body);
        }
        assert_eq!(text.body.matches("Correct the template").count(), 1);
    }

    #[test]
    fn a_digest_is_bounded() {
        let notices: Vec<Notice> = (0..500).map(|n| notice(&format!("h{n}"), Kind::Template, 1)).collect();
        let text = compose(&notices, "https://hooks.example.com", 12);
        assert!(text.body.len() < 100_000, "{}", text.body.len());
        assert!(text.body.contains("and 450 more"));
    }
}
