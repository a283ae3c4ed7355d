//! Secrets by reference: `env:NAME`, `file:PATH`, or the literal value, never printed.

use serde::Deserialize;

/// A secret from the configuration. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Why a secret could not be read. The message names the reference, never a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// `env:NAME` where the variable is not set, is empty or is not UTF-8.
    #[error("environment variable {0} is not set (or is empty)")]
    Environment(String),
    /// `file:PATH` that cannot be read.
    #[error("cannot read the secret file {path}: {source}")]
    File {
        /// The path as configured.
        path: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

impl Secret {
    /// A secret from its reference or literal text.
    pub fn new(reference: impl Into<String>) -> Self {
        Self(reference.into())
    }

    /// True if nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value: the variable's, the file's without trailing line ends, or the literal itself.
    pub fn resolve(&self) -> Result<String, SecretError> {
        if let Some(name) = self.0.strip_prefix("env:") {
            match std::env::var(name) {
                Ok(value) if !value.is_empty() => Ok(value),
                _ => Err(SecretError::Environment(name.to_owned())),
            }
        } else if let Some(path) = self.0.strip_prefix("file:") {
            match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(source) => Err(SecretError::File { path: path.to_owned(), source }),
            }
        } else {
            Ok(self.0.clone())
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A reference is no secret and helps to find a mistake; a literal is.
        if self.0.starts_with("env:") || self.0.starts_with("file:") {
            write!(f, "Secret({})", self.0)
        } else {
            f.write_str("Secret(…)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_and_literals_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "from file\n").unwrap();
        assert_eq!(Secret::new(format!("file:{}", path.display())).resolve().unwrap(), "from file");
        assert_eq!(Secret::new("plain").resolve().unwrap(), "plain");
        assert_eq!(format!("{:?}", Secret::new("plain")), "Secret(…)");
        let missing = Secret::new("env:PULSEHOOK_NO_SUCH_VARIABLE").resolve().unwrap_err();
        assert!(missing.to_string().contains("PULSEHOOK_NO_SUCH_VARIABLE"));
    }
}
