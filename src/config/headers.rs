//! Additional headers of requests, for access proxies.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers that every request already has.
const OWN: [HeaderName; 7] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TRANSFER_ENCODING,
    HeaderName::from_static("convex-client"),
];

/// Checks names and values. An error never repeats a value, which is a secret.
pub(super) fn parse(table: &BTreeMap<String, String>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in table {
        let header = HeaderName::from_bytes(name.as_bytes())
            .with_context(|| format!("{name:?} is not the name of a header"))?;
        ensure!(
            !OWN.contains(&header),
            "{name} is a header that convex-sidecar sets itself; remove it"
        );
        let mut value = HeaderValue::from_str(value)
            .ok()
            .filter(|value| !value.is_empty() && value.to_str().is_ok())
            .with_context(|| {
                format!(
                    "the value of {name} is empty, or not one line of ASCII text; copy it again"
                )
            })?;
        value.set_sensitive(true);
        ensure!(
            headers.insert(header, value).is_none(),
            "{name} appears twice, because names are not case-sensitive; remove one"
        );
    }
    Ok(headers)
}

/// The headers as a table of `config.toml`; nothing if there are none.
#[must_use]
pub fn table(headers: &HeaderMap) -> String {
    let mut text = String::new();
    for (name, value) in headers {
        // A value is ASCII text without control characters but the tab, as JSON and TOML write it.
        let value = serde_json::Value::from(value.to_str().unwrap_or_default());
        text.extend([name.as_str(), " = ", &value.to_string(), "\n"]);
    }
    if text.is_empty() {
        text
    } else {
        format!("[headers]\n{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<HeaderMap> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse(&pairs.collect())
    }

    #[test]
    fn bad_header_is_named_without_its_value() {
        for (pairs, problem) in [
            (
                &[("CF Access", "s3cret")][..],
                "\"CF Access\" is not the name of a header",
            ),
            (&[("", "s3cret")], "\"\" is not the name of a header"),
            (
                &[("X-Id", "s3cret\nX-Other: 1")],
                "the value of X-Id is empty, or not one line",
            ),
            (&[("X-Id", "")], "the value of X-Id is empty"),
            (&[("X-Id", "s3crét")], "the value of X-Id is empty, or not"),
            (
                &[("Authorization", "s3cret")],
                "Authorization is a header that convex-sidecar sets itself",
            ),
            (&[("host", "s3cret")], "host is a header"),
            (
                &[("X-Id", "s3cret"), ("x-id", "s3cret")],
                "x-id appears twice",
            ),
        ] {
            let error = format!("{:#}", read(pairs).unwrap_err());
            assert!(
                error.starts_with(problem) && !error.contains("s3cr"),
                "{error}"
            );
        }
    }

    #[test]
    fn headers_are_sensitive_and_are_read_back_from_the_table() {
        let value = "a \"quoted\\\" value";
        let headers = read(&[
            ("CF-Access-Client-Id", "id.access"),
            ("CF-Access-Client-Secret", value),
        ])
        .unwrap();
        assert!(!format!("{headers:?}").contains("id.access"));
        let file: BTreeMap<String, BTreeMap<String, String>> =
            toml::from_str(&table(&headers)).unwrap();
        assert_eq!(file["headers"]["cf-access-client-secret"], value);
        assert_eq!(parse(&file["headers"]).unwrap(), headers);
        assert_eq!(table(&HeaderMap::new()), "");
    }
}
