//! From a socket to a request, and from an answer to the socket.
//!
//! `doors` (ports) → `server` (a connection, bounded in number and time) → `http1`, or hyper for HTTP/2 and bodies, on a
//! `socket` (counts what is written; `hop` and `tcp_info` know how fast the client takes it) → `answer`, with `request` (what
//! follows from its lines, once for all that a connection repeats), `receive` (a plain path; key and session), `methods`,
//! `signing` and `admit` (running sessions go on) → `reply` (what all answers carry), `pages` (those that are the edge's
//! own), `informed` (what comes before an answer).

pub(crate) mod admit;
pub(crate) mod answer;
pub(crate) mod doors;
pub(crate) mod hop;
pub(crate) mod http1;
pub(crate) mod informed;
pub(crate) mod methods;
pub(crate) mod pages;
pub(crate) mod receive;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod signing;
pub(crate) mod socket;
pub(crate) mod tcp_info;
