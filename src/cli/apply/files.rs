//! Reads the files of `apply`, all of them before anything is done, and reports every fault with its file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::plan::{Action, Step};
use crate::cli::located::{self, lines};
use crate::hook::{Hook, HookFile, HookName};
use crate::router::decide::{Limits, Rules};

/// Endings of files that are taken from folders.
const ENDINGS: [&str; 3] = ["yml", "yaml", "json"];

/// A hook and where it stands.
pub(super) struct Found {
    pub hook: Hook,
    place: PathBuf,
    file: HookFile,
}

impl Found {
    /// Why the router refused the hook, with the places of its faults.
    pub fn refusal(&self, error: anyhow::Error) -> anyhow::Error {
        located::refusal(&self.place, &self.file, error)
    }
}

/// The hooks of all files, by name.
pub(super) type Hooks = BTreeMap<HookName, Found>;

/// Reads files, and folders with all that is below them.
pub(super) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Hooks> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, true, &mut files)?;
    }
    if files.is_empty() {
        bail!("no hook files (*.yml, *.yaml, *.json) in {}", paths[0].display());
    }
    let (mut hooks, mut faults) = (Hooks::new(), Vec::new());
    for place in files {
        match read(&place) {
            Err(more) => faults.extend(more),
            Ok(found) => {
                if let Some(other) = hooks.get(&found.hook.name) {
                    let name = &found.hook.name;
                    faults.push(format!("{}: {name} is in {} too", place.display(), other.place.display()));
                } else {
                    hooks.insert(found.hook.name.clone(), found);
                }
            }
        }
    }
    if faults.is_empty() { Ok(hooks) } else { Err(refused(&faults)) }
}

fn refused(faults: &[String]) -> anyhow::Error {
    anyhow!("nothing was changed, because not all files are valid\n{}", faults.join("\n"))
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_dir() {
        let entries = path.read_dir().with_context(|| format!("cannot read {}", path.display()))?;
        let mut entries: Vec<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        entries.sort();
        for entry in entries {
            collect(&entry, false, files)?;
        }
    } else if named || path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
        files.push(path.to_owned());
    }
    Ok(())
}

fn read(place: &Path) -> Result<Found, Vec<String>> {
    let one = |error: String| vec![format!("{}: {error}", place.display())];
    let text = std::fs::read_to_string(place).map_err(|error| one(error.to_string()))?;
    let file = HookFile::parse(&text).map_err(|error| one(error.to_string()))?;
    let hook = file.hook(None).map_err(|problems| lines(place, &file, &problems))?;
    Ok(Found { hook, place: place.to_owned(), file })
}

/// Compiles filter, schema and template of each hook that is to be saved; what stands already did compile.
pub(super) fn check_templates(hooks: &Hooks, steps: &[Step]) -> anyhow::Result<()> {
    let limits = Limits::default();
    let saved = steps.iter().filter(|step| !matches!(step.action, Action::Delete));
    let faults: Vec<String> = saved
        .filter_map(|step| hooks.get(&step.name))
        .filter_map(|found| {
            let problems = Rules::compile(&found.hook, &limits).err()?;
            Some(lines(&found.place, &found.file, &problems))
        })
        .flatten()
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(refused(&faults)) }
}
