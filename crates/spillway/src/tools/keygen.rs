//! `spillway keygen FILE`: a manifest signing key.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use spillway_service::random;

use crate::cli::Keygen;

/// Writes the key, readable for its owner only, and prints its public half.
///
/// # Errors
/// If the file exists or can't be written.
pub fn run(arguments: &Keygen) -> anyhow::Result<()> {
    let seed: [u8; 32] = random::bytes();
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let shown = arguments.file.display();
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&arguments.file)
        .with_context(|| format!("create {shown}"))?;
    file.write_all(BASE64.encode(seed).as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("write {shown}"))?;
    println!("public key {}", BASE64.encode(public.to_bytes()));
    Ok(())
}
