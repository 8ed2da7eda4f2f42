//! `cargo xtask crash`: build, then hand over to the campaign of the system tests.

use std::process::Command;

use crate::sh::{self, Result};
use crate::{demo, tools};

/// Runs a campaign; its exit status is ours. `--s3` needs no value here: the server is installed.
pub fn run(arguments: &[String]) -> Result<u8> {
    let moto = if arguments.iter().any(|argument| argument == "--s3") { Some(tools::moto_server()?) } else { None };
    demo::build_programs()?;
    let built = sh::target_dir().join("demo");
    let mut campaign = Command::new(built.join("spillway-crash"));
    campaign.arg("--spillway").arg(built.join("spillway"));
    for argument in arguments {
        campaign.arg(argument);
        if let Some(moto) = moto.as_ref().filter(|_| argument == "--s3") {
            campaign.arg(moto);
        }
    }
    let status = campaign.status().map_err(|error| format!("spillway-crash: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
