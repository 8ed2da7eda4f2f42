//! A line's fields by name, whether it is JSON or has columns.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A line's fields.
pub(super) enum Fields<'a> {
    Json(Map<String, Value>),
    Columns(&'a [String], Vec<&'a str>),
}

impl<'a> Fields<'a> {
    /// A JSON object; a comma behind it (a line of an array) is no matter.
    pub(super) fn json(text: &str) -> Result<Self, &'static str> {
        let text = text.trim_end_matches(',');
        serde_json::from_str(text).map(Self::Json).map_err(|_| "bad_json")
    }

    /// Values with tabs between them (or spaces, if there is no tab).
    pub(super) fn columns(names: &'a [String], text: &'a str) -> Result<Self, &'static str> {
        let values: Vec<&str> =
            if text.contains('\t') { text.split('\t').collect() } else { text.split_ascii_whitespace().collect() };
        if values.len() == names.len() { Ok(Self::Columns(names, values)) } else { Err("bad_columns") }
    }

    /// The value of `field` as text, unless it says nothing. In JSON `a.b` is `b` in `a`, if there is no field `a.b`.
    pub(super) fn get(&self, field: &str) -> Option<Cow<'_, str>> {
        let text = match self {
            Self::Columns(names, values) => {
                let at = names.iter().position(|name| name == field)?;
                Cow::Borrowed(*values.get(at)?)
            }
            Self::Json(object) => match find(object, field)? {
                Value::String(text) => Cow::Borrowed(text.as_str()),
                Value::Number(number) => Cow::Owned(number.to_string()),
                Value::Bool(bool) => Cow::Owned(bool.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            },
        };
        // What CloudFront, Akamai and Fastly write for nothing.
        (!matches!(text.trim(), "" | "-" | "^" | "(null)" | "null")).then_some(text)
    }

    /// The texts and numbers of an object.
    pub(super) fn object(&self, field: &str) -> Option<BTreeMap<String, String>> {
        let Self::Json(object) = self else { return None };
        let entries = find(object, field)?.as_object()?.iter().filter_map(|(key, value)| match value {
            Value::String(text) => Some((key.clone(), text.clone())),
            Value::Number(_) | Value::Bool(_) => Some((key.clone(), value.to_string())),
            Value::Null => None,
            nested => Some((key.clone(), nested.to_string())),
        });
        Some(entries.collect())
    }
}

fn find<'v>(object: &'v Map<String, Value>, field: &str) -> Option<&'v Value> {
    if let Some(value) = object.get(field) {
        return Some(value);
    }
    let (outer, inner) = field.split_once('.')?;
    find(object.get(outer)?.as_object()?, inner)
}
