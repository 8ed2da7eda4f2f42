//! The demo: everything that stands around Spillway, and the story that it plays.
//!
//! A segment's path: [`media`] holds the clip → [`origin`] numbers it and serves it → [`cdn`]
//! caches it, paces it, and breaks it on demand → a [`viewer`] plays it and reports. [`story`] says what happens when
//! and judges the end; [`watch`] lets a person look.

pub mod cdn;
pub mod media;
pub mod origin;
pub mod story;
pub mod viewer;
pub mod watch;
