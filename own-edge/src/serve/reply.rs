//! An answer on its way to a client: what is kept of its head is shared by all who get it, not copied.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, DATE, VARY, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::cache::object::Head;
use crate::edge::Edge;
use crate::load::account::CacheResult;
use crate::respond::body::EdgeBody;

const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");
const X_PATHWAY: HeaderName = HeaderName::from_static("x-pathway");
/// [`Readers::All`] as HTTP/1 has it.
const FOR_ALL: &[u8] = b"access-control-allow-origin: *\r\ntiming-allow-origin: *\r\n";
/// Lines of a usual answer's own.
const LINES_USUAL: usize = 6;
const EXPOSED: &str = "Age, Cache-Status, CMSD-Dynamic, CMSD-Static, Content-Length, Content-Range, Date, ETag, \
                       Retry-After, Server-Timing, Via, X-Pathway";

/// Fields that are ours to say, whatever the origin says in them.
pub(crate) const OURS: [HeaderName; 5] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    TIMING_ALLOW_ORIGIN,
    X_PATHWAY,
];

/// An answer.
pub(crate) struct Reply {
    pub status: StatusCode,
    /// Lines of the origin's answer; they come first.
    pub base: Option<Arc<Head>>,
    /// Lines of this answer alone.
    pub headers: Lines,
    pub body: EdgeBody,
    /// How it came about; `None` for what is no media.
    pub result: Option<CacheResult>,
    readers: Readers,
}

/// Whose pages may read an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Everybody's.
    #[default]
    All,
    /// Those of this site; a cache behind us must keep it apart from others'.
    Page(HeaderValue),
    /// It was asked for by no page, and is for none.
    NoPage,
}

impl Readers {
    fn lines(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let star = || HeaderValue::from_static("*");
        let reader = match self {
            Self::All => Some(star()),
            Self::Page(page) => Some(page.clone()),
            Self::NoPage => None,
        };
        let differs = (*self != Self::All).then(|| (VARY, HeaderValue::from_static("Origin")));
        let readable =
            reader.map(|reader| [(ACCESS_CONTROL_ALLOW_ORIGIN, reader.clone()), (TIMING_ALLOW_ORIGIN, reader)]);
        readable.into_iter().flatten().chain(differs)
    }
}

/// A few lines; to look through them costs less than to hash their names.
#[derive(Debug)]
pub(crate) struct Lines(Vec<(HeaderName, Value)>);

/// What a line says. Text and numbers become header values only where somebody needs those.
#[derive(Debug)]
pub(crate) enum Value {
    Header(HeaderValue),
    /// Ids, words and numbers.
    Text(String),
    Number(u64),
}

impl From<HeaderValue> for Value {
    fn from(value: HeaderValue) -> Self {
        Self::Header(value)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Value> for HeaderValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Header(value) => value,
            Value::Text(text) => {
                Self::from_maybe_shared(Bytes::from(text)).expect("ids, words and numbers are a header value")
            }
            Value::Number(number) => Self::from(number),
        }
    }
}

impl Lines {
    /// Adds one; a field that is set twice has two.
    pub(crate) fn add(&mut self, name: HeaderName, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    /// Adds one of ids, words and numbers.
    pub(crate) fn add_text(&mut self, name: HeaderName, text: String) {
        self.add(name, Value::Text(text));
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

/// What every answer carries.
pub(crate) struct Dress {
    headers: HeaderMap,
    rendered: Vec<u8>,
}

impl Dress {
    pub(crate) fn new(via: &HeaderValue, pathway: &HeaderValue) -> Self {
        let headers = HeaderMap::from_iter([
            (ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED)),
            (X_PATHWAY, pathway.clone()),
            (VIA, via.clone()),
        ]);
        Self { rendered: rendered(&headers), headers }
    }
}

impl Reply {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            status,
            base: None,
            headers: Lines(Vec::with_capacity(LINES_USUAL)),
            body: EdgeBody::empty(),
            result: None,
            readers: Readers::All,
        }
    }

    /// An answer that is counted.
    pub(crate) fn counted(edge: &Edge, status: StatusCode, result: CacheResult) -> Self {
        edge.meter.answered(result, status.as_u16());
        Self { result: Some(result), ..Self::new(status) }
    }

    /// Only `readers` may read it.
    pub(crate) fn readable_by(self, readers: Readers) -> Self {
        Self { readers, ..self }
    }

    /// Whether a field is there, wherever it stands.
    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.headers.has(name) || self.base.as_ref().is_some_and(|base| base.headers.contains_key(name))
    }

    /// All lines as HTTP/1 has them, without those of the connection.
    pub(crate) fn write_lines(&self, out: &mut Vec<u8>, dress: &Dress) {
        if let Some(base) = &self.base {
            out.extend_from_slice(base.rendered());
        }
        for (name, value) in &self.headers.0 {
            match value {
                Value::Header(value) => write_line(out, name, value.as_bytes()),
                Value::Text(text) => write_line(out, name, text.as_bytes()),
                Value::Number(number) => write_line(out, name, itoa::Buffer::new().format(*number).as_bytes()),
            }
        }
        match self.readers {
            Readers::All => out.extend_from_slice(FOR_ALL),
            _ => self.readers.lines().for_each(|(name, value)| write_line(out, &name, value.as_bytes())),
        }
        out.extend_from_slice(&dress.rendered);
    }

    /// Whether somebody said when it was made.
    pub(crate) fn has_date(&self) -> bool {
        self.has(&DATE)
    }

    /// For hyper.
    pub(crate) fn into_response(self, dress: &Dress) -> Response<EdgeBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(base) = self.base {
            *headers = Arc::try_unwrap(base).map_or_else(|shared| shared.headers.clone(), |own| own.headers);
        }
        for (name, value) in self.headers.0 {
            headers.append(name, HeaderValue::from(value));
        }
        for (name, value) in self.readers.lines() {
            headers.append(name, value);
        }
        for (name, value) in &dress.headers {
            headers.append(name.clone(), value.clone());
        }
        response
    }
}

/// Lines of HTTP/1.
pub(crate) fn rendered(headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    write_lines(&mut out, headers);
    out
}

/// Writes lines of HTTP/1.
pub(crate) fn write_lines(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        write_line(out, name, value.as_bytes());
    }
}

fn write_line(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
