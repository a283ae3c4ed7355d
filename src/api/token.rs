//! Trigger tokens: derived from the deployment's key, the hook and the number of resets, so that no store, backup or log
//! holds one. Changing `keys.task_id` changes them all.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Makes and checks tokens.
pub(super) struct TokenKey {
    keyed: Hmac<Sha256>,
}

impl TokenKey {
    /// From the deployment's secret for task ids. `store_id` keeps a store that was made anew apart from its former self.
    pub fn new(key: &[u8], store_id: &str) -> Self {
        let mut derive = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
        derive.update(b"pulsehook trigger token 1\0");
        derive.update(store_id.as_bytes());
        let derived = derive.finalize().into_bytes();
        Self { keyed: <Hmac<Sha256> as KeyInit>::new_from_slice(&derived).unwrap_or_else(|_| unreachable!()) }
    }

    /// The token of a hook that was reset so often.
    pub fn token(&self, incarnation: i64, resets: i64) -> String {
        let mut mac = self.keyed.clone();
        mac.update(&incarnation.to_be_bytes());
        mac.update(&resets.to_be_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Whether it is that token, in a time that does not tell how much of it is right.
    pub fn is_token(&self, given: &str, incarnation: i64, resets: i64) -> bool {
        self.token(incarnation, resets).as_bytes().ct_eq(given.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_hook_until_it_is_reset() {
        let key = TokenKey::new(b"key", "store");
        let token = key.token(1, 0);
        assert_eq!(token.len(), 43);
        assert!(key.is_token(&token, 1, 0));
        assert!(!key.is_token(&token, 1, 1) && !key.is_token(&token, 2, 0) && !key.is_token("", 1, 0));
        assert!(!TokenKey::new(b"other", "store").is_token(&token, 1, 0));
        assert!(!TokenKey::new(b"key", "another").is_token(&token, 1, 0));
    }
}
