//! `spillway lake import`: access logs into `deliveries`.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use flate2::read::MultiGzDecoder;
use spillway_lake::import::{ImportOptions, Outcome, Summary, hash_of, import, is_there};
use spillway_model::{Clock as _, PathwayId};
use spillway_service::SystemClock;
use spillway_service::config::ConfigError;

use crate::cli::lake::LakeImport;
use crate::config::Config;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Imports each log and prints what was in it. A log that can't be imported does not keep the next ones out; the exit
/// tells of it.
///
/// # Errors
/// A bad configuration, a pathway that is not in it, logs that could not be imported.
pub async fn run(arguments: &LakeImport) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let deployment = config.deployment()?;
    if !(0.0..=100.0).contains(&arguments.bad_max_percent) {
        let value = arguments.bad_max_percent;
        return Err(ConfigError::invalid("--bad-max-percent", value, "0 to 100").into());
    }
    if let Some(id) = &arguments.pathway
        && !PathwayId::new(id).is_ok_and(|id| deployment.pathways.contains_key(&id))
    {
        let known: Vec<&str> = deployment.pathways.keys().map(PathwayId::as_str).collect();
        return Err(ConfigError::invalid("--pathway", id, known.join(", ")).into());
    }
    let root = config.lake_root()?;
    let options = ImportOptions {
        format: arguments.format,
        maps: arguments.maps.clone(),
        pathway: arguments.pathway.clone(),
        bad_max_percent: arguments.bad_max_percent,
        received_ms: SystemClock::new().now().0,
        complete: Arc::new(move |row| spillway_collector::complete(&deployment, row)),
    };
    let mut failed = 0;
    for path in &arguments.files {
        match one(&root, path, options.clone()).await {
            Ok(summary) => print(path, &summary, arguments.json)?,
            Err(error) => {
                eprintln!("spillway: {}: {error:#}", path.display());
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} logs were not imported", arguments.files.len());
    }
    Ok(())
}

async fn one(root: &url::Url, path: &Path, options: ImportOptions) -> anyhow::Result<Summary> {
    let mut file = open(path)?;
    // Its name in the table is the hash of its text, so it is read twice.
    let hashing = file.try_clone()?;
    let sha256 = tokio::task::spawn_blocking(move || hash_of(unpacked(hashing)?)).await??;
    if is_there(root, &sha256).await? {
        return Ok(Summary { outcome: Outcome::AlreadyThere, sha256, ..Summary::default() });
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(import(root, unpacked(file)?, &sha256, options).await?)
}

/// The log as a file that can be read twice: standard input goes through one that has no name any more.
fn open(path: &Path) -> anyhow::Result<File> {
    if path != Path::new("-") {
        return File::open(path).context("open");
    }
    let spool = std::env::temp_dir().join(format!("spillway-import-{}", spillway_service::random::id(20)));
    let mut file = File::options().read(true).write(true).create_new(true).open(&spool).context("spool the input")?;
    std::fs::remove_file(&spool).context("spool the input")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).context("spool the input")?;
    file.flush()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// The text of a log, plain or gzip (of several members too, as concatenated logs have).
fn unpacked(mut file: File) -> std::io::Result<Box<dyn Read + Send>> {
    let mut first = [0; 2];
    let read = file.read(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    let gzip = read == first.len() && first == GZIP;
    Ok(if gzip { Box::new(MultiGzDecoder::new(std::io::BufReader::new(file))) } else { Box::new(file) })
}

fn print(path: &Path, summary: &Summary, json: bool) -> anyhow::Result<()> {
    if json {
        let mut line = serde_json::to_value(summary)?;
        line["file"] = path.display().to_string().into();
        println!("{line}");
        return Ok(());
    }
    let outcome = match summary.outcome {
        Outcome::Imported => "imported",
        Outcome::AlreadyThere => "there already, nothing was added",
        Outcome::Empty => "no request in it",
    };
    println!("{}: {outcome}", path.display());
    for (pathway, of) in &summary.pathways {
        println!("  {pathway:<24} {:>12} requests {:>16} bytes {:>12} rows", of.requests, of.bytes, of.rows);
    }
    for (kind, lines) in &summary.skipped {
        println!("  {lines} lines left out: {kind}");
    }
    if summary.bad_lines() > 0 {
        println!("  {} of {} lines are bad ({})", summary.bad_lines(), summary.lines, summary.told_bad());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const CONFIG: &str = r#"
        service_token = "0123456789abcdef"
        [[region]]
        id = "eu"
        static_weights = { cdn-a = 1 }
        countries = ["DE"]
        [[prefix]]
        prefix = "192.0.2.0/24"
        region = "eu"
        asn = 64500
        [[pathway]]
        id = "cdn-a"
        base_url = "https://media.example.net"
        capacity_mbps = 1000
    "#;

    const LOG: &str = r#"{"timestamp":"2026-01-01T00:00:00Z","client_ip":"192.0.2.7","host":"media.example.net","url":"/a.m4s?token=secret","response_status":200,"response_body_size":1000,"response_state":"HIT"}
"#;

    fn arguments(folder: &Path, files: &[&str]) -> LakeImport {
        let config = folder.join("spillway.toml");
        let text = format!("data_dir = {:?}\n{CONFIG}", folder.join("data").display().to_string());
        std::fs::write(&config, text).expect("write");
        LakeImport {
            files: files.iter().map(|name| folder.join(name)).collect(),
            config,
            format: "fastly".parse().expect("format"),
            maps: vec![],
            pathway: None,
            bad_max_percent: 5.0,
            json: true,
        }
    }

    async fn count(folder: &Path, sql: &str) -> u64 {
        let root = spillway_lake::lake_root(&folder.join("data/lake").to_string_lossy()).expect("root");
        spillway_lake::LakeSession::open(&root, vec![]).await.expect("open").count(sql).await.expect("count")
    }

    #[tokio::test]
    async fn a_log_packed_and_plain_is_one_log_and_a_bad_one_keeps_no_other_out() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path();
        let mut zip = GzEncoder::new(Vec::new(), Compression::default());
        zip.write_all(LOG.as_bytes()).expect("write");
        std::fs::write(folder.join("a.log"), LOG).expect("write");
        std::fs::write(folder.join("a.log.gz"), zip.finish().expect("finish")).expect("write");
        std::fs::write(folder.join("bad.log"), "garbage\n").expect("write");
        run(&arguments(folder, &["a.log", "a.log.gz", "a.log"])).await.expect("imported");
        let where_it_belongs =
            "pathway = 'cdn-a' AND region = 'eu' AND asn = 64500 AND path = '/a.m4s' AND bytes = 1000";
        assert_eq!(count(folder, &format!("SELECT count(*) FROM deliveries WHERE {where_it_belongs}")).await, 1);
        let error = run(&arguments(folder, &["bad.log", "missing.log", "a.log"])).await.expect_err("two failed");
        assert!(error.to_string().contains("2 of 3 logs"), "{error}");
        assert_eq!(count(folder, "SELECT count(*) FROM deliveries").await, 1);
    }

    #[tokio::test]
    async fn a_pathway_that_is_not_there_is_named_with_those_that_are() {
        let folder = tempfile::tempdir().expect("folder");
        let wrong = LakeImport { pathway: Some("cdn-z".into()), ..arguments(folder.path(), &["a.log"]) };
        let error = run(&wrong).await.expect_err("unknown").to_string();
        assert!(error.contains("cdn-z") && error.contains("cdn-a"), "{error}");
        let wrong = LakeImport { bad_max_percent: 101.0, ..arguments(folder.path(), &["a.log"]) };
        assert!(run(&wrong).await.expect_err("too much").to_string().contains("0 to 100"));
    }
}
