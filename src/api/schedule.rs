//! When a hook is due next.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::Value;

use super::hooks::{find, named};
use super::{Api, ApiError, Code};

/// Moments that are shown unless the caller says otherwise, and at most.
const COUNT: (usize, usize) = (10, 1_000);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Count {
    count: Option<usize>,
}

/// `GET …/schedule?count=`: the hook's next moments and how far the scheduler has come.
pub(super) async fn upcoming(
    State(api): State<Api>,
    Path(path): Path<(String, String)>,
    Query(query): Query<Count>,
) -> Result<Json<Value>, ApiError> {
    let (name, info) = named("hookSchedule", path)?;
    let row = find(&api, &name, &info).await?;
    let count = query.count.unwrap_or(COUNT.0);
    if !(1..=COUNT.1).contains(&count) {
        let message = format!("count must be between 1 and {}", COUNT.1);
        return Err(ApiError::new(Code::InvalidRequestArguments, message).of(&info));
    }
    Ok(Json(api.inner.router.upcoming(&row, count).await?.to_json()))
}
