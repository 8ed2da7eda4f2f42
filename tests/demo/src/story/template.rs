//! Files with `${name}` in them.

use std::collections::BTreeMap;

/// Why a template can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that has no value.
    #[error("fill in ${{{name}}} (known: {known})")]
    Unknown {
        /// Which.
        name: String,
        /// What there is.
        known: String,
    },
    /// `${` without `}`.
    #[error("fill in {0:?}: it has no closing brace")]
    Open(String),
}

/// Puts values in the place of their names.
///
/// # Errors
/// [`TemplateError`] for a name without a value.
pub fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, next)) = after.split_once('}') else {
            return Err(TemplateError::Open(after.chars().take(40).collect()));
        };
        // A comment may speak of placeholders.
        if name == "…" {
            out.push_str("${…}");
        } else {
            out.push_str(values.get(name).ok_or_else(|| TemplateError::Unknown {
                name: name.to_owned(),
                known: values.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            })?);
        }
        rest = next;
    }
    out.push_str(rest);
    Ok(out)
}

/// Names of the form `${port:NAME}` in `text`, each once, in order.
#[must_use]
pub fn ports(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for part in text.split("${port:").skip(1) {
        if let Some((name, _)) = part.split_once('}')
            && !out.iter().any(|known| known == name)
        {
            out.push(name.to_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_replaced_and_an_unknown_one_is_named() {
        let values = BTreeMap::from([("port:a".to_owned(), "4300".to_owned()), ("x".to_owned(), "y".to_owned())]);
        assert_eq!(fill("u = 1:${port:a}/${x}${x}", &values), Ok("u = 1:4300/yy".to_owned()));
        let error = fill("${z}", &values).expect_err("unknown").to_string();
        assert_eq!(error, "fill in ${z} (known: port:a, x)");
        assert!(fill("${x", &values).is_err());
        assert_eq!(fill("# `${…}` stays", &values), Ok("# `${…}` stays".to_owned()));
    }

    #[test]
    fn ports_are_found_once_each() {
        assert_eq!(ports("${port:b} ${port:a} ${port:b} ${x}"), ["b", "a"]);
    }
}
