//! The pulsehook binary: one executable, roles and tools as subcommands.

use std::process::ExitCode;

use clap::Parser as _;
use pulsehook::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
