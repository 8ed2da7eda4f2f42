//! `spillway`: the one binary. `spillway <role>` serves, `spillway <tool>` does one thing and ends.
//!
//! Invariant: nothing but assembly here. Exit 0 done, 1 failed, 2 bad usage, 64 bad configuration.

mod cli;
mod config;
mod lease;
mod reload;
mod roles;
mod tools;

use std::process::ExitCode;

use clap::Parser as _;
use spillway_service::config::{ConfigError, EXIT_BAD_CONFIGURATION};

use crate::cli::{Cli, Command};
use crate::tools::BadUsage;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spillway: {error:#}");
            let bad_configuration = error.chain().any(|cause| cause.downcast_ref::<ConfigError>().is_some());
            let bad_usage = error.chain().any(|cause| cause.downcast_ref::<BadUsage>().is_some());
            ExitCode::from(match () {
                () if bad_configuration => u8::try_from(EXIT_BAD_CONFIGURATION).unwrap_or(1),
                () if bad_usage => 2,
                () => 1,
            })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Simulate(arguments) = cli.command {
        return tools::simulate::run(&arguments);
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match cli.command {
            Command::All(file) => roles::all(&file.config).await,
            Command::Collector(file) => roles::collector(&file.config).await,
            Command::Orchestrator(file) => roles::orchestrator(&file.config).await,
            Command::Steer(file) => roles::steer(&file.config).await,
            Command::Dashboard(file) => roles::dashboard(&file.config).await,
            Command::Edge(arguments) => roles::edge(&arguments).await,
            Command::EdgeAgent(arguments) => roles::edge_agent(&arguments.config, arguments.beside).await,
            Command::CheckConfig(arguments) => tools::check_config::run(&arguments),
            Command::Query(arguments) => tools::query::run(&arguments).await,
            Command::Lake(arguments) => tools::lake::run(&arguments).await,
            Command::Drill(arguments) => tools::drill::run(&arguments).await,
            Command::Manifest(arguments) => tools::manifest::run(&arguments).await,
            Command::Pathway(arguments) => tools::pathway::run(&arguments).await,
            Command::Purge(arguments) => tools::purge::run(&arguments).await,
            Command::Reload(arguments) => tools::reload::run(&arguments).await,
            Command::Explain(arguments) => tools::explain::run(&arguments).await,
            Command::Load(load) => match &load.what {
                cli::LoadWhat::Beacons(arguments) => tools::load::beacons(arguments).await,
                cli::LoadWhat::Events(arguments) => tools::load::events::write(arguments),
                cli::LoadWhat::Freshness(arguments) => tools::load::freshness::run(arguments).await,
            },
            Command::Token => tools::token::run(),
            Command::Keygen(arguments) => tools::keygen::run(&arguments),
            Command::Simulate(_) => Ok(()),
            Command::Backtest(arguments) => tools::backtest::run(&arguments).await,
            Command::NotYet(words) => {
                anyhow::bail!(
                    "{:?} is not there yet (README, \"What is not there yet\")",
                    words.first().map_or("", String::as_str)
                )
            }
        }
    })
}
