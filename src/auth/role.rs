//! Roles: `assume:<role id>` stands for the scopes of the role, as Taskcluster's auth service expands them.
//!
//! A role id with a final `*` is a role of every id with that prefix, and `<..>` in its scopes stands for the
//! rest. A scope `assume:…*` assumes every role below it; where the `*` becomes part of a `<..>`, it swallows
//! what follows, since the expansion of a wider scope must contain that of a narrower one. Roles must not
//! assume each other in a circle, whatever the parameter, so an expansion ends.

use std::collections::{BTreeSet, HashSet};

use super::scope::{ScopeSet, satisfies, valid};

/// What a parameterized role's scopes have in place of the parameter.
const PARAMETER: &str = "<..>";

/// Scopes in one expansion: far more than anybody has, and far less than what would hurt.
pub const MAX_EXPANSION: usize = 10_000;

/// What is wrong with a set of roles, or with an expansion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// A scope or role id is not printable ASCII, or `**` makes it ambiguous.
    #[error("{0:?} is not a scope: printable ASCII, with at most one * at its end")]
    Scope(String),
    /// The role id occurs twice.
    #[error("the role {0:?} is defined twice")]
    Twice(String),
    /// `<..>` where it has no meaning.
    #[error(
        "the role {role:?}: in {scope:?}, <..> may occur once, not after a *, and only if the role's id ends with *"
    )]
    Parameter {
        /// The role.
        role: String,
        /// Its scope.
        scope: String,
    },
    /// Roles that assume each other.
    #[error("roles must not assume each other in a circle: {}", .0.join(" → "))]
    Circle(Vec<String>),
    /// The expansion has too many scopes.
    #[error("the scopes expand to more than {MAX_EXPANSION}")]
    TooMany,
}

#[derive(Debug, Clone)]
struct Role {
    id: String,
    scopes: Vec<String>,
}

/// A set of roles that is known to be free of circles.
#[derive(Debug, Clone, Default)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Checks and keeps them; every mistake is reported. Pairs of role id and scopes.
    pub fn new(roles: impl IntoIterator<Item = (String, Vec<String>)>) -> Result<Self, Vec<RoleError>> {
        let roles: Vec<Role> = roles.into_iter().map(|(id, scopes)| Role { id, scopes }).collect();
        let mut errors = Vec::new();
        let mut seen = HashSet::new();
        for role in &roles {
            if !seen.insert(role.id.as_str()) {
                errors.push(RoleError::Twice(role.id.clone()));
            }
            if role.id.is_empty() || !well_formed(&role.id) {
                errors.push(RoleError::Scope(role.id.clone()));
            }
            for scope in &role.scopes {
                if !well_formed(scope) {
                    errors.push(RoleError::Scope(scope.clone()));
                }
                if !parameter_allowed(&role.id, scope) {
                    errors.push(RoleError::Parameter { role: role.id.clone(), scope: scope.clone() });
                }
            }
        }
        let roles = Self(roles);
        if errors.is_empty() {
            errors.extend(roles.circle());
        }
        if errors.is_empty() { Ok(roles) } else { Err(errors) }
    }

    /// The scopes with everything that their `assume:` scopes stand for.
    pub fn expand<'a>(&self, scopes: impl IntoIterator<Item = &'a str>) -> Result<ScopeSet, RoleError> {
        let mut all: BTreeSet<String> = scopes.into_iter().map(str::to_owned).collect();
        let mut waiting: Vec<String> = all.iter().cloned().collect();
        while let Some(scope) = waiting.pop() {
            for granted in self.granted(&scope) {
                if all.insert(granted.clone()) {
                    waiting.push(granted);
                }
            }
            if all.len() > MAX_EXPANSION {
                return Err(RoleError::TooMany);
            }
        }
        Ok(ScopeSet::new(all))
    }

    /// What one scope stands for, one step deep.
    fn granted<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = String> + 'a {
        self.0
            .iter()
            .filter_map(|role| Some((role, parameter(scope, &role.id)?)))
            .flat_map(|(role, parameter)| role.scopes.iter().map(move |scope| substitute(scope, &parameter)))
    }

    /// A circle among the roles, if there is one, taking each parameter for `*`, the worst case.
    fn circle(&self) -> Option<RoleError> {
        let next: Vec<Vec<usize>> = self
            .0
            .iter()
            .map(|role| {
                let scopes: Vec<String> = role.scopes.iter().map(|scope| substitute(scope, "*")).collect();
                let assumed = |other: &Role| scopes.iter().any(|scope| parameter(scope, &other.id).is_some());
                (0..self.0.len()).filter(|&other| assumed(&self.0[other])).collect()
            })
            .collect();
        let mut done = vec![false; self.0.len()];
        for start in 0..self.0.len() {
            // Depth first without recursion: the path holds each role with its place among its successors.
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            while let Some(&mut (role, ref mut place)) = path.last_mut() {
                let successor = next[role].get(*place).copied().filter(|_| !done[role]);
                *place += 1;
                let Some(successor) = successor else {
                    done[role] = true;
                    path.pop();
                    continue;
                };
                if let Some(first) = path.iter().position(|&(role, _)| role == successor) {
                    let mut circle: Vec<String> =
                        path[first..].iter().map(|&(role, _)| self.0[role].id.clone()).collect();
                    circle.push(self.0[successor].id.clone());
                    return Some(RoleError::Circle(circle));
                }
                path.push((successor, 0));
            }
        }
        None
    }
}

/// A scope, possibly with one final `*`.
pub(super) fn well_formed(scope: &str) -> bool {
    valid(scope) && !scope.ends_with("**")
}

fn parameter_allowed(role_id: &str, scope: &str) -> bool {
    match scope.split_once(PARAMETER) {
        None => true,
        Some((before, after)) => {
            role_id.ends_with('*') && !before.ends_with('*') && !after.contains(PARAMETER)
        }
    }
}

/// Whether `scope` assumes the role, and what `<..>` then stands for (nothing for a role without `*`).
fn parameter(scope: &str, role_id: &str) -> Option<String> {
    let assume = "assume:";
    // A scope such as `*` or `ass*` assumes every role.
    if let Some(prefix) = scope.strip_suffix('*')
        && assume.starts_with(prefix)
    {
        return Some("*".to_owned());
    }
    let assumed = scope.strip_prefix(assume)?;
    match role_id.strip_suffix('*') {
        Some(prefix) if assumed.starts_with(prefix) => Some(assumed[prefix.len()..].to_owned()),
        _ if satisfies(assumed, role_id) => Some("*".to_owned()),
        _ => None,
    }
}

fn substitute(scope: &str, parameter: &str) -> String {
    match scope.split_once(PARAMETER) {
        None => scope.to_owned(),
        Some((before, _)) if parameter.ends_with('*') => format!("{before}{parameter}"),
        Some((before, after)) => format!("{before}{parameter}{after}"),
    }
}

#[cfg(test)]
mod tests;
