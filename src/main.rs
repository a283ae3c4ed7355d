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
    // The allocator asks for huge pages, with which a busy router holds half as much memory again and is no faster.
    // A system that knows of none has none to refuse.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    Cli::parse().run()
}
