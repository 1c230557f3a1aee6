//! The configuration surface of the loader, as data.
//!
//! Owns: the fields, their names in TOML and JSON, and their defaults. Refuses to know: what makes sense together
//! (`wire.rs` checks that) and what any of it does.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{rates::QuotaConfig, units};

/// All that [`HttpLoader`](super::HttpLoader) has to know of an API. [`from_toml`](Self::from_toml) and
/// [`from_json`](Self::from_json) read it; the [builder](super::HttpLoader::builder) fills the same fields.
///
/// Every field with type, default and meaning: [`docs::api`](crate::docs::api).
///
/// # Examples
///
/// ```
/// let config = multiget::http::HttpConfig::from_toml(r#"
///     [request]
///     base = "https://api.example.com"
///     path = "/v1/users"
///     encode = { kind = "join", name = "ids", raw_sep = true }
///     [limits]
///     max_keys = 50
///     [response]
///     items = "/data"
///     key = "/id"
/// "#)?;
/// assert_eq!(config.limits.max_keys, Some(50));
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// What is sent.
    pub request: RequestConfig,
    /// How much of it.
    pub limits: LimitsConfig,
    /// What the body of an answer means.
    pub response: ResponseConfig,
    /// What its status means.
    pub status: StatusConfig,
    /// How often may be asked, and asked again.
    pub quota: QuotaConfig,
}

/// What is sent: `[request]`.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RequestConfig {
    /// The method. `GET`
    pub method: String,
    /// The origin: scheme, host and port. No default.
    pub base: String,
    /// The path, as it is to be sent; `{keys}` is where the keys go for [`EncodeKind::Path`]. `/`
    pub path: String,
    /// Fixed parameters, in order.
    pub query: Vec<(String, String)>,
    /// Characters that stay as they are in fixed parameters, beside letters, digits and `-._~`.
    pub query_safe: String,
    /// Fixed headers. A credential does not belong here: see [`Credential`](super::Credential).
    pub headers: BTreeMap<String, String>,
    /// That a `POST` only reads, so that it may be sent again. Other methods need not say it. `false`
    pub idempotent: bool,
    /// How long may be waited.
    pub timeout: TimeoutConfig,
    /// How the keys travel.
    pub encode: EncodeConfig,
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            base: String::new(),
            path: "/".into(),
            query: Vec::new(),
            query_safe: String::new(),
            headers: BTreeMap::new(),
            idempotent: false,
            timeout: TimeoutConfig::default(),
            encode: EncodeConfig::default(),
        }
    }
}

impl std::fmt::Debug for RequestConfig {
    /// Shows neither URLs nor headers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestConfig").field("method", &self.method).finish_non_exhaustive()
    }
}

/// How long may be waited: `request.timeout`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// For a connection. 5 s
    #[serde(deserialize_with = "units::span")]
    pub connect: Duration,
    /// For a whole exchange, from its start to the last byte of the answer. 10 s
    #[serde(deserialize_with = "units::span")]
    pub attempt: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), attempt: Duration::from_secs(10) }
    }
}

/// How the keys travel: `request.encode`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EncodeConfig {
    /// The encoding. No default.
    pub kind: Option<EncodeKind>,
    /// The name of the parameter. For `indexed`, `{}` in it is the number, which else follows in brackets.
    pub name: String,
    /// What stands between keys: `join`, `template`, `path`, `body_text`, `body_form`. `,`
    pub sep: String,
    /// The separator is sent as it is, and not percent-encoded. `false`
    pub raw_sep: bool,
    /// Characters of keys that stay as they are, beside letters, digits and `-._~`.
    pub safe: String,
    /// The same for the name.
    pub name_safe: String,
    /// What stands before the first key: `template`, `body_text`.
    pub prefix: String,
    /// What stands behind the last one.
    pub suffix: String,
    /// What a key becomes, which `{}` stands for. `{}`
    pub item: String,
    /// What becomes of characters of a key in `item`: pairs of what they are and what is written.
    pub escape: Vec<(String, String)>,
    /// The body, with `$keys`, or `{"$each": …}` around `$key`, `$index`, `$index_str` and `{$key}`: `body_json`.
    pub template: Option<Value>,
    /// What keys are in JSON. `string`
    pub key_type: KeyType,
    /// Where the keys are among the fixed parameters. `last`
    pub position: Position,
}

impl Default for EncodeConfig {
    fn default() -> Self {
        Self {
            kind: None,
            name: String::new(),
            sep: ",".into(),
            raw_sep: false,
            safe: String::new(),
            name_safe: String::new(),
            prefix: String::new(),
            suffix: String::new(),
            item: "{}".into(),
            escape: Vec::new(),
            template: None,
            key_type: KeyType::default(),
            position: Position::default(),
        }
    }
}

macro_rules! choices {
    ($(#[$docs:meta])* $name:ident { $($(#[$variant_docs:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_docs])* $variant),+ }
    };
}
pub(super) use choices;

/// The nine ways keys travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EncodeKind {
    /// `id=a&id=b`
    Repeat,
    /// `ids=a,b`
    Join,
    /// `ids[0]=a&ids[1]=b`
    Indexed,
    /// `ids=["a","b"]`, percent-encoded
    JsonArray,
    /// `filter=Id in ('a','b')`, percent-encoded
    Template,
    /// `/items/a;b`
    Path,
    /// a JSON body
    BodyJson,
    /// a text body
    BodyText,
    /// a form body
    BodyForm,
}

choices!(
    /// What keys are in JSON.
    KeyType {
        /// Text.
        #[default]
        String,
        /// Integers; a key that is none is not sent.
        Int,
    }
);
choices!(
    /// Where the keys are among the fixed parameters.
    Position {
        /// Behind them.
        #[default]
        Last,
        /// Before them.
        First,
    }
);

/// How much goes into one request: `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Keys in a request. Without it, the batcher decides.
    pub max_keys: Option<usize>,
    /// Bytes of the request line, as sent, with its line end. 8000
    #[serde(deserialize_with = "units::size")]
    pub max_request_line: u64,
    /// Bytes of the body. 1 MiB
    #[serde(deserialize_with = "units::size")]
    pub max_body: u64,
    /// Bytes of an answer, after it was unpacked. 64 MiB
    #[serde(deserialize_with = "units::size")]
    pub max_response: u64,
    /// Keys that a request has at least; only 1 is accepted, because some APIs answer an empty list with everything. 1
    pub min_keys: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { max_keys: None, max_request_line: 8000, max_body: 1 << 20, max_response: 64 << 20, min_keys: 1 }
    }
}

/// What the body of an answer means: `[response]`. Pointers are those of RFC 6901.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ResponseConfig {
    /// What it is written in. `json`
    pub format: Format,
    /// Types of content that are accepted beside those of `format`; `*` is any, and none.
    pub content_type: Vec<String>,
    /// Where the items are. The whole body
    pub items: String,
    /// How they are arranged. `list`
    pub shape: Shape,
    /// Where an item has its key; the first that is there counts.
    #[serde(deserialize_with = "units::one_or_more")]
    pub key: Vec<String>,
    /// Where it has its value. The whole item
    pub value: String,
    /// What is done to keys on both sides before they are compared: `lower`, `upper`, `trim`, `strip_prefix:…`,
    /// `strip_suffix:…`; `composite:/a+/b` makes the key of an item out of several fields.
    pub key_normalize: Vec<String>,
    /// What says that an item is missing. `null` always does
    pub missing_when: Vec<Condition>,
    /// Where an item has its status: 2xx is fine, 408, 429 and 5xx ask again, others are errors of the key.
    pub item_status: Option<String>,
    /// Such statuses that mean "missing". `[404]`
    pub item_missing: Option<Vec<u16>>,
    /// Where an item says how long to wait, in seconds.
    #[serde(deserialize_with = "units::one_or_more")]
    pub item_retry_after: Vec<String>,
    /// Where an item has its error, if that is there and not null.
    pub item_error: Option<String>,
    /// Where the code is inside that error.
    #[serde(deserialize_with = "units::one_or_more")]
    pub error_code: Vec<String>,
    /// Codes that mean "missing".
    pub error_missing: Vec<Value>,
    /// Codes that mean "ask again".
    pub error_retry: Vec<Value>,
    /// Tables in which the server says what it calls a key.
    pub alias: Vec<AliasConfig>,
    /// Lists of errors beside the items.
    pub errors: Vec<ErrorsConfig>,
    /// Lists of keys that the server did not get round to.
    pub unprocessed: Vec<UnprocessedConfig>,
    /// Where the rest of an answer is that came in pages.
    pub next: Option<NextConfig>,
    /// Where the body asks for a pause, in seconds.
    pub pause: Option<String>,
    /// What it means if nothing is said of a key. `missing`; for `correlated`, `error`
    pub unaccounted: Option<Unaccounted>,
    /// Which of several items of a key counts. `first`
    pub duplicates: Duplicates,
    /// What becomes of items that nobody asked for. `ignore`
    pub unexpected: Unexpected,
    /// What means that a whole answer is none, whatever its status.
    pub fatal: Vec<FatalConfig>,
}

choices!(
    /// What an answer is written in.
    Format {
        /// One JSON text.
        #[default]
        Json,
        /// One JSON text in each line.
        Ndjson,
    }
);
choices!(
    /// How items are arranged.
    Shape {
        /// An object whose members are named by key.
        ByKey,
        /// An array of items that know their key.
        #[default]
        List,
        /// An array with one item for each key, in the order of the request.
        Aligned,
        /// An array of items that know the number of their key in the request (`$index`), in any order.
        Correlated,
    }
);
choices!(
    /// What it means if nothing is said of a key.
    Unaccounted {
        /// There is no value.
        #[default]
        Missing,
        /// An error of that key.
        Error,
        /// It is asked for again.
        Retry,
    }
);
choices!(
    /// Which of several items of a key counts.
    Duplicates {
        /// The first.
        #[default]
        First,
        /// The last.
        Last,
        /// All: the value is an array of them, even if there is one.
        Collect,
    }
);
choices!(
    /// What becomes of items that nobody asked for.
    Unexpected {
        /// They are dropped.
        #[default]
        Ignore,
        /// They are an error of the whole load.
        Error,
    }
);
choices!(
    /// What an error is to whoever asked for the key.
    Meaning {
        /// An error.
        #[default]
        Error,
        /// There is no value.
        Missing,
    }
);
choices!(
    /// What a rule over the body means.
    Class {
        /// Too many requests: the quota pauses, the keys are asked for again.
        Limited,
        /// It passes: the keys are asked for again.
        Transient,
        /// The credential is not accepted: it is renewed once.
        Auth,
        /// Some key is bad: the batch is taken apart.
        Bisect,
        /// The key that the body names is bad; the others are asked for again.
        Culprit,
        /// An error for all.
        #[default]
        Fatal,
    }
);

/// A condition on JSON; all of what it says must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Condition {
    /// There is something at this pointer.
    pub exists: Option<String>,
    /// What is there is this.
    pub equals: Option<(String, Value)>,
    /// What is there is null.
    pub null: Option<String>,
    /// What is there is a text that has this in it.
    pub contains: Option<(String, String)>,
}

/// A table in which the server says what it calls a key: `response.alias`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AliasConfig {
    /// Where the table is.
    pub list: String,
    /// Where an entry has what was asked for.
    pub from: String,
    /// Where it has what the item is called.
    pub to: String,
}

/// A list of errors beside the items: `response.errors`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ErrorsConfig {
    /// Where the list is.
    pub list: String,
    /// Where an error names its key, or a list of keys.
    #[serde(deserialize_with = "units::one_or_more")]
    pub key: Vec<String>,
    /// Where it has its code.
    #[serde(deserialize_with = "units::one_or_more")]
    pub code: Vec<String>,
    /// Codes that mean "missing": the whole code, or its end behind a `/`, `#` or `:`.
    pub missing: Vec<Value>,
    /// Codes that mean "ask again".
    pub retry: Vec<Value>,
    /// `key` is a path, and its element of this number is the place of the item (GraphQL).
    pub index: Option<usize>,
}

/// A list of keys that the server did not get round to: `response.unprocessed`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UnprocessedConfig {
    /// Where the list is.
    pub list: String,
    /// Where an entry has the key. The entry itself
    pub key: String,
}

/// Where the rest of an answer is: `response.next`. One of `link`, `url`, and `cursor` with `param`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NextConfig {
    /// The relation of a `Link` header (RFC 8288).
    pub link: Option<String>,
    /// Where the body has the address.
    pub url: Option<String>,
    /// Where the body has a cursor.
    pub cursor: Option<String>,
    /// The parameter the cursor goes into.
    pub param: Option<String>,
}

/// A rule over a whole answer: `[[response.fatal]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FatalConfig {
    /// When it holds.
    pub when: Condition,
    /// What it means.
    pub class: Class,
    /// What the error says.
    pub msg: Option<String>,
    /// Where the body names the culprit.
    #[serde(deserialize_with = "units::one_or_more")]
    pub key: Vec<String>,
    /// Where it has the code.
    #[serde(deserialize_with = "units::one_or_more")]
    pub code: Vec<String>,
    /// What the culprit's callers are told. `error`
    #[serde(rename = "as")]
    pub meaning: Meaning,
}

/// What the status of an answer means: `[status]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StatusConfig {
    /// The body is looked at. 200, 203, 206, 207; 204 is always an answer without items
    pub ok: Vec<u16>,
    /// Every key is missing.
    pub all_missing: Vec<u16>,
    /// Some key is bad: the batch is taken apart. 413, 414 and 431 always do that
    pub bisect: Vec<u16>,
    /// What such a status means for a key alone. `missing`
    pub single_404: Single,
    /// How long a key is remembered that was found bad. It needs a store:
    /// [`HttpLoader::store`](super::HttpLoader::store). 0
    #[serde(deserialize_with = "units::span")]
    pub remember: Duration,
    /// Too many requests, beside those the hints know. 429
    pub limited: Vec<u16>,
    /// The credential is not accepted. 401
    pub auth: Vec<u16>,
}

choices!(
    /// What a status that takes batches apart means for a key alone.
    Single {
        /// There is no value.
        #[default]
        Missing,
        /// An error.
        Error,
    }
);

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            ok: vec![200, 203, 206, 207],
            all_missing: Vec::new(),
            bisect: Vec::new(),
            single_404: Single::default(),
            remember: Duration::ZERO,
            limited: vec![429],
            auth: vec![401],
        }
    }
}
