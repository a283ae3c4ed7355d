//! `pulsehook store …`: backup, restore and inspection of the router's store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::ConfigArgs;
use crate::store;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy the store into a file, also while a router works with it.
    Backup(BackupArgs),
    /// Put a backup in the store's place. No router may be running on it; what was there is kept beside it.
    Restore(BackupArgs),
    /// Tell a store's format and whether it is whole. Exits with 1 if it is not.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file; the configured store if not given.
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl StoreCommand {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Backup(args) => {
                let path = args.config.load()?.store.path;
                store::backup(&path, &args.file)?;
                println!("{} copied to {}", path.display(), args.file.display());
            }
            Self::Restore(args) => {
                let path = args.config.load()?.store.path;
                let path = std::path::absolute(&path).unwrap_or(path);
                whole(&args.file)?;
                let kept = store::restore(&args.file, &path)?;
                println!("{} is now what {} was", path.display(), args.file.display());
                match kept {
                    Some(kept) => println!("what was there before is in {}", kept.display()),
                    None => println!("there was no store before: is this the store.path of your router?"),
                }
            }
            Self::Check(args) => {
                let path = match args.file {
                    Some(file) => file,
                    None => args.config.load()?.store.path,
                };
                println!("{}: {}", path.display(), whole(&path)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Describes a store that is whole, and of a format that this build knows.
fn whole(path: &Path) -> anyhow::Result<String> {
    let found = store::inspect(path).with_context(|| path.display().to_string())?;
    let Some(found) = found else { bail!("{} is not there", path.display()) };
    if let Some(fault) = found.fault {
        bail!("{} is damaged: {fault}", path.display());
    }
    if found.format > found.known || found.format < 1 {
        bail!("{} has format {}, this pulsehook knows 1 to {}", path.display(), found.format, found.known);
    }
    let use_ = if found.in_use { ", a router has it open" } else { "" };
    Ok(format!("whole, format {} of {}{use_}", found.format, found.known))
}
