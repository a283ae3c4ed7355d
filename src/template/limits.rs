//! What one template, filter or message may cost. Each bound is an option, with the reason for its default.

use serde::{Deserialize, Serialize};

/// The section `[limits]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Fuel of one expression or one string with statements: about one unit per instruction and per 64 bytes that it
    /// produces. The default allows some 6 MB and 10 ms; a realistic expression uses less than 100.
    pub fuel: u64,
    /// Fuel of a filter. Filters run on every message, also on those that don't fire, so they get less.
    pub filter_fuel: u64,
    /// Longest rendered task, in bytes. The queue service takes 10 MB; tasks of real hooks have a few thousand.
    pub output_bytes: usize,
    /// Levels of nesting of template, payload and rendered task. JSON parsers commonly stop at 128.
    pub depth: usize,
    /// Longest message body, in bytes. GitHub's webhooks end at 25 MB but are a few kilobytes in practice.
    pub message_bytes: usize,
    /// Longest task template, in bytes of JSON.
    pub template_bytes: usize,
    /// Tokens of one expression or one string with statements: a longer chain of operators could exhaust the stack of
    /// the parser. Ten times what a readable expression has.
    pub tokens: usize,
    /// Rounds of all `{% for %}` keys of a template together.
    pub rounds: usize,
    /// Time of one render, in milliseconds. Of a pause of the process 100 count at most, in a worker all of it. A realistic task
    /// renders in less than a tenth of one.
    pub render_ms: u64,
    /// Memory of a render worker, in bytes of address space.
    pub worker_bytes: u64,
    /// Render workers kept at hand. They run only what can't be bounded beforehand.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 100_000,
            filter_fuel: 20_000,
            output_bytes: 2 << 20,
            depth: 100,
            message_bytes: 10 << 20,
            template_bytes: 1 << 20,
            tokens: 1000,
            rounds: 10_000,
            render_ms: 1000,
            worker_bytes: 512 << 20,
            workers: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_file_tells_the_defaults() {
        #[derive(Deserialize)]
        struct File {
            limits: Limits,
        }
        let file: File = toml::from_str(include_str!("../../config/pulsehook.toml")).unwrap();
        assert_eq!(file.limits, Limits::default());
        let text = include_str!("../../config/pulsehook.toml");
        let section = &text[text.find("\n[limits]").unwrap()..];
        for option in serde_json::to_value(Limits::default()).unwrap().as_object().unwrap().keys() {
            assert!(section.contains(&format!("\n{option} = ")), "{option} is not in the file");
        }
    }
}
