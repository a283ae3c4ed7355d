//! All pages. Each is reached through [`super::visit`] alone, which has checked a form's token before its handler runs.

use std::pin::Pin;

use axum::routing::MethodFilter;

use super::page::Answer;
use super::refusal::Refusal;
use super::visit::Visit;
use super::{
    audit, dead, decision, edit, fire, hook, live, manage, new, overview, sign_in, sources, timeline, trigger,
};

/// A handler at work.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send>>;

/// One page, or what a form of one does.
pub(super) struct Page {
    /// The route, as axum writes it.
    pub route: &'static str,
    /// GET shows, POST does.
    pub method: MethodFilter,
    /// Does it.
    pub handler: fn(Visit) -> Answering,
}

const fn get(route: &'static str, handler: fn(Visit) -> Answering) -> Page {
    Page { route, method: MethodFilter::GET, handler }
}

const fn post(route: &'static str, handler: fn(Visit) -> Answering) -> Page {
    Page { route, method: MethodFilter::POST, handler }
}

/// The pages.
pub(super) static PAGES: &[Page] = &[
    get("/", |visit| Box::pin(overview::show(visit))),
    get("/sign-in", |visit| Box::pin(sign_in::form(visit))),
    post("/sign-in", |visit| Box::pin(sign_in::sign_in(visit))),
    post("/sign-out", |visit| Box::pin(sign_in::sign_out(visit))),
    get("/hooks", |visit| Box::pin(hook::list(visit))),
    get("/hooks/{group}", |visit| Box::pin(hook::list(visit))),
    get("/hooks/{group}/{hook}", |visit| Box::pin(hook::show(visit))),
    get("/hooks/{group}/{hook}/history", |visit| Box::pin(timeline::show(visit))),
    get("/hooks/{group}/{hook}/definition", |visit| Box::pin(hook::definition(visit))),
    get("/hooks/{group}/{hook}/fires/{task}", |visit| Box::pin(fire::show(visit))),
    post("/hooks/{group}/{hook}/fires/{task}", |visit| Box::pin(fire::again(visit))),
    get("/hooks/{group}/{hook}/fires/{task}/event", |visit| Box::pin(fire::event(visit))),
    get("/hooks/{group}/{hook}/fires/{task}/task", |visit| Box::pin(fire::task(visit))),
    get("/hooks/{group}/{hook}/decisions/{decision}", |visit| Box::pin(decision::show(visit))),
    get("/hooks/{group}/{hook}/seen/{seq}/event", |visit| Box::pin(decision::event(visit))),
    get("/hooks/{group}/{hook}/edit", |visit| Box::pin(edit::form(visit))),
    post("/hooks/{group}/{hook}/edit", |visit| Box::pin(edit::act(visit))),
    get("/hooks/{group}/{hook}/trigger", |visit| Box::pin(trigger::form(visit))),
    post("/hooks/{group}/{hook}/trigger", |visit| Box::pin(trigger::act(visit))),
    get("/hooks/{group}/{hook}/live", |visit| Box::pin(live::show(visit))),
    get("/hooks/{group}/{hook}/live/events", |visit| Box::pin(live::events(visit))),
    get("/hooks/{group}/{hook}/manage", |visit| Box::pin(manage::show(visit))),
    post("/hooks/{group}/{hook}/manage", |visit| Box::pin(manage::act(visit))),
    get("/hooks/{group}/{hook}/audit", |visit| Box::pin(audit::of_hook(visit))),
    get("/new", |visit| Box::pin(new::form(visit))),
    post("/new", |visit| Box::pin(new::act(visit))),
    get("/dead-letters", |visit| Box::pin(dead::show(visit))),
    post("/dead-letters", |visit| Box::pin(dead::act(visit))),
    get("/sources", |visit| Box::pin(sources::show(visit))),
    get("/sources/{source}", |visit| Box::pin(sources::one(visit))),
    get("/audit", |visit| Box::pin(audit::of_all(visit))),
];
