//! A key on its way: its text, and whether that may travel.
//!
//! Owns: what of a key is sent, percent-encoding, and the rules that keep an id from being more than an id. Refuses to
//! know: the rest of a request.
//! Invariant: an id that passed [`Guard::check`] cannot change the structure of what it is put into, also for a server
//! that undoes percent-encoding before it looks for separators.
#![warn(clippy::arithmetic_side_effects)]

use serde::Serialize;
use serde_json::Value;

use super::failure::{HttpError, HttpErrorKind};

/// A key as text: a text itself, an integer in decimal digits, or a boolean.
///
/// # Examples
///
/// ```
/// use multiget::http::Id;
///
/// assert_eq!(Id::of(&7_u64)?.as_str(), "7");
/// assert_eq!(Id::of(&"a b")?.as_str(), "a b");
/// assert!(Id::of(&[1, 2]).is_err()); // a list is no id
/// # Ok::<(), multiget::http::HttpError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// The id of a key.
    ///
    /// # Errors
    ///
    /// [`HttpErrorKind::Key`] if the key serializes to anything but a text, an integer or a boolean.
    pub fn of<K: Serialize + ?Sized>(key: &K) -> Result<Self, HttpError> {
        match serde_json::to_value(key) {
            Ok(Value::String(text)) => Ok(Self(text)),
            Ok(Value::Number(number)) if !number.is_f64() => Ok(Self(number.to_string())),
            Ok(Value::Bool(bool)) => Ok(Self(bool.to_string())),
            _ => Err(HttpErrorKind::Key.because("it is neither a text nor an integer")),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Id {
    /// Shows that it is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Id(..)")
    }
}

/// Percent-encodes what is neither a letter, a digit, one of `-._~` (RFC 3986, section 2.3), nor in `safe`.
pub(super) fn percent(out: &mut String, text: &str, safe: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        let char = char::from(byte);
        if char.is_ascii_alphanumeric() || "-._~".contains(char) || byte.is_ascii() && safe.contains(char) {
            out.push(char);
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].iter().filter_map(|half| HEX.get(usize::from(*half))));
        }
    }
}

/// What ids must not have in them where they are put.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each forbids something else")]
pub(super) struct Guard {
    /// An empty one may mean "all".
    pub(super) not_empty: bool,
    /// It is a segment of a path.
    pub(super) segment: bool,
    /// No control characters.
    pub(super) no_control: bool,
    /// No blanks and no quotes: nothing shows where it ends but what is in `apart`.
    pub(super) bare: bool,
    /// Texts between which ids stand.
    pub(super) apart: Vec<String>,
    /// Characters that would be structure.
    pub(super) chars: String,
    /// Only integers, written as such.
    pub(super) int: bool,
}

impl Guard {
    /// Why it must not be sent, if so.
    pub(super) fn check(&self, id: &Id) -> Result<(), HttpError> {
        let text = id.as_str();
        let is_int = || {
            text.parse::<i64>().is_ok_and(|int| int.to_string() == text)
                || text.parse::<u64>().is_ok_and(|int| int.to_string() == text)
        };
        let why = if self.int && !is_int() {
            "it is no integer"
        } else if self.not_empty && text.is_empty() {
            "it is empty"
        } else if self.segment && (text == "." || text == ".." || text.contains(['/', '\\'])) {
            "it would lead elsewhere as a part of a path"
        } else if (self.no_control || self.segment || self.bare) && text.contains(char::is_control) {
            "it has a control character in it"
        } else if self.bare && text.contains(|char: char| char.is_whitespace() || "'\"`\\".contains(char)) {
            "it has a blank or a quote in it"
        } else if text.contains(|char| self.chars.contains(char)) || self.apart.iter().any(|apart| text.contains(apart))
        {
            "it has in it what stands between keys or around them"
        } else {
            return Ok(());
        };
        Err(HttpErrorKind::Key.because(why))
    }
}

/// A key in a template: what is around it, and what becomes of its characters.
#[derive(Clone, Debug)]
pub(super) struct Item {
    before: String,
    after: String,
    escape: Vec<(String, String)>,
}

impl Item {
    pub(super) fn new(item: &str, escape: &[(String, String)]) -> Option<Self> {
        let (before, after) = item.split_once("{}").filter(|(_, after)| !after.contains("{}"))?;
        let mut escape = escape.to_vec();
        escape.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Some(Self { before: before.into(), after: after.into(), escape })
    }

    /// What an id must not have in it. Between quotes, what ends them, unless it is escaped; and what an escape begins
    /// with, unless that is.
    pub(super) fn guard(&self, prefix: &str, sep: &str, suffix: &str) -> Guard {
        let escaped = |char: &char| self.escape.iter().any(|(from, _)| from.chars().eq([*char]));
        let lead = self.escape.iter().filter_map(|(_, to)| to.chars().next());
        if let Some(closing) = self.after.chars().next().filter(|closing| "'\"`".contains(*closing)) {
            let chars = lead.chain([closing]).filter(|char| !escaped(char)).collect();
            return Guard { chars, ..Guard::default() };
        }
        let around = [prefix, &self.after, suffix, sep].concat();
        let structure = around.chars().filter(|char| !char.is_alphanumeric() && !"-._~".contains(*char));
        let chars = structure.chain(lead.filter(|char| !escaped(char))).collect();
        Guard { not_empty: true, bare: true, apart: vec![sep.into()], chars, ..Guard::default() }
    }

    /// One pass, the longest first: what an escape wrote is not escaped again.
    pub(super) fn write(&self, out: &mut String, text: &str) {
        out.push_str(&self.before);
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            let found = self.escape.iter().find_map(|(from, to)| Some((rest.strip_prefix(from.as_str())?, to)));
            rest = if let Some((behind, to)) = found {
                out.push_str(to);
                behind
            } else {
                out.push(char);
                rest.get(char.len_utf8()..).unwrap_or_default()
            };
        }
        out.push_str(&self.after);
    }
}
