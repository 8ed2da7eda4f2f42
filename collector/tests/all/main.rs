//! The collector from outside, over real HTTP.

mod bad_input;
mod cmcd;
mod denied;
mod devices;
mod frames;
mod happy_path;
mod identity;
mod limits;
mod quarantine;
mod restart;
mod rows;
mod support;
