//! The lake from outside: durable, exactly once, queryable at once.

mod exactly_once;
mod queries;
mod support;
