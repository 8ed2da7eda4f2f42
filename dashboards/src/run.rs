//! The role: reads the bus, draws the board, serves the pages.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use spillway_bus::{Bus, Subscription};
use spillway_model::Clock;
use spillway_service::config::ConfigError;
use spillway_service::{CancellationToken, Readiness};
use spillway_wire::overview::OVERVIEW_TOPIC;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::board::SharedBoard;
use crate::feed::{self, Feed};
use crate::pages::{self, Pages};
use crate::{DashboardConfig, view};

/// When no overview comes, pages are told so this often.
const REDRAW: Duration = Duration::from_secs(5);
/// Overviews that come faster are drawn together: a burst must not make quick clients look slow.
const DRAW_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// Interval of heartbeat comments.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What the process hands to the role.
pub struct Shell {
    /// Where overviews come from.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Set while pages are served.
    pub readiness: Readiness,
    /// Ends the role.
    pub shutdown: CancellationToken,
    /// Routes to serve on the same listener: the bus's, if overviews come from another process; `/metrics`. May be
    /// empty.
    pub extra: Router,
}

/// Serves the pages on `listener` until the shell's shutdown, then ends every stream and drains.
///
/// # Errors
/// [`ConfigError`] if `config` is not valid; afterwards nothing ends it but the shutdown.
pub async fn run(config: DashboardConfig, shell: Shell, listener: TcpListener) -> Result<(), ConfigError> {
    config.check()?;
    let board = SharedBoard::default();
    let feed = Feed::new();
    let pages =
        Pages { config: Arc::new(config), board: board.clone(), clock: Arc::clone(&shell.clock), feed: feed.clone() };
    let overviews = shell.bus.subscribe(OVERVIEW_TOPIC);
    let router = pages::router(pages.clone(), shell.readiness.clone()).merge(shell.extra);
    let reader = tokio::spawn(draw(pages, overviews, shell.shutdown.clone()));
    shell.readiness.set(true);
    spillway_service::serve(listener, router, shell.shutdown.clone()).await;
    shell.readiness.set(false);
    if let Err(error) = reader.await {
        tracing::error!(%error, "the reader of overviews failed");
    }
    Ok(())
}

/// Redraws the board at each overview, and while none comes.
async fn draw(pages: Pages, mut overviews: Subscription, shutdown: CancellationToken) {
    let mut redraw = tokio::time::interval(REDRAW);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    for timer in [&mut redraw, &mut heartbeat] {
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    let mut bus_there = true;
    let mut drawn_at = Instant::now();
    let mut changed = false;
    loop {
        tokio::select! {
            message = overviews.next(), if bus_there => {
                let Some(message) = message else {
                    tracing::warn!("the bus is gone: no more overviews come");
                    bus_there = false;
                    continue;
                };
                let now_ms = pages.clock.now().0;
                if let Err(refusal) = pages.board.with(|board| board.accept(&message, now_ms)) {
                    tracing::warn!(reason = refusal.reason(), error = %refusal, "overview refused");
                    continue;
                }
                changed = true;
            }
            () = tokio::time::sleep_until(drawn_at + DRAW_INTERVAL_MIN), if changed => {
                (changed, drawn_at) = (false, Instant::now());
                redraw.reset();
                send(&pages);
            }
            _ = redraw.tick() => send(&pages),
            _ = heartbeat.tick() => { pages.feed.send(&feed::heartbeat()); }
            () = shutdown.cancelled() => break,
        }
    }
    pages.feed.end();
}

fn send(pages: &Pages) {
    if pages.feed.len() == 0 {
        return;
    }
    let now_ms = pages.clock.now().0;
    let html = pages.board.with(|board| view::fragment(&pages.config, board, now_ms));
    let slow = pages.feed.send(&feed::frame(now_ms, &html));
    if slow > 0 {
        tracing::info!(slow, "clients that do not read were dropped");
    }
}
