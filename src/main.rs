//! The pulsehook binary: one executable, roles and tools as subcommands.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use pulsehook::cli::Cli;

/// A message is some hundred small allocations, many of them freed on another thread: the system's allocator took a sixth of
/// the router's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
