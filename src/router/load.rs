//! How much is under way, and the bounds on it: beyond them messages wait in the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::Config;
use super::intake::Heard;
use super::registry::LiveHook;

/// Fires that are recorded, or about to be, and not ended.
#[derive(Default)]
pub(super) struct Load {
    pub fires: AtomicUsize,
    pub bytes: AtomicUsize,
    /// The intake waits for `fires` or `bytes` to fall.
    full: AtomicBool,
}

impl Load {
    /// True when no further message may be taken; the intake is woken when that has changed.
    pub fn is_full(&self, bounds: &Config) -> bool {
        if !self.exceeds(bounds) {
            return false;
        }
        self.full.store(true, Ordering::Release);
        // A fire may have ended between the two looks.
        self.exceeds(bounds)
    }

    fn exceeds(&self, bounds: &Config) -> bool {
        self.fires.load(Ordering::Acquire) >= bounds.pending_fires as usize
            || self.bytes.load(Ordering::Acquire) >= bounds.pending_megabytes as usize * 1024 * 1024
    }

    /// Counts fires of a hook that are about to be.
    pub fn reserve(&self, hook: &LiveHook, fires: usize) {
        self.fires.fetch_add(fires, Ordering::AcqRel);
        hook.shared.pending.fetch_add(fires, Ordering::AcqRel);
    }

    /// Counts them out again, and wakes the intake.
    pub fn release(&self, hook: &LiveHook, fires: usize, bytes: usize, heard: &mpsc::UnboundedSender<Heard>) {
        if fires == 0 {
            return;
        }
        self.fires.fetch_sub(fires, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        hook.shared.pending.fetch_sub(fires, Ordering::AcqRel);
        let of_hook = hook.shared.full.swap(false, Ordering::AcqRel);
        let of_all = self.full.swap(false, Ordering::AcqRel);
        if of_hook || of_all {
            // The intake ends before its tasks when the router stops.
            let _ = heard.send(Heard::Room(Arc::clone(&hook.queue)));
        }
    }
}
