//! `spillway manifest make`: a manifest by hand, without orchestrator, collector or lake.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::SigningKey;
use spillway_bus::{DirStore, Store};
use spillway_model::{Clock as _, Millis, RegionId};
use spillway_orchestrator::Publisher;
use spillway_orchestrator_core::{CannotEvacuate, Evacuation, by_static_weights, evacuate};
use spillway_routing::Manifest;
use spillway_service::SystemClock;
use spillway_service::deployment::Deployment;
use spillway_wire::envelope::{KEYS_FILE, key_id, manifest_file, manifest_key, open, read_keys, seal};
use spillway_wire::manifest;

use super::{read_file, unsealed, with_keys};
use crate::cli::manifest::Make;
use crate::config::Config;
use crate::tools::BadUsage;

/// What a manifest is made of, in words for the summary.
struct Base {
    manifest: Manifest,
    what: String,
}

/// Makes, signs, and puts it where it belongs.
///
/// # Errors
/// A bad argument, key or configuration; a region of which nothing would be left.
pub async fn run(arguments: &Make) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let deployment = config.deployment()?;
    let key = signing_key(&arguments.sign)?;
    let public = BASE64.encode(key.verifying_key().to_bytes());
    let now = SystemClock::new().now();
    let valid = Millis::from_secs(arguments.valid_s.unwrap_or(config.orchestrator.manifest_valid_s));
    let store: Option<Arc<dyn Store>> = match arguments.publish {
        true => Some(Arc::new(DirStore::open(&config.store_dir()).context("open the store")?)),
        false => None,
    };
    let mut made = Vec::new();
    for region in regions(arguments, &deployment)? {
        let base = base(arguments, &deployment, &region, store.as_ref(), &public).await?;
        let done = match &arguments.evacuate {
            None => Ok((by_static_weights(&base.manifest, &arguments.reason), None)),
            Some(name) => {
                let done = evacuate(&base.manifest, name, &arguments.reason, now);
                done.map(|(manifest, evacuation)| (manifest, Some(evacuation)))
            }
        };
        let (mut manifest, evacuation) = match done {
            Ok(done) => done,
            Err(error @ CannotEvacuate::Unknown { .. }) if arguments.all => {
                println!("{region}: left out: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        (manifest.issued, manifest.valid_until) = (now, now.after(valid));
        if store.is_none() {
            manifest.epoch = epoch(arguments, &base, &region)?;
        }
        manifest.check().with_context(|| format!("the manifest of {region}"))?;
        made.push((manifest, base.what, evacuation));
    }
    if made.is_empty() {
        bail!("no region has {}", arguments.evacuate.as_deref().unwrap_or_default());
    }
    // Nothing is written before all of it is good.
    for (manifest, what, evacuation) in made {
        let manifest = match (&store, &arguments.out) {
            (Some(store), _) => {
                let publisher = Publisher::open(Arc::clone(store), &arguments.sign, valid).await?;
                publisher.publish(manifest).await?
            }
            (None, Some(folder)) => {
                let sealed = seal(&key_id(&public), &key, &manifest::to_bytes(&manifest));
                let keys = with_keys(folder, (key_id(&public), public.clone()));
                replace(folder, KEYS_FILE, &serde_json::to_vec(&keys)?)?;
                replace(folder, &manifest_file(&manifest.region), &serde_json::to_vec(&sealed)?)?;
                manifest
            }
            (None, None) => bail!(BadUsage("--out or --publish is needed".into())),
        };
        println!(
            "{}: epoch {}, made from {what}, valid until {}",
            manifest.region,
            manifest.epoch,
            spillway_lake::iso(manifest.valid_until.0)
        );
        if let Some(evacuation) = evacuation {
            summarise(&evacuation);
        }
    }
    Ok(())
}

fn summarise(done: &Evacuation) {
    for (name, (before, after)) in done.shares.iter().filter(|(_, (before, after))| before != after) {
        println!("  {name}: {:.1} % → {:.1} %", f64::from(*before) / 1e4, f64::from(*after) / 1e4);
    }
    let (moved, spare) = (done.moved.0 as f64 / 1e9, done.spare.0 as f64 / 1e9);
    println!("  {moved:.2} Gbit/s move, {spare:.2} Gbit/s of room were left, as far as it is known");
    if done.moved > done.spare {
        println!("  WARNING: that is more than there is room for");
    }
    if done.same_domain {
        println!("  WARNING: all that is left shares a failure domain with what is evacuated");
    }
}

fn regions(arguments: &Make, deployment: &Deployment) -> anyhow::Result<Vec<RegionId>> {
    let Some(name) = &arguments.region else { return Ok(deployment.regions.keys().cloned().collect()) };
    match deployment.regions.get_key_value(name.as_str()) {
        Some((id, _)) => Ok(vec![id.clone()]),
        None => {
            let valid: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
            bail!(BadUsage(format!("--region {name:?} is not declared (valid: {})", valid.join(", "))))
        }
    }
}

/// The last manifest if there is one, else one from configuration.
async fn base(
    arguments: &Make,
    deployment: &Deployment,
    region: &RegionId,
    store: Option<&Arc<dyn Store>>,
    public: &str,
) -> anyhow::Result<Base> {
    if let Some(from) = &arguments.from {
        let file = if from.is_dir() { from.join(manifest_file(region)) } else { from.clone() };
        let bytes = read_file(&file)?;
        let shown = file.display().to_string();
        let mut keys = std::fs::read(file.with_file_name(KEYS_FILE)).map(|it| read_keys(&it)).unwrap_or_default();
        keys.extend(spillway_wire::envelope::read_key(public).map(|key| (key_id(public), key)));
        let payload = open(&bytes, &keys).with_context(|| shown.clone())?;
        let manifest = manifest::parse(&payload).with_context(|| shown.clone())?;
        if manifest.region != *region {
            bail!(BadUsage(format!("{shown} is of region {}, not {region}", manifest.region)));
        }
        let what = format!("epoch {} of {shown}", manifest.epoch);
        return Ok(Base { manifest, what });
    }
    if let Some(store) = store
        && let Some(found) = store.get(&manifest_key(region)).await?
    {
        let manifest = unsealed(&found.value, "the store's manifest")?;
        let what = format!("epoch {} of the store", manifest.epoch);
        return Ok(Base { manifest, what });
    }
    let declared = &deployment.regions[region];
    let manifest = spillway_steering::static_manifest(deployment, region, declared)?;
    // Its rules have no weights of their own, which only a node's own fallback may.
    let manifest = by_static_weights(&manifest, "no manifest yet");
    Ok(Base { manifest, what: "the configuration".into() })
}

fn epoch(arguments: &Make, base: &Base, region: &RegionId) -> anyhow::Result<u64> {
    match (arguments.epoch, base.manifest.epoch) {
        (Some(epoch), last) if epoch > last => Ok(epoch),
        (Some(epoch), last) => {
            bail!(BadUsage(format!("--epoch {epoch} of {region} is not above {last}: nodes would refuse it")))
        }
        (None, 0) => bail!(BadUsage(format!(
            "--epoch or --from is needed: nodes refuse what is not newer than what they have ({region}, /internal/steer)"
        ))),
        (None, last) => Ok(last + 1),
    }
}

fn signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    let bytes: Option<[u8; 32]> = BASE64.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.with_context(|| format!("{shown} is not base64 of 32 bytes (spillway keygen makes one)"))?;
    Ok(SigningKey::from_bytes(&bytes))
}

/// Write, then rename: who reads meanwhile has the old one.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        let temporary = folder.join(format!("{name}.tmp"));
        std::fs::write(&temporary, bytes)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, folder.join(name))
    };
    write().with_context(|| format!("write {}", folder.join(name).display()))
}
