//! What would be sent, without sending it.
//!
//! Owns: the text of a dry run, what is masked in it, and what is odd. Refuses to know: the network.

use std::{fmt, fmt::Write as _, time::Duration};

use super::{
    exchange::Exchange,
    id::{Id, percent},
    model::KeyType,
};

/// From here on the attempt is not what ends: the default `load_timeout` is.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that was not sent: what [`HttpLoader::check`](super::HttpLoader::check) finds. It shows as the request and
/// then the warnings. Secrets, and parameters and headers that sound like some, are `***`.
#[derive(Clone, Debug)]
pub struct DryRun {
    request: String,
    warnings: Vec<String>,
}

impl DryRun {
    /// The bytes of an HTTP/1.1 request.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// What is odd about the configuration.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn of(exchange: &Exchange) -> Self {
        let wire = &exchange.wire;
        let config = &wire.config;
        let int = config.request.encode.key_type == KeyType::Int;
        let id = if int { Id::of(&1) } else { Id::of("key") };
        let mut warnings = Vec::new();
        if config.request.timeout.attempt >= LOAD_TIMEOUT {
            let text = "`request.timeout.attempt` is 30 s or more: raise the `load_timeout` of the batcher above it";
            warnings.push(text.to_owned());
        }
        let tls = cfg!(any(feature = "rustls", feature = "native-tls"));
        if wire.origin.is_tls() && !tls {
            warnings.push("`https` needs the feature `rustls` or `native-tls`".to_owned());
        }
        let (credential, is_renewed) = (exchange.keyring.known(), exchange.keyring.is_renewed());
        if is_renewed {
            warnings.push("the credential is not known yet, and not shown".to_owned());
        }
        if exchange.bad.is_without_store() {
            let text = "`status.remember` needs a store: `Batcher::builder().store(loader.store(…))`";
            warnings.push(text.to_owned());
        }
        if !wire.origin.is_tls() && (is_renewed || credential.is_some()) {
            warnings.push("the credential goes out in clear text: `request.base` is not `https`".to_owned());
        }
        let Some(request) = id.ok().and_then(|id| wire.encode(&[id]).ok()) else {
            warnings.push("the made-up key cannot be sent".to_owned());
            return Self { request: String::new(), warnings };
        };
        let mut target = masked(&request.target, &exchange.masks);
        if let Some(credential) = credential {
            target = credential.target(&target, false);
        }
        let mut text = format!("{} {target} HTTP/1.1\r\n", request.method);
        for (name, value) in exchange.headers(&request, credential).iter().flatten() {
            let sounds = !matches!(name.as_str(), "host" | "accept" | "content-type") && is_secret(name.as_str());
            let shown = if value.is_sensitive() || sounds { "***" } else { value.to_str().unwrap_or("***") };
            let _ = write!(text, "{name}: {shown}\r\n");
        }
        if let Some(body) = &request.body {
            let _ = write!(text, "content-length: {}\r\n", body.len());
        }
        text.push_str("\r\n");
        text.push_str(&String::from_utf8_lossy(request.body().unwrap_or_default()));
        Self { request: text, warnings }
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.request)?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// Names that secrets have.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 8] = ["key", "token", "secret", "auth", "sig", "passw", "session", "cookie"];
    let lower = name.to_ascii_lowercase();
    PARTS.iter().any(|part| lower.contains(part))
}

/// The target with `***` for values of parameters whose names sound like secrets, or are declared.
fn masked(target: &str, declared: &[String]) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let declared: Vec<_> = declared.iter().map(|name| encoded(name)).collect();
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) || declared.iter().any(|known| known == name) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn encoded(name: &str) -> String {
    let mut out = String::new();
    percent(&mut out, name, "");
    out
}
