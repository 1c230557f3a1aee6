//! An answer into what it says of each key.
//!
//! Owns: shapes, items, side lists, pages put together, and what silence means. Refuses to know: statuses and rules over
//! a whole answer (`judge.rs`), and where the answer comes from.
//! Invariants: 1. a value goes to the places whose key the item names, or whose place it has, and to no other; 2. a value
//! beats an error, an error beats "ask again", and that beats "missing", whatever the order.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, time::Duration};

use serde_json::Value;

use super::{
    failure::{HttpError, HttpErrorKind},
    id::Id,
    model::{Condition, Duplicates, ErrorsConfig, ResponseConfig, Shape, Unaccounted, Unexpected},
    names::{Names, Places},
    strict::{self, IdRead},
};

/// What was said of a key.
#[derive(Clone)]
#[non_exhaustive]
pub enum Said {
    /// Its value.
    Value(Value),
    /// It has none.
    Missing,
    /// It failed, and the others did not.
    Failed(HttpError),
    /// The server did not get round to it.
    Unprocessed,
}

impl fmt::Debug for Said {
    /// Shows what, without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(..)"),
            Self::Missing => f.write_str("Missing"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Unprocessed => f.write_str("Unprocessed"),
        }
    }
}

impl Said {
    const fn strength(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Unprocessed => 1,
            Self::Failed(_) => 2,
            Self::Value(_) => 3,
        }
    }
}

/// The response side of a configuration, checked.
#[derive(Clone)]
pub(super) struct Decoder {
    pub(super) response: ResponseConfig,
    pub(super) names: Names,
    pub(super) max_server_wait: Duration,
}

/// What the pages of an answer said so far.
pub(super) struct Reader<'a> {
    decoder: &'a Decoder,
    places: Places,
    said: Vec<Option<Said>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(decoder: &'a Decoder, ids: &[Id]) -> Self {
        Self { decoder, places: Places::of(ids, &decoder.names), said: vec![None; ids.len()] }
    }

    /// Whether there is something for every key that no further page can improve.
    pub(super) fn is_complete(&self) -> bool {
        let collects = self.decoder.response.duplicates != Duplicates::First;
        !collects && self.said.iter().all(|said| matches!(said, Some(Said::Value(_))))
    }

    /// Reads a page.
    pub(super) fn page(&mut self, body: &Value) -> Result<(), HttpError> {
        let decoder = self.decoder;
        let response = &decoder.response;
        for table in &response.alias {
            for entry in list(body, &table.list)? {
                if let (Some(from), Some(to)) = (text(entry, &table.from)?, text(entry, &table.to)?) {
                    self.places.alias(&from, &to, &decoder.names);
                }
            }
        }
        let items = body.pointer(&response.items).filter(|items| !items.is_null());
        match (response.shape, items) {
            (Shape::ByKey, Some(Value::Object(items))) => {
                for (name, item) in items {
                    let places = self.places.called(name, &decoder.names).to_vec();
                    self.item(&places, item)?;
                }
            }
            (Shape::List, Some(Value::Array(items))) => {
                for item in items.iter().filter(|item| !item.is_null()) {
                    let places = match decoder.names.of_item(item) {
                        Some(IdRead::Text(text)) => self.places.called(&text, &decoder.names).to_vec(),
                        Some(IdRead::No) => Vec::new(),
                        Some(IdRead::Unknown) => return Err(undecodable("an id is a number that is not exact")),
                        None => return Err(undecodable("an item has nothing at `response.key`")),
                    };
                    self.item(&places, item)?;
                }
            }
            (Shape::Aligned, items) => {
                let items = items.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                if items.len() != self.said.len() {
                    return Err(undecodable("it has another number of items than there were keys"));
                }
                for (place, item) in items.iter().enumerate() {
                    self.item(&[place], item)?;
                }
            }
            (Shape::Correlated, Some(Value::Array(items))) => {
                for item in items.iter().filter(|item| !item.is_null()) {
                    let Some(IdRead::Text(number)) = decoder.names.of_item(item) else {
                        return Err(undecodable("an item has no number at `response.key`"));
                    };
                    let place = number.parse::<usize>().ok().filter(|place| place.to_string() == number);
                    let place = place.filter(|place| *place < self.said.len());
                    self.item(place.as_slice(), item)?;
                }
            }
            (_, None) => {} // none was found
            (_, Some(_)) => return Err(undecodable("what is at `response.items` is of another type")),
        }
        for errors in &response.errors {
            for error in list(body, &errors.list)? {
                self.error(errors, error)?;
            }
        }
        for unprocessed in &response.unprocessed {
            for entry in list(body, &unprocessed.list)? {
                if let Some(text) = text(entry, &unprocessed.key)? {
                    let places = self.places.called(&text, &decoder.names).to_vec();
                    self.say(&places, &Said::Unprocessed);
                }
            }
        }
        Ok(())
    }

    /// What was said of each key, in order.
    pub(super) fn end(self) -> Vec<Said> {
        let response = &self.decoder.response;
        let default = if response.shape == Shape::Correlated { Unaccounted::Error } else { Unaccounted::Missing };
        let silence = match response.unaccounted.unwrap_or(default) {
            Unaccounted::Missing => Said::Missing,
            Unaccounted::Error => Said::Failed(HttpErrorKind::Unaccounted.into()),
            Unaccounted::Retry => Said::Unprocessed,
        };
        self.said.into_iter().map(|said| said.unwrap_or_else(|| silence.clone())).collect()
    }

    fn item(&mut self, places: &[usize], item: &Value) -> Result<(), HttpError> {
        if places.is_empty() && self.decoder.response.unexpected == Unexpected::Error {
            return Err(HttpErrorKind::Unexpected.into());
        }
        if !places.is_empty() {
            let said = self.decoder.item(item)?;
            self.say(places, &said);
        }
        Ok(())
    }

    fn say(&mut self, places: &[usize], said: &Said) {
        let duplicates = self.decoder.response.duplicates;
        for place in places {
            let Some(before) = self.said.get_mut(*place) else { continue };
            let new = match said {
                Said::Value(value) if duplicates == Duplicates::Collect => {
                    if let Some(Said::Value(Value::Array(values))) = before {
                        values.push(value.clone());
                        continue;
                    }
                    Said::Value(Value::Array(vec![value.clone()]))
                }
                said => said.clone(),
            };
            let weaker = before.as_ref().is_none_or(|before| before.strength() < new.strength());
            let replaced = duplicates == Duplicates::Last
                && before.as_ref().is_some_and(|before| before.strength() == new.strength());
            if weaker || replaced {
                *before = Some(new);
            }
        }
    }

    fn error(&mut self, errors: &ErrorsConfig, error: &Value) -> Result<(), HttpError> {
        let Some(found) = strict::first(error, &errors.key) else { return Ok(()) };
        let places = if let Some(index) = errors.index {
            let place = found.get(index).and_then(Value::as_u64).and_then(|place| usize::try_from(place).ok());
            place.filter(|place| *place < self.said.len()).into_iter().collect()
        } else {
            let ids = found.as_array().map_or(std::slice::from_ref(found), Vec::as_slice);
            let mut places = Vec::new();
            for id in ids {
                if let Some(text) = read(id)? {
                    places.extend_from_slice(self.places.called(&text, &self.decoder.names));
                }
            }
            places
        };
        let code = strict::first(error, &errors.code);
        let said = self.decoder.coded(code, &errors.missing, &errors.retry, HttpErrorKind::Item.into(), None);
        self.say(&places, &said);
        Ok(())
    }
}

impl Decoder {
    /// What an item says of its key.
    fn item(&self, item: &Value) -> Result<Said, HttpError> {
        let response = &self.response;
        if item.is_null() || response.missing_when.iter().any(|condition| holds(condition, item)) {
            return Ok(Said::Missing);
        }
        let error = response.item_error.as_ref().and_then(|at| item.pointer(at)).filter(|error| !error.is_null());
        let code = error.and_then(|error| strict::first(error, &response.error_code));
        let after = strict::first(item, &response.item_retry_after).and_then(seconds);
        if let Some(status) = response.item_status.as_ref().and_then(|at| item.pointer(at)) {
            let Some(status) = status_of(status) else { return Err(undecodable("the status of an item is none")) };
            let missing = response.item_missing.as_deref().unwrap_or(&[404]);
            let failed = HttpError::from(HttpErrorKind::Item).at(status).coded(code.map(strict::code));
            match status {
                200..=299 => {}
                status if missing.contains(&status) => return Ok(Said::Missing),
                408 | 429 | 500..=599 => return Ok(self.again(failed, after)),
                _ => return Ok(self.coded(code, &response.error_missing, &response.error_retry, failed, after)),
            }
        }
        if error.is_some() {
            let failed = HttpErrorKind::Item.into();
            return Ok(self.coded(code, &response.error_missing, &response.error_retry, failed, after));
        }
        let value = item.pointer(&response.value);
        Ok(value.map_or_else(
            || Said::Failed(HttpErrorKind::Decode.because("the item has nothing at `response.value`")),
            |value| if value.is_null() { Said::Missing } else { Said::Value(value.clone()) },
        ))
    }

    fn coded(
        &self,
        code: Option<&Value>,
        missing: &[Value],
        retry: &[Value],
        failed: HttpError,
        after: Option<Duration>,
    ) -> Said {
        let is = |known: &&Value| code.is_some_and(|code| is_code(code, known));
        if missing.iter().any(|known| is(&known)) {
            return Said::Missing;
        }
        let failed = failed.coded(code.map(strict::code));
        if retry.iter().any(|known| is(&known)) { self.again(failed, after) } else { Said::Failed(failed) }
    }

    /// An error of a key that passes: as soon as the item says, if anybody waits that long.
    fn again(&self, failed: HttpError, after: Option<Duration>) -> Said {
        let verdict = failed.verdict();
        let long = after.is_some_and(|after| after > self.max_server_wait);
        let failed = failed.again(after);
        Said::Failed(if long { failed.meaning(verdict) } else { failed })
    }
}

pub(super) fn undecodable(why: &str) -> HttpError {
    HttpErrorKind::Decode.because(why)
}

/// The code, or the end of it behind a `/`, `#` or `:`.
fn is_code(code: &Value, known: &Value) -> bool {
    let (code, known) = (strict::code(code), strict::code(known));
    let before = code.strip_suffix(known.as_str());
    before.is_some_and(|before| before.is_empty() || before.ends_with(['/', '#', ':']))
}

/// The id at a pointer.
fn text(entry: &Value, pointer: &str) -> Result<Option<String>, HttpError> {
    entry.pointer(pointer).map_or(Ok(None), read)
}

fn read(value: &Value) -> Result<Option<String>, HttpError> {
    match strict::id(value) {
        IdRead::Text(text) => Ok(Some(text)),
        IdRead::No => Ok(None),
        IdRead::Unknown => Err(undecodable("an id is a number that is not exact")),
    }
}

/// The entries of a list; none, if it is not there.
fn list<'v>(body: &'v Value, pointer: &str) -> Result<&'v [Value], HttpError> {
    match body.pointer(pointer) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(undecodable("what should be a list beside the items is none")),
    }
}

fn status_of(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok()
}

/// A number of seconds, with or without a fraction, above zero; as a number, or as digits.
pub(super) fn seconds(value: &Value) -> Option<Duration> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim_matches([' ', '\t']).to_owned(),
        _ => return None,
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.starts_with(|char: char| char.is_ascii_digit());
    let seconds = text.parse::<f64>().ok().filter(|seconds| plain && *seconds > 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Whether all that a condition says is so.
pub(super) fn holds(condition: &Condition, json: &Value) -> bool {
    let exists = condition.exists.as_ref().is_none_or(|at| json.pointer(at).is_some());
    let equals = condition.equals.as_ref().is_none_or(|(at, value)| json.pointer(at) == Some(value));
    let null = condition.null.as_ref().is_none_or(|at| json.pointer(at).is_some_and(Value::is_null));
    let contains = condition.contains.as_ref();
    let has = |at: &str, part: &str| json.pointer(at).and_then(Value::as_str).is_some_and(|text| text.contains(part));
    exists && equals && null && contains.is_none_or(|(at, part)| has(at, part))
}
