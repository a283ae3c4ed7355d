//! All metrics, with what they mean. Dashboards and alert rules name nothing else: a test holds them to this table.

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, in buckets.
    Seconds,
    /// Pieces, in buckets.
    Pieces,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it means, for people.
    pub help: &'static str,
}

/// Bounds of the buckets for seconds: from what memory takes to what only an outage takes.
pub const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// Bounds of the buckets for pieces.
pub const PIECES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Seconds, help }
}

/// Every metric of every role.
pub const METRICS: &[Metric] = &[
    gauge("pulsehook_build_info", "1, with version and role as labels."),
    // The router.
    counter(
        "pulsehook_router_messages_total",
        "Messages considered, by outcome: fire, repeat, or why there was no fire.",
    ),
    counter(
        "pulsehook_router_fires_total",
        "Fires that ended, by outcome: success, dead, cancelled, dropped.",
    ),
    seconds(
        "pulsehook_router_broker_wait_seconds",
        "From a message's timestamp, which has whole seconds, to its arrival at the router.",
    ),
    seconds("pulsehook_router_decide_seconds", "Filter, schema and template, as each message waits for it."),
    seconds("pulsehook_router_record_seconds", "Recording what was decided, until it is on disk."),
    seconds("pulsehook_router_submit_seconds", "One call of createTask."),
    seconds("pulsehook_router_fire_seconds", "From a fire being recorded to its end, retries included."),
    counter(
        "pulsehook_router_attempts_total",
        "Calls of createTask by result: created, conflict, refused, retry, outage.",
    ),
    gauge("pulsehook_router_pending_fires", "Fires recorded and not ended."),
    gauge("pulsehook_router_pending_bytes", "Rendered tasks of pending fires in memory, in bytes."),
    gauge(
        "pulsehook_router_dead_letters",
        "Dead letters that nobody has requeued or dropped (100,000 at most).",
    ),
    gauge("pulsehook_router_hooks", "Hooks."),
    gauge("pulsehook_router_refused_bindings", "Bindings that the broker refuses."),
    gauge("pulsehook_router_broken_queues", "Hooks whose queue does not stand or is not consumed."),
    gauge("pulsehook_router_held_hooks", "Hooks that pause because their fires keep failing."),
    gauge(
        "pulsehook_router_queue_service_up",
        "1 while the queue service works, 0 while nothing is submitted.",
    ),
    gauge(
        "pulsehook_router_clock_age_seconds",
        "Since the clock's last tick, or since the start without one.",
    ),
    gauge("pulsehook_router_queued_messages", "Messages that wait in all hooks' queues at the broker."),
    gauge(
        "pulsehook_router_queued_oldest_seconds",
        "At least so old is the oldest message that waits for any hook.",
    ),
    gauge(
        "pulsehook_router_hook_queued_messages",
        "Messages in a hook's queue, for the hooks with the fullest ones (telemetry.metrics_hooks).",
    ),
    gauge(
        "pulsehook_router_hook_oldest_seconds",
        "At least so old is the oldest message that waits for a hook.",
    ),
    counter("pulsehook_router_task_states_total", "Ends of tasks that came from hooks, by state."),
    // The store.
    seconds("pulsehook_store_commit_seconds", "One transaction, with its jobs and its fsync."),
    Metric {
        name: "pulsehook_store_commit_jobs",
        kind: Kind::Pieces,
        help: "Jobs that shared a transaction.",
    },
    counter("pulsehook_store_failed_commits_total", "Transactions that failed."),
    gauge("pulsehook_store_bytes", "Size of the store's file and its write-ahead log."),
    // The broker.
    gauge("pulsehook_pulse_up", "1 while the broker takes and gives messages."),
    counter(
        "pulsehook_pulse_connections_total",
        "Connections made to the broker, by use: publishing, consuming. More than one: it was lost in between.",
    ),
    counter(
        "pulsehook_pulse_published_total",
        "Messages published, by outcome: confirmed, unavailable, refused.",
    ),
    gauge("pulsehook_pulse_unconfirmed", "Published messages that the broker has not confirmed yet."),
    // Mail.
    counter("pulsehook_notices_total", "Failures whose owners are to be told, by kind."),
    counter("pulsehook_mail_total", "E-mail by outcome: sent, retried, refused, expired, denied."),
    gauge("pulsehook_mail_held_back", "Failures that wait for the next mail to their owner."),
    gauge("pulsehook_mail_waiting", "Mails that no server has taken yet."),
    // The bridge.
    counter("pulsehook_bridge_published_total", "Webhooks published, by source."),
    seconds("pulsehook_bridge_publish_seconds", "From a verified webhook to the broker's confirm."),
    counter("pulsehook_bridge_refused_total", "Webhooks refused, by source and code."),
    counter("pulsehook_bridge_repeats_total", "Repeats that were answered as before, by source."),
    counter(
        "pulsehook_bridge_repeated_bodies_total",
        "Bodies that came again under another delivery id, by source.",
    ),
    counter("pulsehook_bridge_held_back_total", "Webhooks held back by coalescing, by source."),
    counter("pulsehook_bridge_filtered_total", "Webhooks that the source's filter left out, by source."),
    counter(
        "pulsehook_bridge_filter_errors_total",
        "Webhooks on which the source's filter failed, by source.",
    ),
    counter("pulsehook_bridge_spooled_total", "Webhooks put into the spool, by source."),
    counter("pulsehook_bridge_unspooled_total", "Webhooks published from the spool, by source."),
    gauge("pulsehook_bridge_spool_events", "Events in the spool."),
    gauge("pulsehook_bridge_spool_bytes", "Bytes in the spool."),
    gauge("pulsehook_bridge_spool_oldest_seconds", "Age of the oldest event in the spool."),
    gauge("pulsehook_bridge_spool_refused", "Events that the broker refuses, set aside in the spool."),
];

/// The metric by that name, with the endings that histograms have.
pub fn find(name: &str) -> Option<&'static Metric> {
    let known = |name: &str| METRICS.iter().find(|metric| metric.name == name);
    known(name).or_else(|| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending))?;
        known(base).filter(|metric| matches!(metric.kind, Kind::Seconds | Kind::Pieces))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("pulsehook_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.kind != Kind::Seconds || name.ends_with("_seconds"), "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            assert_eq!(METRICS.iter().filter(|other| other.name == name).count(), 1, "{name}");
        }
        assert!(find("pulsehook_router_decide_seconds_bucket").is_some());
        assert!(find("pulsehook_router_hooks_bucket").is_none());
    }
}
