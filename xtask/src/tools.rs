//! What is needed beside Rust: installed where that is possible, named where it is not.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sh::{self, Result};

/// Version of cargo-deny that is installed where there is none.
const CARGO_DENY: &str = "0.20.2";
/// The S3 protocol server of the crash campaign: it knows conditional put.
const MOTO: &str = "moto[server]==5.2.5";

/// Makes sure that Node.js and npm are there.
pub fn node() -> Result<()> {
    for program in ["node", "npm"] {
        if !sh::exists(program) {
            return Err(format!("{program} is missing: install Node.js 20 or newer (https://nodejs.org)"));
        }
    }
    Ok(())
}

/// `npm ci` in `folder` (below the root), unless what is installed fits the lock file.
pub fn npm_ci(folder: &str) -> Result<()> {
    node()?;
    let folder = sh::root().join(folder);
    let stamp = folder.join("node_modules/.spillway-lock");
    let lock = std::fs::read(folder.join("package-lock.json"))
        .map_err(|error| format!("{}/package-lock.json: {error}", folder.display()))?;
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    sh::run_aside(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder))?;
    std::fs::write(&stamp, lock).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// The browser for tests: Debian's chromium, installed through apt where we are root.
pub fn chromium() -> Result<String> {
    for candidate in ["chromium", "chromium-browser", "google-chrome"] {
        if sh::exists(candidate) {
            return Ok(candidate.to_owned());
        }
    }
    apt(&["chromium"])?;
    if sh::exists("chromium") { Ok("chromium".into()) } else { Err("chromium was installed and does not start".into()) }
}

/// The peer of the DNS zone: Knot DNS.
pub fn knotd() -> Result<PathBuf> {
    server("knot", "/usr/sbin/knotd")
}

/// A peer of the own edge: nginx.
pub fn nginx() -> Result<PathBuf> {
    server("nginx", "/usr/sbin/nginx")
}

/// A peer of the own edge: Varnish.
pub fn varnish() -> Result<PathBuf> {
    server("varnish", "/usr/sbin/varnishd")
}

/// A server of Debian's, installed through apt where we are root. It is started by a benchmark alone.
fn server(package: &str, program: &str) -> Result<PathBuf> {
    let program = PathBuf::from(program);
    if !program.exists() {
        let _asleep = NoServices::begin()?;
        apt(&[package])?;
    }
    if program.exists() { Ok(program) } else { Err(format!("{package} was installed without {}", program.display())) }
}

/// While this lives, apt starts no service that it installs: Debian's own word for it, where the machine has none yet.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn begin() -> Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if !is_root() || policy.exists() {
            return Ok(Self(None));
        }
        let written = std::fs::write(policy, "#!/bin/sh\nexit 101\n");
        let done = written.and_then(|()| std::fs::set_permissions(policy, Permissions::from_mode(0o755)));
        done.map_err(|error| format!("{}: {error}", policy.display()))?;
        Ok(Self(Some(policy)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            let _ = std::fs::remove_file(policy);
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

fn apt(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !(is_root() && sh::exists("apt-get")) {
        return Err(format!("missing: {names}. On Debian: sudo apt-get install {names}"));
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if sh::run_aside(&mut install).is_err() {
        sh::run_aside(Command::new("apt-get").args(["update", "-qq"]))?;
        sh::run_aside(&mut install)?;
    }
    Ok(())
}

/// A Python with `packages` of PyPI, in a virtual environment below the target folder.
pub fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = sh::target_dir().join("python").join(name);
    let (python, stamp) = (folder.join("bin/python"), folder.join(".spillway-packages"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !sh::exists("python3") {
        return Err("python3 is missing: install Python 3.9 or newer with its venv module".into());
    }
    let make = || sh::run_aside(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    if make().is_err() {
        apt(&["python3-venv"])?;
        make()?;
    }
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
    sh::run_aside(Command::new(&python).args(pip).args(packages))?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

/// Where tools are kept that are got once and used by every checkout.
pub fn cache() -> PathBuf {
    std::env::var_os("HOME").map_or_else(sh::target_dir, PathBuf::from).join(".cache/spillway-tools")
}

/// cargo-deny: the machine's, or one that is built once below the target folder.
pub fn cargo_deny() -> Result<PathBuf> {
    if sh::exists("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let root = cache();
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        let mut install = sh::cargo();
        install.args(["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"]).arg(&root);
        // Its build must not meet ours: other flags, other lock file.
        install.env_remove("CARGO_TARGET_DIR").current_dir("/");
        sh::run_aside(&mut install)?;
    }
    Ok(program)
}

/// moto's server, from PyPI.
pub fn moto_server() -> Result<PathBuf> {
    Ok(python("moto", &[MOTO])?.with_file_name("moto_server"))
}
