//! Routes and documents say the same, because both are made from the table; what a table cannot force is checked here.

use std::collections::BTreeSet;

use axum::routing::MethodFilter;

use super::*;
use crate::api::schemas;
use crate::api::table::TABLE;

#[test]
fn each_method_stands_in_both_documents_with_schemas_that_exist() {
    assert_eq!(taskcluster()["entries"].as_array().unwrap().len(), TABLE.len());
    let mut names = BTreeSet::new();
    for endpoint in TABLE {
        let name = endpoint.name;
        assert!(names.insert(name), "{name} stands there twice");
        assert!(MethodFilter::try_from(endpoint.method.clone()).is_ok(), "{name}");
        for schema in endpoint.input.iter().chain([&endpoint.output]) {
            assert!(schemas::document(schema).is_some(), "{name}: no schema {schema}");
        }
        assert!(!endpoint.title.is_empty() && !endpoint.description.is_empty(), "{name}");
        let method = endpoint.method.as_str().to_ascii_lowercase();
        assert_eq!(openapi()["paths"][endpoint.axum_route()][&method]["operationId"], name);
        for scope in endpoint.scopes.unwrap_or_default() {
            let filled = endpoint
                .route_params()
                .fold(scope.to_string(), |scope, param| scope.replace(&format!("<{param}>"), ""));
            assert!(!filled.contains('<'), "{name}: {scope} names no parameter of the route");
        }
    }
    let operations: usize =
        openapi()["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(operations, TABLE.len());
}

/// Taskcluster Hooks v1 as its clients know it: method, route, name, scopes.
#[test]
fn all_of_taskcluster_hooks_is_there() {
    let wanted = [
        ("get", "/ping", "ping", ""),
        ("get", "/hooks", "listHookGroups", "hooks:list-hooks:"),
        ("get", "/hooks/<hookGroupId>", "listHooks", "hooks:list-hooks:<hookGroupId>"),
        ("get", "/hooks/<hookGroupId>/<hookId>", "hook", "hooks:get:<hookGroupId>:<hookId>"),
        (
            "get",
            "/hooks/<hookGroupId>/<hookId>/status",
            "getHookStatus",
            "hooks:status:<hookGroupId>/<hookId>",
        ),
        ("put", "/hooks/<hookGroupId>/<hookId>", "createHook", "both"),
        ("post", "/hooks/<hookGroupId>/<hookId>", "updateHook", "both"),
        ("delete", "/hooks/<hookGroupId>/<hookId>", "removeHook", "hooks:modify-hook:<hookGroupId>/<hookId>"),
        (
            "post",
            "/hooks/<hookGroupId>/<hookId>/trigger",
            "triggerHook",
            "hooks:trigger-hook:<hookGroupId>/<hookId>",
        ),
        (
            "get",
            "/hooks/<hookGroupId>/<hookId>/token",
            "getTriggerToken",
            "hooks:get-trigger-token:<hookGroupId>/<hookId>",
        ),
        (
            "post",
            "/hooks/<hookGroupId>/<hookId>/token",
            "resetTriggerToken",
            "hooks:reset-trigger-token:<hookGroupId>/<hookId>",
        ),
        ("post", "/hooks/<hookGroupId>/<hookId>/trigger/<token>", "triggerHookWithToken", ""),
        (
            "get",
            "/hooks/<hookGroupId>/<hookId>/last-fires",
            "listLastFires",
            "hooks:list-last-fires:<hookGroupId>/<hookId>",
        ),
    ];
    for (method, route, name, scopes) in wanted {
        let entries = taskcluster()["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((entry["method"].as_str(), entry["route"].as_str()), (Some(method), Some(route)));
        match scopes {
            "" => assert!(entry.get("scopes").is_none(), "{name}"),
            "both" => assert_eq!(
                entry["scopes"]["AllOf"],
                serde_json::json!([
                    "hooks:modify-hook:<hookGroupId>/<hookId>",
                    "assume:hook-id:<hookGroupId>/<hookId>"
                ])
            ),
            one => assert_eq!(entry["scopes"], one),
        }
    }
}
