//! The collector from outside, over real HTTP.

mod bad_input;
mod frames;
mod happy_path;
mod limits;
mod restart;
mod support;
