//! A source's counters. Handles are made once, when the source is: counting an event is an addition and no look-up.

use metrics::{Counter, counter};

/// See `src/telemetry/names.rs` for what each means.
pub struct Counters {
    pub published: Counter,
    pub repeats: Counter,
    pub repeated_bodies: Counter,
    pub held_back: Counter,
    pub filtered: Counter,
    pub filter_errors: Counter,
    pub spooled: Counter,
}

impl Counters {
    /// The counters of the source by this name.
    pub fn new(source: &str) -> Self {
        let source = source.to_owned();
        // Counted where the spool is emptied, by name; made here so that it is told from the start.
        drop(counter!("pulsehook_bridge_unspooled_total", "source" => source.clone()));
        Self {
            published: counter!("pulsehook_bridge_published_total", "source" => source.clone()),
            repeats: counter!("pulsehook_bridge_repeats_total", "source" => source.clone()),
            repeated_bodies: counter!("pulsehook_bridge_repeated_bodies_total", "source" => source.clone()),
            held_back: counter!("pulsehook_bridge_held_back_total", "source" => source.clone()),
            filtered: counter!("pulsehook_bridge_filtered_total", "source" => source.clone()),
            filter_errors: counter!("pulsehook_bridge_filter_errors_total", "source" => source.clone()),
            spooled: counter!("pulsehook_bridge_spooled_total", "source" => source),
        }
    }
}
