//! The store: can its file be written, is it whole, does this version know its format?

use std::path::{Path, PathBuf};

use super::Finding;
use crate::store::{Config, Inspection, inspect};

const CHECK: &str = "store";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let path = config.path.display();
    if let Err(error) = writable_folder(&config.path) {
        let advice = "make the folder, and let the router's user write in it (store.path)";
        return vec![Finding::failed(CHECK, error, advice)];
    }
    match inspect(&config.path) {
        Ok(None) => vec![Finding::ok(CHECK, format!("{path} is not there yet; the router makes it"))],
        Ok(Some(Inspection { format, known, in_use, fault })) => {
            if let Some(fault) = fault {
                let advice = "stop the router and restore a backup (config/README.md, Backup and restore)";
                return vec![Finding::failed(CHECK, format!("{path} is damaged: {fault}"), advice)];
            }
            if format > known {
                let found = format!("{path} has format {format}, this pulsehook knows up to {known}");
                return vec![Finding::failed(CHECK, found, "use the newer version of pulsehook")];
            }
            let mut found = format!("{path} is whole");
            if format < known {
                found.push_str(&format!("; its format {format} becomes {known} at the next start"));
            }
            if in_use {
                found.push_str("; a router has it open, another one would stand by");
            }
            vec![Finding::ok(CHECK, found)]
        }
        Err(error) => {
            let advice = "let the router's user read and write it; is it a store of pulsehook?";
            vec![Finding::failed(CHECK, error.to_string(), advice)]
        }
    }
}

/// The folder of a file, once a file was made in it and removed again.
pub(super) fn writable_folder(path: &Path) -> Result<PathBuf, String> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let probe = folder.join(format!(".pulsehook-doctor-{}", uuid::Uuid::new_v4().simple()));
    let written = std::fs::write(&probe, b"pulsehook");
    // What was not made cannot be removed.
    let _ = std::fs::remove_file(&probe);
    written.map(|()| folder.clone()).map_err(|error| format!("cannot write in {}: {error}", folder.display()))
}
