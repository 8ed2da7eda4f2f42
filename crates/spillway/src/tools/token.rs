//! `spillway token`: a random admin token and the hash that goes into the configuration.

use spillway_service::{auth, random};

/// Prints both.
///
/// # Errors
/// None today.
pub fn run() -> anyhow::Result<()> {
    let token = random::id(40);
    println!("token  (keep it)           {token}");
    println!("sha256 (into [[token]])    {}", auth::token_hash(&token));
    Ok(())
}
