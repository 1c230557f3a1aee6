//! Which addresses are the API's own.
//!
//! Owns: the origin of the configuration, and what an address in an answer comes to. Refuses to know: who follows it.
//! Invariant: what [`Origin::follow`] gives is of the same scheme, host and port, and without user information.
#![warn(clippy::arithmetic_side_effects)]

use std::fmt;

use reqwest::Url;

use super::parse::refused;
use crate::config::ConfigError;

/// A scheme, a host and a port.
#[derive(Clone)]
pub(super) struct Origin(Url);

impl Origin {
    pub(super) fn new(base: &str) -> Result<Self, ConfigError> {
        let accepted = "an origin such as `https://api.example.com`";
        // not the value itself: somebody may have put a secret into it
        let url = Url::parse(base).map_err(|_| refused("request.base", "no address", accepted))?;
        let value = if !matches!(url.scheme(), "http" | "https") {
            "of another scheme than `http` or `https`"
        } else if !url.username().is_empty() || url.password().is_some() {
            "with a user in it"
        } else if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            "with a path, a query or a fragment"
        } else {
            return Ok(Self(url));
        };
        Err(refused("request.base", value, accepted))
    }

    /// The address of a target, if an address can hold its very bytes.
    pub(super) fn at(&self, target: &str) -> Option<Url> {
        let mut text = self.0.as_str().trim_end_matches('/').to_owned();
        text.push_str(target);
        let url = Url::parse(&text).ok()?;
        (self.is_own(&url) && Self::target(&url) == target).then_some(url)
    }

    /// Path and query of an address.
    fn target(url: &Url) -> String {
        let query = url.query().map(|query| format!("?{query}"));
        [url.path(), query.as_deref().unwrap_or_default()].concat()
    }

    fn is_own(&self, url: &Url) -> bool {
        let origin =
            |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
        origin(url) == origin(&self.0) && url.username().is_empty() && url.password().is_none()
    }

    /// The target that a link leads to, from the page with this one; `None` if that is not of this origin.
    pub(super) fn follow(&self, from: &str, link: &str) -> Option<String> {
        let url = self.at(from)?.join(link).ok()?;
        self.is_own(&url).then(|| Self::target(&url))
    }

    /// The host and, if it is not that of the scheme, the port.
    pub(super) fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// All of it, to compare it with another.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// The target of the first link with this relation in the values of `Link` headers (RFC 8288, section 3). Links with
/// another context (`anchor`) are not ours.
pub(super) fn link<'h>(values: impl Iterator<Item = &'h str>, relation: &str) -> Option<String> {
    values.flat_map(links).find(|link| link.1.iter().any(|rel| rel.eq_ignore_ascii_case(relation))).map(|link| link.0)
}

/// Targets and their relations.
fn links(value: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some((target, behind)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        let (mut relations, mut ours) = (None, true);
        let (parameters, next) = parameters(behind);
        for (name, text) in parameters {
            if name.eq_ignore_ascii_case("rel") && relations.is_none() {
                relations = Some(text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
            }
            ours &= !name.eq_ignore_ascii_case("anchor");
        }
        if ours {
            found.push((target.trim().to_owned(), relations.unwrap_or_default()));
        }
        rest = next;
    }
    found
}

/// The parameters behind a target, up to the comma that ends the link, and the rest.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let (mut found, mut name, mut value) = (Vec::new(), String::new(), None::<String>);
    let (mut quoted, mut escaped) = (false, false);
    for (place, char) in text.char_indices() {
        let valued = value.is_some();
        let part = value.as_mut().unwrap_or(&mut name);
        match char {
            _ if escaped => {
                part.push(char);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => part.push(char),
            ';' | ',' => {
                found.push((std::mem::take(&mut name), value.take().unwrap_or_default()));
                if char == ',' {
                    return (found, text.get(place.saturating_add(1)..).unwrap_or_default());
                }
            }
            '=' if !valued => value = Some(String::new()),
            _ if char.is_ascii_whitespace() => {}
            _ => part.push(char),
        }
    }
    found.push((name, value.unwrap_or_default()));
    (found, "")
}

#[cfg(test)]
#[path = "../../tests/unit/http_origin.rs"]
mod tests;
