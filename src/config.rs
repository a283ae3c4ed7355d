//! Assembles the sections that each module owns: defaults from `config/pulsehook.toml` (compiled in, so that the
//! documentation cannot drift), a file over them, the environment over that. Every error is reported at once.

use std::net::SocketAddr;
use std::path::Path;

use config::{Config as Layers, Environment, File, FileFormat};
use pulse::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::router::decide::Limits;
use crate::{api, auth, notify, queue, router, store, telemetry, ui};

/// The defaults, with every option explained.
pub const DEFAULTS: &str = include_str!("../config/pulsehook.toml");

/// `[keys]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The deployment's secret for task ids.
    pub task_id: Secret,
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[pulse]`.
    pub pulse: pulse::Config,
    /// `[store]`.
    pub store: store::Config,
    /// `[queue]`.
    pub queue: queue::Config,
    /// `[api]`.
    pub api: api::Config,
    /// `[ui]`.
    pub ui: ui::Config,
    /// `[auth]`.
    pub auth: auth::Config,
    /// `[bridge]`.
    pub bridge: bridge::Config,
    /// `[keys]`.
    pub keys: Keys,
    /// `[router]`.
    pub router: router::Config,
    /// `[notify]`.
    pub notify: notify::Config,
    /// `[telemetry]`.
    pub telemetry: telemetry::Config,
    /// `[limits]`.
    pub limits: Limits,
}

/// Everything that is wrong with the configuration, a line each.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not usable:\n{}", .0.iter().map(|line| format!("  - {line}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// The shortest key for task ids, in bytes: 128 bits if it is random hex.
const SHORTEST_KEY: usize = 32;

/// Options that are lists of words, which a variable gives with commas between them; an empty variable is an empty list. Lists
/// of tables are a file's business.
const LISTS: [&str; 5] = [
    "api.denied_exchanges",
    "auth.anonymous",
    "bridge.trusted_proxies",
    "notify.deny",
    "telemetry.metrics_from",
];

const SECTIONS: [&str; 12] = [
    "pulse",
    "store",
    "queue",
    "api",
    "ui",
    "auth",
    "bridge",
    "keys",
    "router",
    "notify",
    "telemetry",
    "limits",
];

impl Config {
    /// Reads the layers. `file` is optional; `environment` gives the variables.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut builder = Layers::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(vec![format!("cannot read {}: {error}", path.display())]))?;
            // Parsed here first, because this error shows the line.
            if let Err(error) = text.parse::<toml::Table>() {
                return Err(ConfigError(vec![format!("{}: {error}", path.display())]));
            }
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let mut variables = config::Map::new();
        let mut lists = Vec::new();
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("PULSEHOOK_").filter(|key| key.contains("__")) else {
                continue;
            };
            match LISTS.into_iter().find(|list| *list == key.to_lowercase().replace("__", ".")) {
                Some(list) => lists.push((list, words(&value))),
                None => drop(variables.insert(name, value)),
            }
        }
        let variables = Environment::with_prefix("PULSEHOOK")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .source(Some(variables));
        let mut built = Ok(builder.add_source(variables));
        for (list, words) in lists {
            built = built.and_then(|builder| builder.set_override(list, words));
        }
        let layers = built
            .and_then(|builder| builder.build())
            .map_err(|error| ConfigError(vec![error.to_string()]))?;
        Self::assemble(&layers)
    }

    fn assemble(layers: &Layers) -> Result<Config, ConfigError> {
        let mut errors = Vec::new();
        let tables = layers.get::<std::collections::BTreeMap<String, config::Value>>("").or_else(|_| {
            layers.clone().try_deserialize::<std::collections::BTreeMap<String, config::Value>>()
        });
        if let Ok(tables) = &tables {
            for name in tables.keys().filter(|name| !SECTIONS.contains(&name.as_str())) {
                errors.push(format!("[{name}] is not a section; there are {}", SECTIONS.join(", ")));
            }
        }
        let pulse = section::<pulse::Config>(layers, "pulse", &mut errors);
        let store = section::<store::Config>(layers, "store", &mut errors);
        let queue = section::<queue::Config>(layers, "queue", &mut errors);
        let api = section::<api::Config>(layers, "api", &mut errors);
        if let Some(Err(error)) = api.as_ref().map(api::Config::check) {
            errors.push(error);
        }
        let ui = section::<ui::Config>(layers, "ui", &mut errors);
        if let Some(Err(error)) = ui.as_ref().map(ui::Config::check) {
            errors.push(error);
        }
        let auth = section::<auth::Config>(layers, "auth", &mut errors);
        let bridge = section::<bridge::Config>(layers, "bridge", &mut errors);
        let keys = section::<Keys>(layers, "keys", &mut errors);
        let router = section::<router::Config>(layers, "router", &mut errors);
        let notify = section::<notify::Config>(layers, "notify", &mut errors);
        let telemetry = section::<telemetry::Config>(layers, "telemetry", &mut errors);
        if let Some(Err(error)) = telemetry.as_ref().map(telemetry::Config::check) {
            errors.push(error);
        }
        let limits = match layers.get::<Limits>("limits") {
            Err(config::ConfigError::NotFound(_)) => Some(Limits::default()),
            _ => section::<Limits>(layers, "limits", &mut errors),
        };
        match (pulse, store, queue, api, ui, auth, bridge, keys, router, notify, telemetry, limits) {
            (
                Some(pulse),
                Some(store),
                Some(queue),
                Some(api),
                Some(ui),
                Some(auth),
                Some(bridge),
                Some(keys),
                Some(router),
                Some(notify),
                Some(telemetry),
                Some(limits),
            ) if errors.is_empty() => Ok(Config {
                pulse,
                store,
                queue,
                api,
                ui,
                auth,
                bridge,
                keys,
                router,
                notify,
                telemetry,
                limits,
            }),
            _ => Err(ConfigError(errors)),
        }
    }

    /// Who tells callers apart: as `[auth]` says, with the deployment of `[queue]`.
    pub fn authenticator(&self) -> Result<auth::Authenticator, Vec<String>> {
        let deployment = auth::Deployment {
            root_url: &self.queue.root_url,
            client_id: &self.queue.client_id,
            access_token: &self.queue.access_token,
            certificate: &self.queue.certificate,
        };
        auth::Authenticator::new(&self.auth, deployment)
            .map_err(|errors| errors.into_iter().map(|error| error.to_string()).collect())
    }

    /// The key for task ids, long enough to be one.
    pub fn task_id_key(&self) -> Result<Vec<u8>, String> {
        let key = self.keys.task_id.resolve().map_err(|error| format!("keys.task_id: {error}"))?;
        if key.len() < SHORTEST_KEY {
            return Err(format!(
                "keys.task_id: a key of at least {SHORTEST_KEY} characters is needed, this one has {} (`openssl rand -hex 32` makes one)",
                key.len()
            ));
        }
        Ok(key.into_bytes())
    }
}

fn section<T: DeserializeOwned>(layers: &Layers, name: &str, errors: &mut Vec<String>) -> Option<T> {
    match layers.get::<T>(name) {
        Ok(section) => Some(section),
        Err(error) => {
            errors.push(format!("[{name}] {error}"));
            None
        }
    }
}

/// What a variable gives for a list.
fn words(text: &str) -> config::Value {
    let origin = "the environment".to_owned();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let words = words.map(|word| config::Value::new(Some(&origin), word.to_owned()));
    config::Value::new(Some(&origin), words.collect::<Vec<_>>())
}

/// Refuses addresses that other machines can reach: for roles that let in whoever asks.
pub fn loopback_only(option: &str, address: SocketAddr) -> Result<(), String> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{option} = \"{address}\": only loopback addresses (127.0.0.1, [::1]) are taken, because the API lets in whoever asks"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pulsehook.toml");
        std::fs::write(&path, file).unwrap();
        Config::load(Some(&path), variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn the_shipped_file_is_complete_and_valid() {
        let config = Config::load(None, []).unwrap();
        assert_eq!(config.api.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.bridge.listen.to_string(), "127.0.0.1:8081");
    }

    #[test]
    fn a_file_is_laid_over_the_defaults_and_the_environment_over_both() {
        let config = load(
            "[queue]\nclient_id = \"a\"\nroot_url = \"http://file\"\n",
            &[
                ("PULSEHOOK_QUEUE__ROOT_URL", "http://variable"),
                ("PULSEHOOK_ROUTER__PENDING_FIRES", "7"),
                ("PULSEHOOK_TASK_ID_KEY", "not an option"),
            ],
        )
        .unwrap();
        assert_eq!(
            (config.queue.client_id.as_str(), config.queue.root_url.as_str()),
            ("a", "http://variable")
        );
        assert_eq!(config.router.pending_fires, 7);
    }

    #[test]
    fn a_variable_gives_a_list_of_words_with_commas() {
        let config = load(
            "",
            &[
                ("PULSEHOOK_BRIDGE__TRUSTED_PROXIES", "10.0.0.0/8,192.168.1.1/32"),
                ("PULSEHOOK_AUTH__ANONYMOUS", "hooks:list-hooks:*"),
                ("PULSEHOOK_QUEUE__ROOT_URL", "http://a,b"),
            ],
        )
        .unwrap();
        assert_eq!(config.bridge.trusted_proxies.len(), 2);
        assert_eq!(config.auth.anonymous, ["hooks:list-hooks:*"]);
        assert_eq!(config.queue.root_url, "http://a,b", "no list");
        let config = load(
            "[auth]\nanonymous = [\"*\"]\n",
            &[
                ("PULSEHOOK_API__DENIED_EXCHANGES", " exchange/a, exchange/b ,,"),
                ("PULSEHOOK_NOTIFY__DENY", "7"),
                ("PULSEHOOK_AUTH__ANONYMOUS", ""),
            ],
        )
        .unwrap();
        assert_eq!(config.api.denied_exchanges, ["exchange/a", "exchange/b"]);
        assert_eq!(config.notify.deny, ["7"]);
        assert!(config.auth.anonymous.is_empty(), "{:?}", config.auth.anonymous);
        // Every list of words of the shipped file is one of them.
        let table: toml::Table = DEFAULTS.parse().unwrap();
        let sections = table.iter().filter_map(|(name, section)| Some((name, section.as_table()?)));
        for (section, options) in sections {
            for (option, _) in options.iter().filter(|(_, value)| value.is_array()) {
                assert!(LISTS.contains(&format!("{section}.{option}").as_str()), "{section}.{option}");
            }
        }
    }

    #[test]
    fn every_error_is_told_at_once() {
        let error = load("[queue]\nroot = \"x\"\n[api]\nlisten = 5\n[nonsense]\na = 1\n", &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("[queue]") && text.contains("root"), "{text}");
        assert!(text.contains("[api]") && text.contains("[nonsense]"), "{text}");
    }

    #[test]
    fn a_short_key_is_refused_with_advice() {
        let config = load("[keys]\ntask_id = \"short\"\n", &[]).unwrap();
        assert!(config.task_id_key().unwrap_err().contains("openssl"));
    }
}
