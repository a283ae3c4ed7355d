//! The configuration file: whatever stands in it, the answer is a configuration or a list of errors.

#![no_main]

use std::cell::OnceCell;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use pulsehook::config::Config;

thread_local! {
    static FILE: OnceCell<PathBuf> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    FILE.with(|file| {
        let file = file
            .get_or_init(|| std::env::temp_dir().join(format!("pulsehook-fuzz-{}.toml", std::process::id())));
        std::fs::write(file, text).expect("the temporary folder can be written");
        match Config::load(Some(file), []) {
            Ok(config) => {
                // These look at the values again.
                let _ = config.authenticator();
                let _ = config.task_id_key();
            }
            Err(errors) => assert!(!errors.0.is_empty()),
        }
    });
});
