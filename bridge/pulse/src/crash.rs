//! Crash points, for tests: named places at which a process can be made to die as if somebody had pulled the plug.
//!
//! Between two writes to two different systems (store and broker, store and queue service) there is a moment in which one
//! knows and the other does not. Killing a process "sometime" hardly ever meets that moment; the environment
//! variable [`VARIABLE`], e.g. `router.recorded` or `router.recorded:5` for the fifth pass, meets it each time.
//!
//! This is compiled where `debug_assertions` are on, and is nothing at all elsewhere. A cargo feature would do as well, but
//! tests would then run another program than the one that everybody builds, and a release could be built with it by
//! accident. The state is global because a crash is: it concerns the process and nothing in it.

/// Names the point, and after a colon its how manieth pass, at which the process aborts. Read once; debug builds only.
pub const VARIABLE: &str = "PULSEHOOK_CRASH_AT";

/// The process passes this point. Ends it, without any destructor or flush, if [`VARIABLE`] asks for that.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Armed {
        name: String,
        passes_left: AtomicI64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn pass(name: &str) {
        let armed = ARMED.get_or_init(|| parse(&std::env::var(super::VARIABLE).ok()?));
        if let Some(armed) = armed
            && armed.name == name
            && armed.passes_left.fetch_sub(1, Ordering::AcqRel) == 1
        {
            eprintln!("crashing at {name}, as {} asks", super::VARIABLE);
            std::process::abort();
        }
    }

    fn parse(text: &str) -> Option<Armed> {
        let (name, pass) = text.split_once(':').unwrap_or((text, "1"));
        Some(Armed { name: name.to_owned(), passes_left: AtomicI64::new(pass.parse().ok()?) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_and_its_pass_are_read() {
            let armed = parse("router.recorded:5").unwrap();
            assert_eq!((armed.name.as_str(), armed.passes_left.into_inner()), ("router.recorded", 5));
            assert_eq!(parse("a").unwrap().passes_left.into_inner(), 1);
            assert!(parse("a:b").is_none());
        }
    }
}
