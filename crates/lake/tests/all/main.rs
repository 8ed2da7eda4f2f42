//! The lake from outside: durable, exactly once, queryable at once.

mod exactly_once;
mod import;
mod jobs;
mod queries;
mod rows;
mod support;
mod verify;
