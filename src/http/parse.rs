//! A configuration out of a text.
//!
//! Owns: the two formats, and an error that says where and what else was meant. Refuses to know: what fields mean.
#![warn(clippy::arithmetic_side_effects)]

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{model::HttpConfig, strict};
use crate::config::{self, ConfigError};

impl HttpConfig {
    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is no TOML, and for a field that there is not, or whose value is of another type.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let read = toml::from_str(text).map_err(|error| {
            // the text of such an error shows the line; its message does not
            let line = error.span().and_then(|span| text.get(..span.start)).map_or(0, |before| before.lines().count());
            refused("http", &format!("written as in line {}", line.max(1)), &format!("TOML ({})", error.message()))
        });
        Self::from_value(read?)
    }

    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is no JSON, and for a field that there is not, or whose value is of another type.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let read = strict::parse(text.as_bytes());
        Self::from_value(read.map_err(|_| refused("http", "what it is", "JSON without repeated names"))?)
    }

    /// Reads what another format came to.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a field that there is not, or whose value is of another type.
    ///
    /// # Examples
    ///
    /// ```
    /// use multiget::http::HttpConfig;
    ///
    /// let error = HttpConfig::from_json(r#"{"request": {"bse": "https://api.example.com"}}"#).unwrap_err();
    /// assert_eq!(error.to_string(), "`request.bse` cannot be set: `request.base`, the nearest there is, is accepted");
    /// ```
    pub fn from_value(value: Value) -> Result<Self, ConfigError> {
        let Value::Object(mut fields) = value else {
            return Err(refused(
                "http",
                "no table",
                "a table with `request`, `limits`, `response`, `status` and `quota`",
            ));
        };
        let mut request = fields.remove("request").unwrap_or_else(|| Map::new().into());
        // one level deeper where the fields are many, so that the error says where
        let encode = request.as_object_mut().and_then(|request| request.remove("encode"));
        let mut config = Self {
            request: section("request", Some(request))?,
            limits: section("limits", fields.remove("limits"))?,
            response: section("response", fields.remove("response"))?,
            status: section("status", fields.remove("status"))?,
            quota: section("quota", fields.remove("quota"))?,
        };
        config.request.encode = section("request.encode", encode)?;
        // whatever is left is unknown
        section::<Self>("", Some(Value::Object(fields)))?;
        Ok(config)
    }
}

fn section<T: DeserializeOwned + Default>(name: &str, value: Option<Value>) -> Result<T, ConfigError> {
    let Some(value) = value else { return Ok(T::default()) };
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let dot = if name.is_empty() { "" } else { "." };
        let mut quoted = text.split('`').skip(1).step_by(2);
        let unknown = if text.starts_with("unknown ") { quoted.next() } else { None };
        match unknown {
            Some(unknown) if text.starts_with("unknown field") => {
                let nearest = quoted.min_by_key(|known| distance(unknown, known)).unwrap_or_default();
                let accepted = format!("`{name}{dot}{nearest}`, the nearest there is,");
                refused(&format!("{name}{dot}{unknown}"), "set", &accepted)
            }
            Some(unknown) => {
                let known: Vec<_> = quoted.collect();
                refused(name, &format!("given `{unknown}`"), &format!("one of `{}`", known.join("`, `")))
            }
            None => {
                let (value, expected) = text.split_once(", expected ").unwrap_or((&text, "another value"));
                refused(name, &format!("given this: {value}"), expected)
            }
        }
    })
}

/// Words as they are, without the quotes of `Debug`.
struct Plain<'a>(&'a str);

impl std::fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

pub(super) fn refused(setting: &str, value: &str, accepted: &str) -> ConfigError {
    config::refusal(setting.to_owned(), &Plain(value), accepted.to_owned())
}

/// How many characters have to be put in, taken out or replaced: the edit distance of Wagner and Fischer (1974).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (number, a) in one.chars().enumerate() {
        let mut above_left = number;
        let mut left = number.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (b, above) in other.chars().zip(row.iter_mut().skip(1)) {
            let replaced = above_left.saturating_add(usize::from(a != b));
            above_left = *above;
            left = replaced.min(left.saturating_add(1)).min(above.saturating_add(1));
            *above = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "../../tests/unit/http_parse.rs"]
mod tests;
