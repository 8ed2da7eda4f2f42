//! The lake from outside: durable, exactly once, queryable at once.

mod bulk;
mod exactly_once;
mod follows;
mod history;
mod import;
mod jobs;
mod learned;
mod metrics;
mod out_of_reach;
mod queries;
mod rollup;
mod rows;
mod support;
mod verify;
mod viewing;
mod views;
