//! Slugids by label: the same label gives the same slugid within one fire, another fire gives another.
//!
//! They are derived from the task id, which nobody outside can predict, and the label, so that a fire rendered again
//! (after a crash, or for freshness) gets the same ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The slugid of `label` in the fire of `task_id`: a v4-shaped UUID in URL-safe base64 without padding, 22 characters.
/// As Taskcluster's "nice" slugids, it never starts with `-`.
pub fn slugid(task_id: &str, label: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"pulsehook slugid v1\0");
    hash.update((task_id.len() as u64).to_be_bytes());
    hash.update(task_id.as_bytes());
    hash.update(label.as_bytes());
    let digest = hash.finalize();
    let mut uuid = [0u8; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[0] &= 0x7f;
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    URL_SAFE_NO_PAD.encode(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_fires_make_slugids() {
        let shape = regex::Regex::new(
            "^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$",
        )
        .unwrap();
        for index in 0..500 {
            let id = slugid("task", &index.to_string());
            assert!(shape.is_match(&id), "{id}");
            assert!(!id.starts_with('-'));
        }
        assert_eq!(slugid("task", "a"), slugid("task", "a"));
        assert_ne!(slugid("task", "a"), slugid("task", "b"));
        assert_ne!(slugid("task", "a"), slugid("other", "a"));
        assert_ne!(slugid("task", "1a"), slugid("task1", "a"));
    }
}
