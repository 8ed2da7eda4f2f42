//! The shell that all roles share: configuration, listeners, health, drain, metrics, auth, the system clock, and the
//! tables host → pathway, address → place and user agent → device; and the sender of rows to a collector.
//!
//! Invariant: no wire shape, no policy; a role works the same with another shell around it.

pub mod auth;
pub mod capacity_feed;
pub mod classes;
mod clock;
pub mod config;
mod deployed;
pub mod deployment;
pub mod device;
pub mod geo;
mod health;
mod http;
pub mod logging;
pub mod posting;
pub mod prices;
pub mod random;
mod shutdown;
pub mod tls;

pub use clock::SystemClock;
pub use deployed::{Deployed, Deploys};
pub use health::{Readiness, health_router, install_metrics};
pub use http::{bind, client_ip, serve};
pub use shutdown::{DRAIN, hangups, shutdown_on_signal};
pub use tokio_util::sync::CancellationToken;
