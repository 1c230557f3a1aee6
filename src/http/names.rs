//! What keys are called on both sides.
//!
//! Owns: normalisation, and the places of the keys of a request by name. Refuses to know: what an answer looks like.
#![warn(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use serde_json::Value;

use super::{
    id::Id,
    model::ResponseConfig,
    parse::refused,
    strict::{self, IdRead},
};
use crate::config::ConfigError;

/// A step of normalisation.
#[derive(Clone, Debug)]
enum Step {
    Lower,
    Upper,
    Trim,
    StripPrefix(String),
    StripSuffix(String),
}

/// How keys are read and compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    steps: Vec<Step>,
    /// The fields that make the key of an item together.
    composite: Vec<String>,
    pointers: Vec<String>,
}

impl Names {
    pub(super) fn new(response: &ResponseConfig) -> Result<Self, ConfigError> {
        let mut names = Self { pointers: response.key.clone(), ..Self::default() };
        for step in &response.key_normalize {
            let (name, rest) = step.split_once(':').unwrap_or((step, ""));
            names.steps.push(match (name, rest.is_empty()) {
                ("lower", true) => Step::Lower,
                ("upper", true) => Step::Upper,
                ("trim", true) => Step::Trim,
                ("strip_prefix", false) => Step::StripPrefix(rest.into()),
                ("strip_suffix", false) => Step::StripSuffix(rest.into()),
                ("composite", false) => {
                    names.composite = rest.split('+').map(Into::into).collect();
                    continue;
                }
                _ => {
                    let accepted = "`lower`, `upper`, `trim`, `strip_prefix:…`, `strip_suffix:…` or `composite:/a+/b`";
                    return Err(refused("response.key_normalize", &format!("{step:?}"), accepted));
                }
            });
        }
        Ok(names)
    }

    /// Pointers to be checked.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &String> {
        self.pointers.iter().chain(&self.composite)
    }

    pub(super) fn normal(&self, text: &str) -> String {
        self.steps.iter().fold(text.to_owned(), |text, step| match step {
            Step::Lower => text.to_lowercase(),
            Step::Upper => text.to_uppercase(),
            Step::Trim => text.trim().to_owned(),
            Step::StripPrefix(prefix) => text.strip_prefix(prefix.as_str()).map(str::to_owned).unwrap_or(text),
            Step::StripSuffix(suffix) => text.strip_suffix(suffix.as_str()).map(str::to_owned).unwrap_or(text),
        })
    }

    /// The id an item says it has; `None` if it says nothing of one.
    pub(super) fn of_item(&self, item: &Value) -> Option<IdRead> {
        if self.composite.is_empty() {
            return strict::first(item, &self.pointers).map(strict::id);
        }
        let mut whole = String::new();
        for pointer in &self.composite {
            match strict::id(item.pointer(pointer)?) {
                IdRead::Text(part) => whole.push_str(&part),
                other => return Some(other),
            }
        }
        Some(IdRead::Text(whole))
    }
}

/// The places of the keys of one request.
#[derive(Debug)]
pub(super) struct Places(HashMap<String, Vec<usize>>);

impl Places {
    pub(super) fn of(ids: &[Id], names: &Names) -> Self {
        let mut places: HashMap<String, Vec<usize>> = HashMap::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            places.entry(names.normal(id.as_str())).or_default().push(place);
        }
        Self(places)
    }

    /// The keys that are called so, after normalisation.
    pub(super) fn called(&self, text: &str, names: &Names) -> &[usize] {
        self.0.get(&names.normal(text)).map_or(&[], Vec::as_slice)
    }

    /// The server calls one thing another.
    pub(super) fn alias(&mut self, from: &str, to: &str, names: &Names) {
        let (from, to) = (names.normal(from), names.normal(to));
        let Some(found) = self.0.get(&from).filter(|_| from != to).cloned() else { return };
        let places = self.0.entry(to).or_default();
        for place in found {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
}
