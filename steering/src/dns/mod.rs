//! The DNS zone: for devices that know neither playlists nor redirects, the same decision as an address or alias.
//!
//! The path of a query: `server` (sockets) → `limits` (what a sender may cost) → `message` (what is a query, by
//! hickory's types) → `subnet` (whom it is for) → `zone` (its records, by the plan of the subnet's region) → back, and
//! `tally` counts what became of it. `config` says which names there are and where pathways are.
//!
//! A query is counted by its outcome, and nowhere as demand: a resolver asks for thousands of viewers or for none, and
//! those who come this way are seen where they watch.

mod config;
mod limits;
mod message;
mod server;
mod subnet;
mod tally;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use spillway_service::CancellationToken;
use spillway_service::config::ConfigError;
use spillway_service::deployment::Deployment;

pub use config::{DnsConfig, TargetConfig};

pub(crate) use config::DnsSettings;

use crate::SteerState;
use limits::{Admission, Limits};
use server::Sockets;
use tally::{Outcome, Tally, Transport};
use zone::Zone;

#[cfg(test)]
pub(crate) mod tests;

/// The zone and what it answers by.
pub(crate) struct Dns {
    state: Arc<SteerState>,
    zone: Zone,
    limits: Limits,
    tally: Tally,
}

impl Dns {
    /// Checks the settings against the deployment.
    pub(crate) fn new(state: &Arc<SteerState>, settings: &DnsSettings) -> Result<Self, ConfigError> {
        check(settings, &state.deployed.now())?;
        Ok(Self {
            zone: Zone::new(settings, state),
            limits: Limits::new(settings.answers_per_prefix_per_s, settings.tcp_connections_max),
            tally: Tally::default(),
            state: Arc::clone(state),
        })
    }

    /// Answers a datagram within its sender's rate.
    fn datagram(&self, packet: &[u8], sender: SocketAddr, out: &mut Vec<u8>) {
        out.clear();
        if sender.port() == 0 {
            return self.tally.count(Transport::Udp, Outcome::Ignored);
        }
        match self.limits.datagram(sender.ip()) {
            Admission::Answer => self.respond(packet, sender.ip(), Transport::Udp, out),
            Admission::Slip => {
                message::ask_over_tcp(packet, out);
                let slipped = if out.is_empty() { Outcome::Limited } else { Outcome::Slipped };
                self.tally.count(Transport::Udp, slipped);
            }
            Admission::Drop => self.tally.count(Transport::Udp, Outcome::Limited),
        }
    }

    /// Answers a query, and counts it. A packet that finds a fault in us costs its sender the answer, and nobody else.
    fn respond(&self, packet: &[u8], sender: IpAddr, transport: Transport, out: &mut Vec<u8>) {
        let now = self.state.clock.now();
        let respond = || message::respond(&self.zone, &self.state, packet, (sender, transport), now, out);
        let outcome = catch_unwind(AssertUnwindSafe(respond)).unwrap_or(Outcome::Broken);
        if outcome == Outcome::Broken {
            out.clear();
        }
        self.tally.count(transport, outcome);
    }
}

/// Checks that every target is a pathway's, and that every pathway is somewhere.
///
/// # Errors
/// [`ConfigError::Invalid`] names the target or pathway.
pub(crate) fn check(settings: &DnsSettings, deployment: &Deployment) -> Result<(), ConfigError> {
    if let Some(unknown) = settings.targets.keys().find(|id| !deployment.pathways.contains_key(*id)) {
        let names: Vec<&str> = deployment.pathways.keys().map(|id| id.as_str()).collect();
        return Err(ConfigError::invalid("steer.dns.targets", unknown, names.join(", ")));
    }
    let origin = (&settings.apex).into();
    for (id, pathway) in &deployment.pathways {
        if !settings.targets.contains_key(id) && config::target_of(&pathway.base_url, &origin).is_none() {
            let valid = "addresses, since the host of its base_url is in the zone";
            return Err(ConfigError::invalid(format!("steer.dns.targets.{id}"), "none", valid));
        }
    }
    Ok(())
}

/// A zone with its ports, if the node has one.
///
/// # Errors
/// A target that is no pathway, or a port that can't be bound.
pub(crate) async fn open(state: &Arc<SteerState>) -> anyhow::Result<Option<(Arc<Dns>, Vec<Sockets>)>> {
    let Some(settings) = &state.settings.dns else { return Ok(None) };
    let dns = Dns::new(state, settings)?;
    let sockets = Sockets::bind(&settings.listen).await?;
    for socket in &sockets {
        tracing::info!(address = %socket.address()?, zone = %settings.apex, "DNS zone");
    }
    Ok(Some((Arc::new(dns), sockets)))
}

/// Serves the zone until `shutdown`.
pub(crate) async fn serve(zone: Option<(Arc<Dns>, Vec<Sockets>)>, shutdown: &CancellationToken) {
    if let Some((dns, sockets)) = zone {
        server::serve(dns, sockets, shutdown).await;
    }
}
