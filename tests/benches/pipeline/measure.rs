//! What a process used, from `/proc`, and percentiles.

use std::time::Duration;

/// Clock ticks per second in `/proc/<pid>/stat`: 100 on every Linux of the platforms that we build for.
const TICKS: f64 = 100.0;

/// What a process has used so far.
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Peak resident memory in MB.
    pub peak_mb: f64,
}

impl Usage {
    /// Of the process with this id; zero if it is gone.
    pub fn of(id: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name in parentheses, utime and stime are the 12th and 13th fields.
        let fields: Vec<f64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        let ticks = fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0);
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<f64>().ok())
            .unwrap_or(0.0);
        Self { cpu: Duration::from_secs_f64(ticks / TICKS), peak_mb: peak / 1024.0 }
    }
}

/// The value below which this part of the sorted values lies; 0 if there are none.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
