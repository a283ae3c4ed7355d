//! Role expansion: Taskcluster's documented examples, circles, and the laws that hold for any set of roles.

use proptest::prelude::*;

use super::*;

fn roles(list: &[(&str, &[&str])]) -> Result<Roles, Vec<RoleError>> {
    Roles::new(list.iter().map(|(id, scopes)| {
        ((*id).to_owned(), scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>())
    }))
}

fn expanded(list: &[(&str, &[&str])], scopes: &[&str]) -> Vec<String> {
    roles(list).unwrap().expand(scopes.iter().copied()).unwrap().as_slice().to_vec()
}

#[test]
fn roles_assume_roles() {
    let list: &[(&str, &[&str])] = &[
        ("group:admins", &["admin-scope-1", "admin-scope-2", "assume:group:devs"]),
        ("group:devs", &["dev-scope"]),
    ];
    assert_eq!(
        expanded(list, &["assume:group:admins", "my-scope"]),
        [
            "admin-scope-1",
            "admin-scope-2",
            "assume:group:admins",
            "assume:group:devs",
            "dev-scope",
            "my-scope"
        ]
    );
}

#[test]
fn stars_match_in_both_directions() {
    let auth: &[(&str, &[&str])] = &[("repo:github.com/tc/tc-auth", &["secrets:get:auth-tests"])];
    assert_eq!(
        expanded(auth, &["assume:repo:github.com/tc/*"]),
        ["assume:repo:github.com/tc/*", "secrets:get:auth-tests"]
    );
    assert_eq!(expanded(auth, &["*"]), ["*"]);
    assert_eq!(expanded(auth, &["assume:repo:github.com/other/*"]), ["assume:repo:github.com/other/*"]);
    let hooks: &[(&str, &[&str])] = &[("hook-id:ci/*", &["queue:create-task:low:p/w"])];
    assert_eq!(
        expanded(hooks, &["assume:hook-id:ci/nightly"]),
        ["assume:hook-id:ci/nightly", "queue:create-task:low:p/w"]
    );
    assert_eq!(expanded(hooks, &["assume:hook-id:c"]), ["assume:hook-id:c"]);
}

#[test]
fn parameters_are_filled_in() {
    let list: &[(&str, &[&str])] =
        &[("project-admin:*", &["auth:create-role:project-<..>/*", "secrets:get:project/<..>/*"])];
    assert_eq!(
        expanded(list, &["assume:project-admin:zap"]),
        ["assume:project-admin:zap", "auth:create-role:project-zap/*", "secrets:get:project/zap/*"]
    );
    assert_eq!(
        expanded(list, &["assume:project-admin:ops*"]),
        ["assume:project-admin:ops*", "auth:create-role:project-ops*", "secrets:get:project/ops*"]
    );
    assert_eq!(
        expanded(list, &["assume:project*"]),
        ["assume:project*", "auth:create-role:project-*", "secrets:get:project/*"]
    );
}

#[test]
fn circles_are_refused() {
    let circle = |list: &[(&str, &[&str])]| match roles(list).unwrap_err().remove(0) {
        RoleError::Circle(path) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(circle(&[("a", &["assume:a"])]), ["a", "a"]);
    assert_eq!(circle(&[("a", &["assume:b"]), ("b", &["assume:c"]), ("c", &["assume:b"])]), ["b", "c", "b"]);
    assert_eq!(circle(&[("a*", &["assume:b<..>"]), ("bx", &["assume:ay"])]), ["a*", "bx", "a*"]);
    assert_eq!(circle(&[("x*", &["assume:x<..>y"])]), ["x*", "x*"]);
    // A diamond is no circle.
    roles(&[("a", &["assume:b", "assume:c"]), ("b", &["assume:d"]), ("c", &["assume:d"]), ("d", &[])])
        .unwrap();
}

#[test]
fn every_mistake_is_reported() {
    let errors = roles(&[
        ("a", &["x<..>"]),
        ("a", &["ü"]),
        ("b*", &["<..><..>", "x*<..>", "y**", "<..>"]),
        ("", &[]),
        ("z**", &[]),
    ])
    .unwrap_err();
    assert_eq!(errors.len(), 8, "{errors:?}");
    assert!(errors.contains(&RoleError::Twice("a".into())));
}

#[test]
fn an_expansion_is_bounded() {
    let many = Roles::new([("a".to_owned(), (0..MAX_EXPANSION).map(|n| n.to_string()).collect())]).unwrap();
    assert_eq!(many.expand(["assume:a"]), Err(RoleError::TooMany));
}

fn scope() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}\\*?", "assume:[ab]{0,3}\\*?", "ass\\*"]
}

fn some_roles() -> impl Strategy<Value = Roles> {
    let granted = prop_oneof![scope(), "(assume:)?[ab]<\\.\\.>[ab]?\\*?"];
    let role = ("[ab]{1,3}\\*?", prop::collection::vec(granted, 0..3));
    prop::collection::vec(role, 0..5)
        .prop_filter_map("roles must be well formed", |roles| Roles::new(roles).ok())
}

proptest! {
    #[test]
    fn an_expansion_contains_its_scopes_and_expands_no_further(
        roles in some_roles(), scopes in prop::collection::vec(scope(), 0..3),
    ) {
        let once = roles.expand(scopes.iter().map(String::as_str)).unwrap();
        for scope in &scopes {
            prop_assert!(once.satisfies(scope));
        }
        let twice = roles.expand(once.as_slice().iter().map(String::as_str)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn more_scopes_never_expand_to_less(roles in some_roles(), wide in scope(), narrow in scope()) {
        if satisfies(&wide, &narrow) {
            let wide = roles.expand([wide.as_str()]).unwrap();
            for scope in roles.expand([narrow.as_str()]).unwrap().as_slice() {
                prop_assert!(wide.satisfies(scope), "{:?} lacks {}", wide, scope);
            }
        }
    }
}
