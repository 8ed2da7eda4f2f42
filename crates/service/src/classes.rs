//! Content classes: which title belongs to which.

use std::collections::BTreeMap;

use spillway_model::ContentClass;

use crate::config::ConfigError;

/// Content class by path prefix.
#[derive(Clone, Debug, Default)]
pub struct ClassTable(
    /// Longest prefix first.
    Vec<(String, ContentClass)>,
);

impl ClassTable {
    /// Of `steer.class_of`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a class that can't be an id.
    pub fn new(class_of: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut classes = Vec::new();
        for (prefix, class) in class_of {
            let class = ContentClass::new(class)
                .map_err(|error| ConfigError::invalid(format!("steer.class_of.{prefix}"), error, "a content class"))?;
            classes.push((prefix.trim_start_matches('/').to_owned(), class));
        }
        classes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Self(classes))
    }

    /// The class of a path or title.
    #[must_use]
    pub fn class_of(&self, path: &str) -> Option<&ContentClass> {
        self.0.iter().find(|(prefix, _)| path.starts_with(prefix.as_str())).map(|(_, class)| class)
    }

    /// Every class that is named, possibly more than once.
    pub fn classes(&self) -> impl Iterator<Item = &ContentClass> {
        self.0.iter().map(|(_, class)| class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_names_the_class() {
        let of = [("/live/", "live"), ("live/kids/", "kids")];
        let of = of.iter().map(|(prefix, class)| ((*prefix).to_owned(), (*class).to_owned())).collect();
        let table = ClassTable::new(&of).expect("valid");
        let of = |path| table.class_of(path).map(ContentClass::as_str);
        assert_eq!([of("live/river"), of("live/kids/x"), of("vod/live/x")], [Some("live"), Some("kids"), None]);
    }
}
