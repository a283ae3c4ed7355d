//! The pulsehook binary: one executable, roles and tools as subcommands.

use std::process::ExitCode;

use clap::Parser as _;
use pulsehook::cli::Cli;
use tikv_jemallocator::Jemalloc;

/// A message is some hundred small allocations, many of them freed on another thread: the system's allocator took a sixth of
/// the router's time.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Where the system hands out huge pages unasked, a busy router would hold a third more memory and be no faster.
    // A system that knows of none has none to refuse.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    Cli::parse().run()
}
