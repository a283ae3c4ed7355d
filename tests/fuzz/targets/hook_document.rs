//! Hook documents, in YAML or JSON: a document that is taken comes back from its own JSON as the same document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsehook::hook::Hook;
use pulsehook::hook::HookFile;

fuzz_target!(|text: &str| {
    let Ok(file) = HookFile::parse(text) else { return };
    let name = "fuzz/hook".parse().expect("a valid name");
    match file.hook(Some(&name)) {
        Ok(hook) => {
            let json = hook.to_json();
            let again = Hook::from_json(&name, &json).expect("what a hook writes it reads");
            assert_eq!(again.to_json(), json);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for located in file.locate(&problems) {
                assert!(!located.problem.message.is_empty());
            }
        }
    }
});
