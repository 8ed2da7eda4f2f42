//! An edge on real sockets, between a scripted origin and clients that see every byte.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure here is the test's")]

mod access;
mod agent;
mod agent_beside;
mod bad_days;
mod caching;
mod client;
mod clocks;
mod cluster;
mod cmsd;
mod disk;
mod evicting;
mod failover;
mod faults;
mod fills;
mod frames;
mod limits;
mod low_latency;
mod origins;
mod prefetching;
mod prewarming;
mod proxying;
mod purging;
mod ranges;
mod reports;
mod requests;
mod restarts;
mod resuming;
mod scripted;
mod signing;
mod support;
mod tls;
