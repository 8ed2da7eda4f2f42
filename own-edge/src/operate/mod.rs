//! What operators do to a running edge: `admin` (its port), `terms` (what may change) and `reload`, `handover` (to a
//! successor), `faults` (for drills).

pub(crate) mod admin;
pub(crate) mod faults;
pub(crate) mod handover;
pub(crate) mod reload;
pub(crate) mod terms;
