//! What the node carries: `account` counts, `outlook` sees ahead, `process` is the system's word, `report` tells it all to
//! orchestrators and takes their orders.

pub(crate) mod account;
pub(crate) mod outlook;
pub(crate) mod process;
pub(crate) mod report;
