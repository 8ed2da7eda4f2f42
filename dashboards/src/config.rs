//! The `[dashboard]` table of the configuration.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;
use spillway_service::config::ConfigError;

/// Configuration of the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DashboardConfig {
    /// Address to listen on. Default `127.0.0.1:4303`. The pages ask for no login: an address that others can reach
    /// needs a proxy with one in front.
    pub listen: SocketAddr,
    /// Name of the deployment, shown beside the product's. Default: none.
    pub title: Option<String>,
    /// Target of the link "Watch the stream": an `http://` or `https://` URL, or a path beginning with `/`.
    /// Default: no link.
    pub watch_url: Option<String>,
}

impl Default for DashboardConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4303)), title: None, watch_url: None }
    }
}

impl DashboardConfig {
    /// Checks what a type cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if `watch_url` is no link.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(url) = &self.watch_url else { return Ok(()) };
        let link = url.starts_with("http://") || url.starts_with("https://") || url.starts_with('/');
        if link && !url.contains(char::is_whitespace) {
            Ok(())
        } else {
            Err(ConfigError::invalid("dashboard.watch_url", url, "an http:// or https:// URL, or a path from /"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<DashboardConfig, ConfigError> {
        spillway_service::config::parse(Path::new("test.toml"), text)
    }

    #[test]
    fn an_empty_table_is_the_default() {
        let config = parse("").expect("valid");
        assert_eq!(config, DashboardConfig::default());
        assert_eq!(config.listen.to_string(), "127.0.0.1:4303");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("watch = \"/watch\"").expect_err("unknown").to_string();
        assert!(error.contains("watch") && error.contains("watch_url"), "{error}");
    }

    #[test]
    fn only_links_are_links() {
        for good in ["http://127.0.0.1:9/watch", "https://tv.example/watch?region=a", "/watch"] {
            parse(&format!("watch_url = {good:?}")).expect("parses").check().expect(good);
        }
        for bad in ["javascript:alert(1)", "watch", "", "http://a b"] {
            let error = parse(&format!("watch_url = {bad:?}")).expect("parses").check().expect_err(bad).to_string();
            assert!(error.contains("dashboard.watch_url") && error.contains(bad), "{error}");
        }
    }
}
