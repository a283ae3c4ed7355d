//! Small plots: stacked bars as SVG, drawn on the server. What they show is said in words beside them.

use serde_json::{Value, json};

use crate::router::activity::Minute;

/// Size of a plot, in its own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 90.0;

/// Room between bars.
const GAP: f64 = 1.0;

/// Bars from minutes, each of so many minutes, oldest first: `{width, height, bars: [{tone, x, y, width, height}], most, messages,
/// passed, tasks, dead}`.
pub(super) fn bars(minutes: &[Minute], each: usize) -> Value {
    let sums: Vec<[u64; 3]> = minutes
        .chunks(each.max(1))
        .map(|chunk| {
            let sum =
                |count: fn(&Minute) -> u32| chunk.iter().map(|minute| u64::from(count(minute))).sum::<u64>();
            [sum(|minute| minute.tasks), sum(|minute| minute.passed), sum(|minute| minute.dead)]
        })
        .collect();
    let total =
        |count: fn(&Minute) -> u32| minutes.iter().map(|minute| u64::from(count(minute))).sum::<u64>();
    let most = sums.iter().map(|sum| sum.iter().sum::<u64>()).max().unwrap_or(0);
    let step = WIDTH / sums.len().max(1) as f64;
    let mut bars = Vec::new();
    for (index, sum) in sums.iter().enumerate() {
        let mut bottom = HEIGHT;
        for (tone, count) in ["good", "idle", "bad"].into_iter().zip(sum) {
            if *count == 0 {
                continue;
            }
            // What is there is to be seen, however little it is.
            let height = (*count as f64 / most as f64 * HEIGHT).max(2.0);
            bottom -= height;
            let round = |value: f64| (value * 10.0).round() / 10.0;
            bars.push(json!({
                "tone": tone, "x": round(index as f64 * step), "y": round(bottom.max(0.0)),
                "width": round((step - GAP).max(0.5)), "height": round(height),
            }));
        }
    }
    json!({
        "width": WIDTH,
        "height": HEIGHT,
        "bars": bars,
        "most": most,
        "messages": total(|minute| minute.messages),
        "passed": total(|minute| minute.passed),
        "tasks": total(|minute| minute.tasks),
        "dead": total(|minute| minute.dead),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_stacked_within_the_plot() {
        let mut minutes = vec![Minute::default(); 60];
        minutes[59] = Minute { messages: 10, passed: 5, tasks: 4, dead: 1 };
        minutes[0] = Minute { messages: 1, passed: 1, ..Minute::default() };
        let plot = bars(&minutes, 1);
        assert_eq!((&plot["messages"], &plot["most"]), (&json!(11), &json!(10)));
        let drawn = plot["bars"].as_array().unwrap();
        assert_eq!(drawn.len(), 4);
        let last: f64 = drawn[1..].iter().map(|bar| bar["height"].as_f64().unwrap()).sum();
        assert!((last - HEIGHT).abs() < 0.5, "{last}");
        assert!(drawn.iter().all(|bar| bar["x"].as_f64().unwrap() + bar["width"].as_f64().unwrap() <= WIDTH));
        assert_eq!(bars(&[], 1)["bars"], json!([]));
    }
}
