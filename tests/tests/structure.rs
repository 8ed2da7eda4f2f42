//! The shape of the workspace: which crate may know which, and how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may depend on in the workspace. Whoever is not listed here has a new room to explain.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("spillway-model", &[]),
    ("spillway-routing", &["model"]),
    ("spillway-bus", &["model"]),
    ("spillway-service", &["model"]),
    ("spillway-wire", &["model", "routing"]),
    ("spillway-lake", &["model", "wire"]),
    ("spillway-orchestrator-core", &["model", "routing"]),
    ("spillway-collector", &["model", "wire", "bus", "service", "lake"]),
    ("spillway-dashboards", &["model", "wire", "bus", "service", "lake"]),
    ("spillway-own-edge", &["model", "routing", "wire", "bus", "service"]),
    ("spillway-orchestrator", &["orchestrator-core", "routing", "model", "wire", "bus", "service", "lake"]),
    ("spillway-steering", &["routing", "model", "wire", "bus", "service"]),
    ("spillway-simulator", &["orchestrator-core", "routing", "model", "wire"]),
    ("spillway", &["*"]),
    ("spillway-bench", &[]),
    ("spillway-demo", &["*"]),
    ("spillway-system-tests", &["*"]),
    ("xtask", &[]),
];

/// Crates that must stay free of everything that runs, waits, reads a clock or draws a number.
const PURE: [&str; 3] = ["spillway-model", "spillway-routing", "spillway-orchestrator-core"];
const IMPURE: [&str; 7] = ["tokio", "rand", "getrandom", "chrono", "reqwest", "axum", "tracing"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Crate → its dependencies that are not for tests only.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let kept = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), kept.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn every_crate_knows_only_what_it_may() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in dependencies() {
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} is not listed"));
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("spillway")) {
            let short = dependency.trim_start_matches("spillway-");
            if !may.contains(&"*") && !may.contains(&short) {
                wrong.push(format!("{name} → {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden directions: {wrong:#?}");
}

#[test]
fn the_deciding_crates_have_nothing_that_runs_or_waits() {
    let dependencies = dependencies();
    for name in PURE {
        let has: Vec<&String> = dependencies[name].iter().filter(|it| IMPURE.contains(&it.as_str())).collect();
        assert!(has.is_empty(), "{name} depends on {has:?}");
    }
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let mut long = Vec::new();
    for file in tracked() {
        let source =
            ["rs", "ts", "js", "mjs", "html", "css"].iter().any(|ending| file.ends_with(&format!(".{ending}")));
        if !source {
            continue;
        }
        let path = root().join(&file);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let lines = text.lines().count();
        if lines > 600 {
            long.push(format!("{file}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "which room is really two? {long:#?}");
}

/// Files that git knows, or would know at the next `git add`; all below the root where there is no git.
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => walk(&root()),
    }
}

fn walk(from: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = vec![from.to_owned()];
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(&dir).expect("a folder").flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !["target", "node_modules", "dist", ".git"].contains(&name) {
                    open.push(path);
                }
            } else if let Some(relative) = path.strip_prefix(from).ok().and_then(Path::to_str) {
                out.push(relative.to_owned());
            }
        }
    }
    out
}

#[test]
fn the_walk_finds_files_where_there_is_no_git() {
    let files = walk(&root());
    assert!(files.iter().any(|file| file == "Cargo.toml"));
    assert!(files.iter().any(|file| file == "crates/model/src/lib.rs"));
}
