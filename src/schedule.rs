//! Schedules: cron expressions, the moments that they stand for, and what to do about moments that were missed. No I/O.
//!
//! The dialect is that of the npm package cron-parser, which Taskcluster uses, always in UTC. An expression that is taken
//! here is taken there too and means the same moments; what would mean something else, or something that nobody can
//! foresee (`H`, fewer than five fields), is refused with the reason.

mod expression;
mod field;
pub mod plan;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::hook::Problem;
pub use expression::{Expression, ExpressionError};

/// `[router.schedule]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A scheduled time that is handled within so many seconds is on time: nothing was missed.
    pub on_time_seconds: u32,
    /// A missed time older than this, in seconds, never fires.
    pub missed_max_age_seconds: u32,
    /// Most missed times that a hook with `catchUp: all` fires for; the newest so many.
    pub catch_up_cap: u32,
}

/// The compiled expressions of one hook. A moment that several of them name is one moment.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    expressions: Vec<Expression>,
}

impl Schedule {
    /// Compiles a hook's `schedule`. All faults are reported at once, with their places.
    pub fn compile(expressions: &[String]) -> Result<Schedule, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut compiled = Vec::with_capacity(expressions.len());
        for (index, source) in expressions.iter().enumerate() {
            match Expression::parse(source) {
                Ok(expression) => compiled.push(expression),
                Err(error) => problems.push(Problem::new(format!("schedule[{index}]"), error.to_string())),
            }
        }
        if problems.is_empty() { Ok(Schedule { expressions: compiled }) } else { Err(problems) }
    }

    /// True without any expression: it never comes.
    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    /// The first moment after `time`; whole seconds. `None`: it never comes again (before the year 5000).
    pub fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.expressions.iter().filter_map(|expression| expression.next(time)).min()
    }

    /// The last moment before `time`.
    pub fn previous(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.expressions.iter().filter_map(|expression| expression.previous(time)).max()
    }

    /// The moments after `time`, in order, without end. Each expression is asked again only when its own moment has come.
    pub fn after(&self, time: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let mut ahead: BinaryHeap<_> = self
            .expressions
            .iter()
            .enumerate()
            .filter_map(|(index, expression)| Some(Reverse((expression.next(time)?, index))))
            .collect();
        std::iter::from_fn(move || {
            let Reverse((moment, _)) = *ahead.peek()?;
            while let Some(mut first) = ahead.peek_mut()
                && first.0.0 == moment
            {
                match self.expressions[first.0.1].next(moment) {
                    Some(next) => first.0.0 = next,
                    None => drop(PeekMut::pop(first)),
                }
            }
            Some(moment)
        })
    }

    /// The moments before `time`, newest first, in the same way.
    pub fn before(&self, time: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let mut behind: BinaryHeap<_> = self
            .expressions
            .iter()
            .enumerate()
            .filter_map(|(index, expression)| Some((expression.previous(time)?, index)))
            .collect();
        std::iter::from_fn(move || {
            let (moment, _) = *behind.peek()?;
            while let Some(mut first) = behind.peek_mut()
                && first.0 == moment
            {
                match self.expressions[first.1].previous(moment) {
                    Some(previous) => first.0 = previous,
                    None => drop(PeekMut::pop(first)),
                }
            }
            Some(moment)
        })
    }
}

#[cfg(test)]
mod tests;
