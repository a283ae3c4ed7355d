//! When a hook is due next.

use serde_json::Value;

use super::ApiError;
use super::endpoint::Call;
use super::hooks::find;

/// Times that are shown unless the caller says otherwise.
const COUNT: usize = 10;

/// Times that are shown at most.
const MOST: usize = 1_000;

/// The hook's next times and how far the scheduler has come.
pub(super) async fn upcoming(call: Call) -> Result<Value, ApiError> {
    let row = find(&call.api, &call.name()?).await?;
    let count = call.query.get("count").and_then(|text| self::count(text).ok()).unwrap_or(COUNT);
    Ok(call.api.inner.router.upcoming(&row, count).await?.to_json())
}

/// How many times are asked for.
pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(count @ 1..=MOST) => Ok(count),
        _ => Err("it must be a number from 1 to 1000"),
    }
}
