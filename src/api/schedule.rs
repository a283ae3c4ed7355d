//! When a hook is due next.

use serde_json::Value;

use super::ApiError;
use super::endpoint::Call;
use super::hooks::find;

/// Moments that are shown unless the caller says otherwise, and at most.
const COUNT: (usize, usize) = (10, 1_000);

/// Checks `count`.
pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(count) if (1..=COUNT.1).contains(&count) => Ok(count),
        _ => Err("it must be a number from 1 to 1000"),
    }
}

/// The hook's next moments and how far the scheduler has come.
pub(super) async fn upcoming(call: Call) -> Result<Value, ApiError> {
    let row = find(&call.api, &call.name()?).await?;
    let count = call.query.get("count").and_then(|text| count(text).ok()).unwrap_or(COUNT.0);
    Ok(call.api.inner.router.upcoming(&row, count).await?.to_json())
}
