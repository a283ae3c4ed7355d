//! A hook's name: group and id, as Taskcluster Hooks allows them.

use std::fmt;
use std::str::FromStr;

/// The longest group id and the longest hook id, in bytes. Source: Taskcluster Hooks v1.
const MAX_LEN: usize = 1000;

/// `hookGroupId` and `hookId`. Displayed, and parsed, as `group/id`; an id may contain slashes, a group may not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookName {
    /// `hookGroupId`: `^[a-zA-Z0-9-_]{1,1000}$`.
    pub group: String,
    /// `hookId`: `^[a-zA-Z0-9-_/]{1,1000}$`.
    pub id: String,
}

/// A name that Taskcluster Hooks would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No slash between group and id.
    #[error("a hook is named <hookGroupId>/<hookId>; this name has no slash")]
    NoSlash,
    /// Wrong characters or length.
    #[error("hookGroupId must be 1 to {MAX_LEN} of the characters a-z A-Z 0-9 - _")]
    Group,
    /// Wrong characters or length.
    #[error("hookId must be 1 to {MAX_LEN} of the characters a-z A-Z 0-9 - _ /")]
    Id,
}

impl HookName {
    /// A checked name.
    pub fn new(group: impl Into<String>, id: impl Into<String>) -> Result<Self, InvalidName> {
        let (group, id) = (group.into(), id.into());
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if group.is_empty() || group.len() > MAX_LEN || !group.chars().all(word) {
            return Err(InvalidName::Group);
        }
        if id.is_empty() || id.len() > MAX_LEN || !id.chars().all(|c| word(c) || c == '/') {
            return Err(InvalidName::Id);
        }
        Ok(Self { group, id })
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.id)
    }
}

impl serde::Serialize for HookName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for HookName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for HookName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (group, id) = text.split_once('/').ok_or(InvalidName::NoSlash)?;
        Self::new(group, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_checked() {
        let name: HookName = "project-x/nightly/build_1".parse().unwrap();
        assert_eq!((name.group.as_str(), name.id.as_str()), ("project-x", "nightly/build_1"));
        assert_eq!(name.to_string(), "project-x/nightly/build_1");
        assert_eq!("x".parse::<HookName>(), Err(InvalidName::NoSlash));
        assert_eq!("/x".parse::<HookName>(), Err(InvalidName::Group));
        assert_eq!("x/".parse::<HookName>(), Err(InvalidName::Id));
        assert_eq!("x/a.b".parse::<HookName>(), Err(InvalidName::Id));
        assert!(HookName::new("g".repeat(1000), "h".repeat(1000)).is_ok());
        assert_eq!(HookName::new("g".repeat(1001), "h"), Err(InvalidName::Group));
    }
}
