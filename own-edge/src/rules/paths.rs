//! What holds for some paths only: how long their answers are good, and what of their URLs tells objects apart. Pure.

use serde::Deserialize;
use spillway_service::config::ConfigError;

use super::policy::Ttl;
use crate::cache::object::Key;

/// Begin of the parameters by which a player asks for a playlist that is not there yet, or for what is new in it.
const HLS_DIRECTIVES: &str = "_HLS_";

/// `[[edge.paths]]`: what is set here holds for the paths that it is for; the first entry that fits a path is its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathConfig {
    /// Beginning of the paths, with their slash. Default "/".
    prefix: Option<String>,
    /// End of the paths: ".m3u8". Default any.
    suffix: Option<String>,
    /// How long an answer is good where the origin doesn't say, s.
    default_ttl_s: Option<u64>,
    /// No answer is good for longer, whatever the origin says, s.
    max_ttl_s: Option<u64>,
    /// How long an answer is good, whatever the origin says, s; what is `private` or `no-store` is still not kept.
    ttl_s: Option<u64>,
    /// How long "not found", "gone" and such (404, 405, 410, 414, 501) are good where the origin doesn't say, s. Default 0:
    /// they are shared with those who wait for them, but a player at a live edge that came too early must not get an
    /// answer from before.
    error_ttl_s: Option<u64>,
    /// Query parameters that don't tell objects apart, beside those of `ignore_query`; ["*"] is all of them.
    ignore_query: Option<Vec<String>>,
    /// Query parameters that do; all others don't. Not together with `ignore_query`.
    keep_query: Option<Vec<String>>,
    /// The order of query parameters doesn't tell objects apart. Default false.
    #[serde(default)]
    sort_query: bool,
    /// So many segments at the begin of a path are a token of somebody's, and belong neither to the object's name nor to
    /// what the origin is asked for. Default 0.
    #[serde(default)]
    strip_segments: usize,
}

/// Which query parameters tell objects apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Query {
    /// All but these.
    But(Vec<String>),
    /// These.
    Only(Vec<String>),
}

/// A rule, checked.
#[derive(Clone, Debug)]
struct Rule {
    prefix: String,
    suffix: String,
    ttl: Ttl,
    query: Query,
    sort_query: bool,
    strip_segments: usize,
}

/// The rules of an edge.
#[derive(Clone, Debug)]
pub(crate) struct PathRules {
    rules: Vec<Rule>,
    /// For paths that have none.
    usual: Rule,
}

impl PathRules {
    /// Checks entries; `ignore_query` holds for all.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what would be valid.
    pub(crate) fn new(entries: &[PathConfig], ignore_query: &[String]) -> Result<Self, ConfigError> {
        let usual = Rule::new(&PathConfig::default(), ignore_query)?;
        let rules = entries.iter().map(|entry| Rule::new(entry, ignore_query)).collect::<Result<_, _>>()?;
        Ok(Self { rules, usual })
    }

    fn of(&self, path: &str) -> &Rule {
        let fits = |rule: &&Rule| path.starts_with(&*rule.prefix) && path.ends_with(&*rule.suffix);
        self.rules.iter().find(fits).unwrap_or(&self.usual)
    }

    /// The rule of a path that has lost what is stripped; where something was, the rule is for what comes behind that.
    fn of_stripped(&self, path: &str) -> &Rule {
        let fits = |rule: &&Rule| {
            let begins = rule.strip_segments > 0 || path.starts_with(&*rule.prefix);
            begins && path.ends_with(&*rule.suffix)
        };
        self.rules.iter().find(fits).unwrap_or(&self.usual)
    }

    /// How long the answers for a key are good.
    pub(crate) fn ttl(&self, key: &Key) -> Ttl {
        self.of_stripped(key.split(['?', '\n']).next().unwrap_or_default()).ttl
    }

    /// What names the object that an answer refers to: its path is relative to a key, so nothing of it is stripped.
    pub(crate) fn key_beside(&self, path: &str, query: Option<&str>) -> Key {
        let query = query.map(|query| self.of_stripped(path).kept(query)).unwrap_or_default();
        if query.is_empty() { Key::from(path) } else { Key::from(format!("{path}?{query}")) }
    }

    /// What names the object of a path and a query, and what the origin is asked for.
    pub(crate) fn key(&self, path: &str, query: Option<&str>) -> Key {
        let rule = self.of(path);
        let path = stripped(path, rule.strip_segments);
        let query = query.map(|query| rule.kept(query)).unwrap_or_default();
        if query.is_empty() { Key::from(path) } else { Key::from(format!("{path}?{query}")) }
    }
}

/// `path` without its first segments; one that has no more stays as it is.
fn stripped(path: &str, segments: usize) -> &str {
    if segments == 0 {
        return path;
    }
    path.match_indices('/').nth(segments).map_or(path, |(at, _)| &path[at..])
}

impl Rule {
    fn new(entry: &PathConfig, ignore_query: &[String]) -> Result<Self, ConfigError> {
        let prefix = entry.prefix.clone().unwrap_or_else(|| "/".to_owned());
        if !prefix.starts_with('/') {
            return Err(ConfigError::invalid("edge.paths.prefix", prefix, "the beginning of paths, with their slash"));
        }
        if entry.ttl_s.is_some() && (entry.default_ttl_s.is_some() || entry.max_ttl_s.is_some()) {
            let valid = "either ttl_s, or default_ttl_s and max_ttl_s";
            return Err(ConfigError::invalid("edge.paths.ttl_s", prefix, valid));
        }
        let query = match (&entry.ignore_query, &entry.keep_query) {
            (Some(_), Some(_)) => {
                let valid = "one of ignore_query and keep_query for a path";
                return Err(ConfigError::invalid("edge.paths.keep_query", prefix, valid));
            }
            (Some(ignored), None) if ignored.iter().any(|name| name == "*") => Query::Only(Vec::new()),
            (None, Some(kept)) => Query::Only(kept.clone()),
            (ignored, None) => Query::But([ignore_query, ignored.as_deref().unwrap_or_default()].concat()),
        };
        Ok(Self {
            prefix,
            suffix: entry.suffix.clone().unwrap_or_default(),
            ttl: Ttl {
                fixed_s: entry.ttl_s,
                default_s: entry.default_ttl_s,
                max_s: entry.max_ttl_s,
                error_s: entry.error_ttl_s.unwrap_or(Ttl::USUAL.error_s),
            },
            query,
            sort_query: entry.sort_query,
            strip_segments: entry.strip_segments,
        })
    }

    /// What is left of a query.
    fn kept(&self, query: &str) -> String {
        let stays = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or(pair);
            match &self.query {
                Query::But(ignored) => !ignored.iter().any(|ignored| ignored == name),
                Query::Only(kept) => kept.iter().any(|kept| kept == name),
            }
        };
        let mut pairs: Vec<&str> = query.split('&').filter(stays).collect();
        if self.sort_query {
            // By name only: what one parameter says twice has an order of its own.
            pairs.sort_by_key(|pair| pair.split('=').next());
        } else if query.contains(HLS_DIRECTIVES) {
            // Players that say the same in another order wait for the same playlist.
            pairs.sort_by_key(|pair| pair.starts_with(HLS_DIRECTIVES).then(|| pair.split('=').next()));
        }
        pairs.join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<PathRules, ConfigError> {
        #[derive(Deserialize)]
        struct Paths {
            #[serde(default)]
            paths: Vec<PathConfig>,
        }
        let Paths { paths } = toml::from_str(text).expect("parses");
        PathRules::new(&paths, &["CMCD".to_owned(), "token".to_owned()])
    }

    #[test]
    fn ignored_parameters_leave_no_trace_in_the_key() {
        let rules = rules("").expect("valid");
        for (query, expected) in [
            (None, "/a"),
            (Some(""), "/a"),
            (Some("CMCD=x"), "/a"),
            (Some("a=1&CMCD=x%3D1&b=2"), "/a?a=1&b=2"),
            (Some("token=1&_HLS_msn=3&_HLS_part=1"), "/a?_HLS_msn=3&_HLS_part=1"),
            (Some("_HLS_part=1&b=2&_HLS_msn=3&a=1&_HLS_skip=YES"), "/a?b=2&a=1&_HLS_msn=3&_HLS_part=1&_HLS_skip=YES"),
            (Some("cmcd=x"), "/a?cmcd=x"),
        ] {
            assert_eq!(&*rules.key("/a", query), expected, "{query:?}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_says_what_tells_objects_apart() {
        let rules = rules(
            r#"
            paths = [
                { prefix = "/live/", suffix = ".m3u8", keep_query = ["_HLS_msn", "_HLS_part"], sort_query = true },
                { prefix = "/live/", ignore_query = ["*"] },
                { prefix = "/vod/", ignore_query = ["user"], strip_segments = 2 },
            ]"#,
        )
        .expect("valid");
        for (path, query, expected) in [
            ("/live/a.m3u8", "_HLS_part=1&x=2&_HLS_msn=7", "/live/a.m3u8?_HLS_msn=7&_HLS_part=1"),
            ("/live/a.m4s", "x=2&y", "/live/a.m4s"),
            ("/vod/secret/film/1.m4s", "user=1&q=2&CMCD=3", "/film/1.m4s?q=2"),
            ("/vod/secret", "", "/vod/secret"),
            ("/else", "user=1&CMCD=3", "/else?user=1"),
        ] {
            assert_eq!(&*rules.key(path, Some(query)), expected, "{path}?{query}");
        }
        assert_eq!(&*rules.key_beside("/film/x/1.m4s", Some("user=1&q=2")), "/film/x/1.m4s?q=2");
    }

    #[test]
    fn a_rule_that_says_two_things_is_refused_by_name() {
        for (text, word) in [
            ("paths = [{ prefix = \"live/\" }]", "edge.paths.prefix"),
            ("paths = [{ ttl_s = 1, max_ttl_s = 2 }]", "edge.paths.ttl_s"),
            ("paths = [{ ignore_query = [], keep_query = [] }]", "edge.paths.keep_query"),
        ] {
            let error = rules(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_those_of_the_path() {
        let rules = rules(r#"paths = [{ suffix = ".mpd", ttl_s = 2, error_ttl_s = 1 }]"#).expect("valid");
        assert_eq!(rules.ttl(&Key::from("/a.mpd?x.y")), Ttl { fixed_s: Some(2), error_s: 1, ..Ttl::USUAL });
        assert_eq!(rules.ttl(&Key::from("/a.m4s?x.mpd")), Ttl::USUAL);
        assert_eq!(rules.ttl(&Key::from("/a.mpd\n1\nx")).fixed_s, Some(2));
    }
}
