//! All methods of the API, in the order in which the reference lists them: Taskcluster Hooks v1, then what is ours.

use axum::http::Method;

use super::endpoint::{Endpoint, Parameter};
use super::{audit, fires, hooks, record, schedule, service, trigger};

const STATUS: &str = "Hook Status";
const HOOKS: &str = "Hooks";
const SERVICE: &str = "Monitoring";

const TOKEN: Parameter = Parameter {
    name: "continuationToken",
    description: "From the answer to the call before, for the next page.",
    check: |text| text.parse::<i64>().map(drop).map_err(|_| "it is not one of ours"),
};

const LIMIT: Parameter = Parameter {
    name: "limit",
    description: "Entries of a page, at most.",
    check: |text| match text.parse::<u32>() {
        Ok(limit) if limit > 0 => Ok(()),
        _ => Err("it must be a number above 0"),
    },
};

const COUNT: Parameter = Parameter {
    name: "count",
    description: "How many of the next moments to show, from 1 to 1000; 10 if absent.",
    check: |text| schedule::count(text).map(drop),
};

const WAIT: Parameter = Parameter {
    name: "wait",
    description: "For how many seconds to wait for the outcome, at most 60; 0: not at all. Past that time the answer has \
                  the task id, under which the task will be.",
    check: |text| trigger::wait_seconds(text).map(drop),
};

const IDEMPOTENCY_KEY: Parameter = Parameter {
    name: "Idempotency-Key",
    description: "The same key of the same client again is the same trigger, and answered as such: a retry is harmless.",
    check: |text| match text.len() {
        1..=255 => Ok(()),
        _ => Err("it must have 1 to 255 characters"),
    },
};

const HOOK_TOKEN: Parameter = Parameter {
    name: "X-Hook-Token",
    description: "The hook's token.",
    check: |text| if text.is_empty() { Err("it is empty") } else { Ok(()) },
};

/// What most methods have in common.
const BASE: Endpoint = Endpoint {
    name: "",
    method: Method::GET,
    route: "",
    query: &[],
    headers: &[],
    scopes: None,
    input: None,
    output: "empty-response",
    category: HOOKS,
    title: "",
    description: "",
    stability: "stable",
    handler: |call| Box::pin(service::empty(call)),
};

/// The methods.
pub static TABLE: &[Endpoint] = &[
    Endpoint {
        name: "ping",
        route: "/ping",
        output: "ping-response",
        category: SERVICE,
        title: "Ping Server",
        description: "Answers without doing anything: the service is up.",
        handler: |call| Box::pin(service::ping(call)),
        ..BASE
    },
    Endpoint {
        name: "lbheartbeat",
        route: "/__lbheartbeat__",
        category: SERVICE,
        title: "Load Balancer Heartbeat",
        description: "Answers without doing anything, for load balancers.",
        ..BASE
    },
    Endpoint {
        name: "version",
        route: "/__version__",
        output: "version-response",
        category: SERVICE,
        title: "Version",
        description: "Version and commit of the service.",
        handler: |call| Box::pin(service::version(call)),
        ..BASE
    },
    Endpoint {
        name: "heartbeat",
        route: "/__heartbeat__",
        category: SERVICE,
        title: "Heartbeat",
        description: "Answers when the service can use its store.",
        handler: |call| Box::pin(service::heartbeat(call)),
        ..BASE
    },
    Endpoint {
        name: "listHookGroups",
        route: "/hooks",
        scopes: Some(&["hooks:list-hooks:"]),
        output: "list-hook-groups-response",
        title: "List hook groups",
        description: "The groups that have hooks.",
        handler: |call| Box::pin(hooks::list_groups(call)),
        ..BASE
    },
    Endpoint {
        name: "listHooks",
        route: "/hooks/<hookGroupId>",
        scopes: Some(&["hooks:list-hooks:<hookGroupId>"]),
        output: "list-hooks-response",
        title: "List hooks in a given group",
        description: "The definitions of all hooks of a group.",
        handler: |call| Box::pin(hooks::list(call)),
        ..BASE
    },
    Endpoint {
        name: "hook",
        route: "/hooks/<hookGroupId>/<hookId>",
        scopes: Some(&["hooks:get:<hookGroupId>:<hookId>"]),
        output: "hook-definition",
        title: "Get hook definition",
        description: "The definition of one hook.",
        handler: |call| Box::pin(hooks::show(call)),
        ..BASE
    },
    Endpoint {
        name: "getHookStatus",
        route: "/hooks/<hookGroupId>/<hookId>/status",
        scopes: Some(&["hooks:status:<hookGroupId>/<hookId>"]),
        output: "hook-status",
        category: STATUS,
        title: "Get hook status",
        description: "What became of the hook's latest fire. `listLastFires` tells more.",
        stability: "deprecated",
        handler: |call| Box::pin(record::status(call)),
        ..BASE
    },
    Endpoint {
        name: "createHook",
        method: Method::PUT,
        route: "/hooks/<hookGroupId>/<hookId>",
        scopes: Some(MODIFY),
        input: Some("hook"),
        output: "hook-definition",
        title: "Create a hook",
        description: "Makes a hook. The same definition again is no error, another one under the name of a hook that there \
                      is is a conflict.",
        handler: |call| Box::pin(hooks::create(call)),
        ..BASE
    },
    Endpoint {
        name: "updateHook",
        method: Method::POST,
        description: "Replaces a hook's definition. Where it has no bindings the hook keeps those it has.",
        title: "Update a hook",
        ..UPDATE
    },
    Endpoint {
        name: "patchHook",
        method: Method::PATCH,
        description: "Another name for `updateHook`: the definition is replaced as a whole.",
        title: "Update a hook",
        ..UPDATE
    },
    Endpoint {
        name: "removeHook",
        method: Method::DELETE,
        route: "/hooks/<hookGroupId>/<hookId>",
        scopes: Some(&["hooks:modify-hook:<hookGroupId>/<hookId>"]),
        title: "Delete a hook",
        description: "Deletes a hook, its queue with the messages that wait in it, and its fires. It is no error if there \
                      is none.",
        handler: |call| Box::pin(hooks::remove(call)),
        ..BASE
    },
    Endpoint {
        name: "triggerHook",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/trigger",
        scopes: Some(TRIGGER),
        title: "Trigger a hook",
        description: "Fires the hook with this payload. The answer has the id of the task, or nothing when the hook \
                      declined.",
        handler: |call| Box::pin(trigger::by_client(call)),
        ..TRIGGERING
    },
    Endpoint {
        name: "getTriggerToken",
        route: "/hooks/<hookGroupId>/<hookId>/token",
        scopes: Some(&["hooks:get-trigger-token:<hookGroupId>/<hookId>"]),
        output: "trigger-token-response",
        title: "Get a trigger token",
        description: "The token with which anybody can trigger the hook.",
        handler: |call| Box::pin(trigger::token(call)),
        ..BASE
    },
    Endpoint {
        name: "resetTriggerToken",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/token",
        scopes: Some(&["hooks:reset-trigger-token:<hookGroupId>/<hookId>"]),
        output: "trigger-token-response",
        title: "Reset a trigger token",
        description: "Makes a new token; the one before is no longer good.",
        handler: |call| Box::pin(trigger::reset_token(call)),
        ..BASE
    },
    Endpoint {
        name: "triggerHookWithToken",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/trigger/<token>",
        title: "Trigger a hook with a token",
        description: "Fires the hook with this payload; the token in the path says that one may.",
        handler: |call| Box::pin(trigger::by_token_in_path(call)),
        ..TRIGGERING
    },
    Endpoint {
        name: "triggerHookWithTokenHeader",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/trigger-with-token",
        headers: &[IDEMPOTENCY_KEY, HOOK_TOKEN],
        title: "Trigger a hook with a token",
        description: "As `triggerHookWithToken`, with the token in the header X-Hook-Token: addresses end up in logs.",
        handler: |call| Box::pin(trigger::by_token_in_header(call)),
        ..TRIGGERING
    },
    Endpoint {
        name: "listLastFires",
        route: "/hooks/<hookGroupId>/<hookId>/last-fires",
        query: &[TOKEN, LIMIT],
        scopes: Some(READ),
        output: "list-last-fires-response",
        category: STATUS,
        title: "Get information about recent hook fires",
        description: "The hook's fires, newest first, up to 1000 a page.",
        handler: |call| Box::pin(record::last_fires(call)),
        ..BASE
    },
    Endpoint {
        name: "hookSchedule",
        route: "/hooks/<hookGroupId>/<hookId>/schedule",
        query: &[COUNT],
        scopes: Some(&["hooks:status:<hookGroupId>/<hookId>"]),
        output: "hook-schedule-response",
        category: STATUS,
        title: "Next moments of a hook's schedule",
        description: "The moments at which the hook is due next, in UTC, and how far the scheduler has come.",
        handler: |call| Box::pin(schedule::upcoming(call)),
        ..BASE
    },
    Endpoint {
        name: "listBindings",
        route: "/hooks/<hookGroupId>/<hookId>/bindings",
        scopes: Some(READ),
        output: "list-bindings-response",
        category: STATUS,
        title: "Health of a hook's bindings",
        description: "Each binding of the hook (its own trigger key first) and whether the broker took it; why its messages \
                      wait, if they do.",
        handler: |call| Box::pin(record::bindings(call)),
        ..BASE
    },
    Endpoint {
        name: "listDecisions",
        route: "/hooks/<hookGroupId>/<hookId>/decisions",
        query: &[TOKEN, LIMIT],
        scopes: Some(READ),
        output: "list-decisions-response",
        category: STATUS,
        title: "Why did it not fire?",
        description: "What became of recent messages that did not fire, newest first, each with the reason.",
        handler: |call| Box::pin(record::decisions(call)),
        ..BASE
    },
    Endpoint {
        name: "fire",
        route: "/hooks/<hookGroupId>/<hookId>/fires/<taskId>",
        scopes: Some(READ),
        output: "fire",
        category: STATUS,
        title: "One fire",
        description: "A fire with its message and its rendered task, for as long as they are kept.",
        handler: |call| Box::pin(fires::show(call)),
        ..BASE
    },
    Endpoint {
        name: "requeueFire",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/fires/<taskId>/requeue",
        scopes: Some(TRIGGER),
        output: "fire-response",
        category: STATUS,
        title: "Requeue a dead letter",
        description: "Renders a dead letter with the hook as it is now, and submits it under the same task id.",
        handler: |call| Box::pin(fires::requeue(call)),
        ..BASE
    },
    Endpoint {
        name: "dropFire",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/fires/<taskId>/drop",
        scopes: Some(&["hooks:modify-hook:<hookGroupId>/<hookId>"]),
        output: "fire-response",
        category: STATUS,
        title: "Drop a dead letter",
        description: "Marks a dead letter as not needed; its record stays.",
        handler: |call| Box::pin(fires::drop(call)),
        ..BASE
    },
    Endpoint {
        name: "replayFire",
        method: Method::POST,
        route: "/hooks/<hookGroupId>/<hookId>/fires/<taskId>/replay",
        scopes: Some(TRIGGER),
        input: Some("replay-fire-request"),
        output: "fire-response",
        category: STATUS,
        title: "Fire a recorded message again",
        description: "Under the same task id, which never makes a second task, or as a new fire.",
        handler: |call| Box::pin(fires::replay(call)),
        ..BASE
    },
    Endpoint {
        name: "listDeadLettersOfHook",
        route: "/hooks/<hookGroupId>/<hookId>/dead-letters",
        query: &[TOKEN, LIMIT],
        scopes: Some(READ),
        output: "list-dead-letters-response",
        category: STATUS,
        title: "Dead letters of a hook",
        description: "Messages of the hook that could not become tasks, newest first, up to 100 a page.",
        handler: |call| Box::pin(fires::dead_of_hook(call)),
        ..BASE
    },
    Endpoint {
        name: "listDeadLetters",
        route: "/dead-letters",
        query: &[TOKEN, LIMIT],
        scopes: Some(&["hooks:list-last-fires:*"]),
        output: "list-dead-letters-response",
        category: STATUS,
        title: "Dead letters of all hooks",
        description: "Messages that could not become tasks, newest first, up to 100 a page.",
        handler: |call| Box::pin(fires::dead(call)),
        ..BASE
    },
    Endpoint {
        name: "listAudit",
        route: "/hooks/<hookGroupId>/<hookId>/audit",
        query: &[TOKEN, LIMIT],
        scopes: Some(&["hooks:audit:<hookGroupId>/<hookId>"]),
        output: "list-audit-response",
        category: STATUS,
        title: "Audit trail of a hook",
        description: "Who made, changed, deleted or triggered the hook, or reset its token, and when; newest first, also of \
                      a hook that is deleted.",
        handler: |call| Box::pin(audit::list(call)),
        ..BASE
    },
];

const MODIFY: &[&str] =
    &["hooks:modify-hook:<hookGroupId>/<hookId>", "assume:hook-id:<hookGroupId>/<hookId>"];
const TRIGGER: &[&str] = &["hooks:trigger-hook:<hookGroupId>/<hookId>"];
const READ: &[&str] = &["hooks:list-last-fires:<hookGroupId>/<hookId>"];

const UPDATE: Endpoint = Endpoint {
    route: "/hooks/<hookGroupId>/<hookId>",
    scopes: Some(MODIFY),
    input: Some("hook"),
    output: "hook-definition",
    handler: |call| Box::pin(hooks::update(call)),
    ..BASE
};

const TRIGGERING: Endpoint = Endpoint {
    query: &[WAIT],
    headers: &[IDEMPOTENCY_KEY],
    input: Some("trigger-hook-request"),
    output: "trigger-hook-response",
    ..BASE
};
