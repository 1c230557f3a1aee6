//! Deliberately broken engines, to see that the tests catch them: a checker is believed only if it was seen to catch
//! something.
//!
//! Only under the private cfg `multiget_broken`, and then only the one that the environment names in `BROKEN`.
//! `.ci/broken` runs the tests against each of them. In every other build `broken!` is `false` at compile time.

macro_rules! broken {
    ($name:literal) => {
        $crate::broken::is($name)
    };
}
pub(crate) use broken;

#[cfg(not(multiget_broken))]
pub(crate) const fn is(_: &str) -> bool {
    false
}

#[cfg(multiget_broken)]
pub(crate) fn is(name: &str) -> bool {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var("BROKEN").ok()).as_deref() == Some(name)
}
