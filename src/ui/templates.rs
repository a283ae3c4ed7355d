//! The templates of the pages, compiled in. All of them escape what they are given; what is markup is made here, in functions
//! that escape their own arguments.

use chrono::{DateTime, SecondsFormat};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};

/// The files.
const FILES: [(&str, &str); 25] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("parts.html", include_str!("templates/parts.html")),
    ("hook_frame.html", include_str!("templates/hook_frame.html")),
    ("explorer.html", include_str!("templates/explorer.html")),
    ("refused.html", include_str!("templates/refused.html")),
    ("sign_in.html", include_str!("templates/sign_in.html")),
    ("overview.html", include_str!("templates/overview.html")),
    ("hooks.html", include_str!("templates/hooks.html")),
    ("hook.html", include_str!("templates/hook.html")),
    ("definition.html", include_str!("templates/definition.html")),
    ("history.html", include_str!("templates/history.html")),
    ("fire.html", include_str!("templates/fire.html")),
    ("decision.html", include_str!("templates/decision.html")),
    ("edit.html", include_str!("templates/edit.html")),
    ("review.html", include_str!("templates/review.html")),
    ("preview.html", include_str!("templates/preview.html")),
    ("trigger.html", include_str!("templates/trigger.html")),
    ("live.html", include_str!("templates/live.html")),
    ("manage.html", include_str!("templates/manage.html")),
    ("audit.html", include_str!("templates/audit.html")),
    ("new.html", include_str!("templates/new.html")),
    ("dead.html", include_str!("templates/dead.html")),
    ("sources.html", include_str!("templates/sources.html")),
    ("source.html", include_str!("templates/source.html")),
    ("editor.html", include_str!("templates/editor.html")),
];

/// See the module.
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Compiles them.
    pub fn new() -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.add_function("moment", moment);
        environment.add_filter("segment", |text: &str| super::page::segment(text));
        for (name, text) in FILES {
            environment.add_template(name, text)?;
        }
        Ok(Self(environment))
    }

    /// Renders one.
    pub fn render(&self, name: &str, values: serde_json::Value) -> Result<String, Error> {
        self.0.get_template(name)?.render(Value::from(Serde(values)))
    }
}

/// A moment as people read it, and as our script can turn it into local time: milliseconds since the epoch → `<time>`.
fn moment(at: Option<i64>, options: Kwargs) -> Result<Value, Error> {
    let minutes: Option<bool> = options.get("minutes")?;
    options.assert_all_used()?;
    let Some(time) = at.and_then(DateTime::from_timestamp_millis) else { return Ok(Value::from("–")) };
    let exact = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let format = if minutes == Some(true) { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S" };
    let shown = time.format(format);
    Ok(Value::from_safe_string(format!("<time datetime=\"{exact}\">{shown}</time>")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_files_compile_and_are_known() {
        Templates::new().unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ui/templates");
        let count = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(count, FILES.len());
    }

    #[test]
    fn nothing_inline_is_in_any_file_that_the_policy_would_refuse() {
        let inline = regex::Regex::new(r#"(?i)<style|\son[a-z]+=|\sstyle=|javascript:"#).unwrap();
        for (name, text) in FILES {
            assert_eq!(text.matches("<script").count(), text.matches("<script src=").count(), "{name}");
            assert!(!inline.is_match(text), "{name}: {:?}", inline.find(text));
            assert!(!text.contains("|safe") && !text.contains("| safe"), "{name} marks something as safe");
        }
    }

    #[test]
    fn what_strangers_write_is_text() {
        let templates = Templates::new().unwrap();
        let hostile = "</title><script>alert(1)</script>\"'";
        let values = json!({ "title": hostile, "message": hostile, "assets": { "style": "", "script": "", "icon": "" }, "product_version": "0" });
        let page = templates.render("refused.html", values).unwrap();
        assert!(!page.contains("<script>alert"), "{page}");
    }
}
