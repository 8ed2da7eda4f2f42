//! A crash campaign from the command line; `cargo xtask crash` builds and starts it.

use std::path::PathBuf;
use std::process::ExitCode;

use spillway_system_tests::crash::{Campaign, run};

const USAGE: &str = "--spillway FILE [--rounds N] [--seed N] [--collectors 1|2] [--s3 MOTO_SERVER] [--rate N] [--json]";

fn main() -> ExitCode {
    match campaign() {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::FAILURE
        }
    }
}

fn campaign() -> Result<bool, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("a folder for the campaign: {error}"))?;
    let mut campaign = Campaign {
        spillway: PathBuf::new(),
        dir: dir.path().to_owned(),
        rounds: 20,
        seed: 1,
        collectors: 1,
        moto_server: None,
        beacons_per_s: 300,
        talk: true,
    };
    let mut json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = |valid: &str| arguments.next().ok_or_else(|| format!("{argument} needs {valid}"));
        match argument.as_str() {
            "--spillway" => campaign.spillway = value("a file")?.into(),
            "--s3" => campaign.moto_server = Some(value("a file")?.into()),
            "--rounds" => campaign.rounds = number(&argument, &value("a number")?, 1..=10_000)?,
            "--seed" => campaign.seed = number(&argument, &value("a number")?, 0..=u64::MAX)?,
            "--rate" => campaign.beacons_per_s = number(&argument, &value("a number")?, 1..=10_000)? as u32,
            "--collectors" => campaign.collectors = number(&argument, &value("1 or 2")?, 1..=2)? as usize,
            "--json" => json = true,
            other => return Err(format!("{other:?} is not valid (valid: {USAGE})")),
        }
    }
    if campaign.spillway.as_os_str().is_empty() {
        return Err(format!("--spillway is missing (valid: {USAGE})"));
    }
    let outcome = run(&campaign)?;
    if json {
        println!("{}", outcome.json);
    } else {
        println!(
            "{} rounds: {} events acknowledged, {} stored, {} lost, {} duplicated ({} in the raw table)",
            campaign.rounds,
            outcome.acknowledged,
            outcome.stored,
            outcome.lost,
            outcome.duplicated,
            outcome.raw_duplicates
        );
    }
    Ok(outcome.good)
}

fn number(flag: &str, text: &str, valid: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let parsed = text.parse().ok().filter(|number| valid.contains(number));
    parsed.ok_or_else(|| format!("{flag} {text:?} is not valid (valid: {} to {})", valid.start(), valid.end()))
}
