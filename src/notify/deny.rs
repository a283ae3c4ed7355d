//! Addresses that get no mail: shell patterns in which `*` stands for anything, without regard to case.

/// A list of patterns.
pub(super) struct DenyList(Vec<String>);

impl DenyList {
    pub fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|pattern| pattern.to_lowercase()).collect())
    }

    /// Whether this address gets no mail.
    pub fn denies(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        self.0.iter().any(|pattern| matches(pattern, &address))
    }
}

/// Each part between stars must come after the one before; the first begins the text and the last ends it.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*').or(Some(("", rest))) else { return false };
    for part in middle.split('*') {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::DenyList;

    #[test]
    fn stars_stand_for_anything() {
        let deny = DenyList::new(&["*@example.com".into(), "no*reply@*.org".into(), "Exact@here.net".into()]);
        for denied in
            ["a@example.com", "A@EXAMPLE.COM", "noreply@x.org", "no-long-reply@a.b.org", "exact@here.net"]
        {
            assert!(deny.denies(denied), "{denied}");
        }
        for allowed in ["a@example.com.evil", "a@sub.example.org", "reply@x.org", "not-exact@here.net", ""] {
            assert!(!deny.denies(allowed), "{allowed}");
        }
    }
}
