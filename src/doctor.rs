//! `pulsehook doctor`: is everything there that a role needs, and if not, what is to be done?
//!
//! Each check does what the role would do, with the role's own configuration and credentials, and leaves nothing behind but
//! the exchange `exchange/<user>/v1/doctor`. Nothing is changed that others use, so that it may run beside a running role.

mod broker;
mod queue_service;
mod store;

use serde::Serialize;

use crate::app::source_filter;
use crate::config::Config;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, or may work; somebody should look.
    Warning,
    /// It cannot work.
    Failed,
    /// Not configured, or not for this role.
    Skipped,
}

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { check, outcome, found: found.into(), advice: None }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Outcome::Ok, found)
    }

    fn failed(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::new(check, Outcome::Failed, found) }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::new(check, Outcome::Warning, found) }
    }

    fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skipped, found)
    }
}

/// For which role to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// What the bridge needs.
    pub bridge: bool,
    /// What the router needs.
    pub router: bool,
}

/// Checks everything, one after the other; `tell` hears of each as it is done.
pub async fn examine(config: &Config, roles: Roles, mut tell: impl FnMut(&Finding)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |found: Vec<Finding>| {
        found.iter().for_each(&mut tell);
        findings.extend(found);
    };
    add(configuration(config, roles));
    add(broker::check(config, roles).await);
    if roles.bridge {
        add(vec![spool(config)]);
    }
    if roles.router {
        add(store::check(&config.store));
        add(queue_service::check(config).await);
        add(vec![mail(config).await]);
    }
    findings
}

/// Secrets that can be read, and what the sections say of each other.
fn configuration(config: &Config, roles: Roles) -> Vec<Finding> {
    let mut errors = Vec::new();
    errors.extend(config.pulse.check().iter().map(ToString::to_string));
    if config.pulse.is_embedded() {
        errors.push("pulse.url = \"embedded\": bridge and router need a broker".to_owned());
    }
    if roles.router {
        errors.extend(config.task_id_key().err());
        errors.extend(crate::queue::Taskcluster::new(&config.queue).err().map(|error| error.to_string()));
        errors.extend(config.authenticator().err().unwrap_or_default());
        errors.extend(config.notify.notifier(&config.queue).err().map(|error| error.to_string()));
    }
    let mut sources = 0;
    if roles.bridge {
        match bridge::check(&config.bridge, Some(&source_filter::compiler(&config.limits))) {
            Ok(found) => sources = found.len(),
            Err(found) => errors.extend(found),
        }
    }
    let advice = "config/pulsehook.toml explains every option; secrets are \"env:NAME\" or \"file:PATH\"";
    if !errors.is_empty() {
        return errors.into_iter().map(|error| Finding::failed("configuration", error, advice)).collect();
    }
    let mut found = vec![Finding::ok("configuration", "every option and secret can be used")];
    if roles.bridge && sources == 0 {
        let advice =
            "add [[bridge.source]] entries (bridge/README.md has guides), or run it for its clock alone";
        found.push(Finding::warning("webhook sources", "there are none", advice));
    } else if roles.bridge {
        found.push(Finding::ok("webhook sources", format!("{sources}, each with its secrets")));
    }
    found
}

fn spool(config: &Config) -> Finding {
    const CHECK: &str = "spool";
    let path = &config.bridge.spool.path;
    if path.as_os_str().is_empty() {
        let advice = "set bridge.spool.path, so that events are kept while the broker is away";
        return Finding::warning(CHECK, "there is none: without the broker senders hear 503", advice);
    }
    match store::writable_folder(path) {
        Ok(folder) => Finding::ok(CHECK, format!("{} can be written", folder.display())),
        Err(error) => Finding::failed(CHECK, error, "make the folder, and let the bridge's user write in it"),
    }
}

async fn mail(config: &Config) -> Finding {
    const CHECK: &str = "mail";
    let notifier = match config.notify.notifier(&config.queue) {
        Ok(Some(notifier)) => notifier,
        Ok(None) => return Finding::skipped(CHECK, "not configured: owners are not told (see [notify])"),
        Err(error) => return Finding::failed(CHECK, error.to_string(), "correct [notify]"),
    };
    match notifier.check().await {
        Ok(()) if config.notify.from.ends_with("@localhost>") => {
            let advice = "set notify.from to an address of yours, or servers may refuse the mail";
            Finding::warning(CHECK, "the server lets us in; the sender is at localhost", advice)
        }
        Ok(()) => Finding::ok(CHECK, "the server lets us in"),
        Err(error) => {
            let advice = "check [notify]: host, port and scheme (smtps: TLS at once, smtp: STARTTLS), user, password, CA";
            Finding::failed(CHECK, error, advice)
        }
    }
}
