//! The configuration file again, for roles that run: what can change, and what of it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use spillway_orchestrator::{Configured, KeyChange, Reread, Rereader};
use spillway_service::config::ConfigError;
use spillway_service::deployment::Deployment;
use toml::{Table, Value};

use crate::config::Config;

/// Sections that can change in a running process. They go into answers and logs with their values: none may hold a
/// secret.
const LIVE: [&str; 4] = ["region", "pathway", "prefix", "policy"];
/// Keys of `[orchestrator]` that can.
const LIVE_OF_ORCHESTRATOR: [&str; 6] =
    ["ceilings", "spill_usd_per_hour_max", "class_order", "canary", "prewarm_top", "redirect_new_sessions"];
/// Keys that tell the tables of a list apart.
const NAMES: [&str; 3] = ["id", "name", "prefix"];

/// What is in force.
#[derive(Clone)]
struct InForce {
    table: Table,
    deployment: Arc<Deployment>,
}

/// Reads the file of `config` again, which is in force with `deployment`.
pub fn rereader(path: PathBuf, config: &Config, deployment: &Arc<Deployment>) -> Rereader {
    let in_force = InForce { table: config.table.clone(), deployment: Arc::clone(deployment) };
    let in_force = Arc::new(Mutex::new(in_force));
    Arc::new(move || reread(&path, &in_force))
}

fn reread(path: &Path, in_force: &Arc<Mutex<InForce>>) -> Result<Reread, ConfigError> {
    let file = Config::load(path)?;
    // Whole, as at a start: a file that would not start again must not be taken in parts.
    file.validated()?;
    let now = in_force.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (changed, needs_restart) = differences(&now.table, &file.table);
    let merged = Config::of_table(path, merged(&now.table, &file.table))?;
    let (deployment, parameters) = (merged.deployment_beside(&now.deployment)?, merged.parameters()?);
    merged.validate_with(&deployment, parameters.clone())?;
    let next = InForce { table: merged.table.clone(), deployment: Arc::clone(&deployment) };
    let in_force = Arc::clone(in_force);
    Ok(Reread {
        configured: Configured {
            deployment,
            parameters,
            config: merged.orchestrator.clone(),
            recorded: merged.deciding(),
        },
        changed,
        needs_restart,
        taken: Box::new(move || *in_force.lock().unwrap_or_else(PoisonError::into_inner) = next),
    })
}

/// What is in force, with all that can change as the file has it.
fn merged(now: &Table, file: &Table) -> Table {
    fn take(to: &mut Table, from: &Table, keys: &[&str]) {
        for key in keys {
            match from.get(*key) {
                Some(value) => drop(to.insert((*key).to_owned(), value.clone())),
                None => drop(to.remove(*key)),
            }
        }
    }
    let mut out = now.clone();
    take(&mut out, file, &LIVE);
    let section = |table: &Table| table.get("orchestrator").and_then(Value::as_table).cloned().unwrap_or_default();
    let mut orchestrator = section(now);
    take(&mut orchestrator, &section(file), &LIVE_OF_ORCHESTRATOR);
    if !orchestrator.is_empty() || now.contains_key("orchestrator") {
        out.insert("orchestrator".into(), Value::Table(orchestrator));
    }
    out
}

/// What differs and can change, and the keys of what differs and can't.
fn differences(now: &Table, file: &Table) -> (Vec<KeyChange>, Vec<String>) {
    let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
    let none = Value::Table(Table::new());
    let mut add = |key: &str, live: bool, a: Option<&Value>, b: Option<&Value>| {
        let mut found = Vec::new();
        // Of a section that comes or goes each key is told.
        let is_section = a.or(b).is_some_and(Value::is_table);
        let whole = |value| if is_section { Some(value).flatten().or(Some(&none)) } else { value };
        compare(key.to_owned(), whole(a), whole(b), &mut found);
        match live {
            true => changed.extend(found),
            false => needs_restart.extend(found.into_iter().map(|change| change.key)),
        }
    };
    for key in keys(now, file) {
        let (a, b) = (now.get(key), file.get(key));
        if key != "orchestrator" {
            add(key, LIVE.contains(&key.as_str()), a, b);
            continue;
        }
        let section = |value: Option<&Value>| value.and_then(Value::as_table).cloned().unwrap_or_default();
        let (a, b) = (section(a), section(b));
        for key in keys(&a, &b) {
            add(&format!("orchestrator.{key}"), LIVE_OF_ORCHESTRATOR.contains(&key.as_str()), a.get(key), b.get(key));
        }
    }
    (changed, needs_restart)
}

fn keys<'t>(a: &'t Table, b: &'t Table) -> BTreeSet<&'t String> {
    a.keys().chain(b.keys()).collect()
}

fn compare(key: String, a: Option<&Value>, b: Option<&Value>, out: &mut Vec<KeyChange>) {
    if a == b {
        return;
    }
    if let (Some(Value::Table(a)), Some(Value::Table(b))) = (a, b) {
        for name in keys(a, b) {
            compare(format!("{key}.{name}"), a.get(name), b.get(name), out);
        }
        return;
    }
    let by_name = |value: Option<&Value>| value.map_or_else(|| Some(BTreeMap::new()), named);
    if let (Some(a), Some(b)) = (by_name(a), by_name(b)) {
        for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            compare(format!("{key}[{name}]"), a.get(name), b.get(name), out);
        }
        return;
    }
    let text = |value: &Value| value.to_string();
    out.push(KeyChange { key, from: a.map(text), to: b.map(text) });
}

/// The tables of a list by their names, if each has one of its own.
fn named(value: &Value) -> Option<BTreeMap<String, Value>> {
    let list = value.as_array()?;
    let one = |item: &Value| {
        let table = item.as_table()?;
        let name = NAMES.iter().find_map(|name| table.get(*name)?.as_str())?;
        Some((name.to_owned(), item.clone()))
    };
    let out: BTreeMap<String, Value> = list.iter().map(one).collect::<Option<_>>()?;
    (out.len() == list.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        data_dir = "/tmp/none"
        service_token = "a-secret-of-many-characters"
        [[region]]
        id = "eu"
        static_weights = { cdn-a = 1, cdn-b = 1 }
        [[pathway]]
        id = "cdn-a"
        base_url = "http://a.example"
        capacity_mbps = 100
        [[pathway]]
        id = "cdn-b"
        base_url = "http://b.example"
        capacity_mbps = 100
        price_usd_per_gb = 0.01
        [orchestrator]
        round_ms = 2000
    "#;

    /// The file, and what reads it again after `change`.
    fn after(change: impl Fn(&str) -> String) -> (Result<Reread, String>, Rereader, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("spillway.toml");
        std::fs::write(&path, FILE).expect("written");
        let config = Config::load(&path).expect("valid");
        let deployment = config.validated().expect("valid").expect("a deployment");
        let reread = rereader(path.clone(), &config, &deployment);
        std::fs::write(&path, change(FILE)).expect("written");
        (reread().map_err(|error| error.to_string()), reread, dir)
    }

    fn changed(reread: &Reread) -> Vec<(&str, Option<&str>, Option<&str>)> {
        reread.changed.iter().map(|c| (c.key.as_str(), c.from.as_deref(), c.to.as_deref())).collect()
    }

    #[test]
    fn what_can_change_is_taken_and_what_cannot_is_named_without_its_value() {
        let (read, again, _dir) = after(|text| {
            text.replace("0.01", "0.02")
                .replace("round_ms = 2000", "round_ms = 500\nspill_usd_per_hour_max = 7.5")
                .replace("a-secret-of-many-characters", "another-secret-of-many")
                + "\n[policy]\nhold_s = 77\n[[token]]\nname = \"ann\"\nrole = \"viewer\"\nsha256 = \""
                + &"a".repeat(64)
                + "\"\n"
        });
        let read = read.expect("valid");
        assert_eq!(
            changed(&read),
            [
                ("orchestrator.spill_usd_per_hour_max", None, Some("7.5")),
                ("pathway[cdn-b].price_usd_per_gb", Some("0.01"), Some("0.02")),
                ("policy.hold_s", None, Some("77")),
            ]
        );
        assert_eq!(read.needs_restart, ["orchestrator.round_ms", "service_token", "token[ann]"]);
        let Configured { deployment, parameters, config, recorded } = &read.configured;
        assert_eq!((parameters.hold_s, config.round_ms, config.spill_usd_per_hour_max), (77.0, 2_000, Some(7.5)));
        assert!((deployment.pathways["cdn-b"].price_usd_per_gb - 0.02).abs() < 1e-12);
        assert!(recorded.contains("round_ms = 2000") && recorded.contains("0.02") && !recorded.contains("secret"));
        (read.taken)();
        let next = again().expect("valid");
        assert!(next.changed.is_empty(), "{:?}", next.changed);
        assert_eq!(next.needs_restart.len(), 3, "still not applied");
    }

    #[test]
    fn tables_are_compared_by_their_names() {
        let (read, _, _dir) = after(|text| text.replace("cdn-a = 1, ", "").replace("id = \"cdn-a\"", "id = \"cdn-c\""));
        let read = read.expect("valid");
        let keys: Vec<&str> = read.changed.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["pathway[cdn-a]", "pathway[cdn-c]", "region[eu].static_weights.cdn-a"]);
        assert!(read.changed[0].to.is_none() && read.changed[1].from.is_none());
    }

    #[test]
    fn a_file_that_would_not_start_is_refused_with_the_same_words() {
        for (from, to, words) in [
            ("capacity_mbps = 100", "capacity_mbps = -1", ["pathway[cdn-a].capacity_mbps", "above 0"]),
            ("cdn-a = 1", "cdn-x = 1", ["region[eu].static_weights", "cdn-x"]),
            ("round_ms", "rounds_ms", ["rounds_ms", "unknown field"]),
            ("[[region]]", "[[region", ["TOML", "spillway.toml"]),
            ("service_token = \"a", "service_token = \"a\" #", ["service_token", "16 characters"]),
        ] {
            let (read, ..) = after(|text| text.replacen(from, to, 1));
            let error = read.err().expect("refused");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
