//! From a request to its answer: at once where it is kept, later where somebody must be waited for.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use metrics_exporter_prometheus::PrometheusHandle;
use spillway_model::Millis;

use crate::cache::purge::{PURGE_MAX_BYTES, purge};
use crate::edge::Edge;
use crate::operate::admin::is_allowed;
use crate::operate::faults::Effect;
use crate::operate::terms::Terms;
use crate::origin::RequestBody;
use crate::respond;
use crate::serve::admit::{Admission, SessionKey};
use crate::serve::hop::Hop;
use crate::serve::informed::{Hearing, Informed};
use crate::serve::pages;
use crate::serve::receive::{Asked, Refusal, check_head, receive};
use crate::serve::reply::{Readers, Reply};
use crate::serve::request::RequestHead;
use crate::video::prefetch;

/// Paths below are ours, not the origin's.
const OWN_PATHS: &str = "/.spillway/";

/// An edge, and what it answers for itself.
pub(crate) struct Server {
    pub edge: Arc<Edge>,
    pub own: OwnPaths,
}

/// What answers under [`OWN_PATHS`].
pub(crate) struct OwnPaths {
    /// Present where no other listener serves them.
    pub metrics: Option<PrometheusHandle>,
    pub enabled: bool,
    pub service_token: String,
}

/// An answer, or the way to it.
pub(crate) enum Begun {
    Now(Reply),
    Later(Later),
}

/// An answer that somebody is waited for.
pub(crate) struct Later {
    pub answer: Pin<Box<dyn Future<Output = Reply> + Send>>,
    /// What comes before it.
    pub hearing: Option<Hearing>,
}

impl Later {
    fn new(answer: impl Future<Output = Reply> + Send + 'static) -> Self {
        Self { answer: Box::pin(answer), hearing: None }
    }
}

/// Answers a request without a body.
pub(crate) fn begin(server: &Arc<Server>, hop: &Arc<Hop>, head: RequestHead) -> Begun {
    start(server, hop, head, None)
}

/// Answers a request of any kind.
pub(crate) async fn answer(server: &Arc<Server>, hop: &Arc<Hop>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    match start(server, hop, parts.into(), Some(body)) {
        Begun::Now(response) => response,
        Begun::Later(later) => later.answer.await,
    }
}

fn start(server: &Arc<Server>, hop: &Arc<Hop>, head: RequestHead, body: Option<Incoming>) -> Begun {
    let edge = &server.edge;
    let terms = edge.terms();
    let Some(readers) = terms.sites.readers(&head.fields.headers) else {
        let refusal = Refusal { status: StatusCode::FORBIDDEN, word: "origin" };
        return Begun::Now(pages::refused(edge, refusal, head.version).readable_by(Readers::NoPage));
    };
    let begun = start_for(server, &terms, hop, head, body);
    if readers == Readers::All {
        return begun;
    }
    match begun {
        Begun::Now(reply) => Begun::Now(reply.readable_by(readers)),
        Begun::Later(Later { answer, hearing }) => {
            let later = Later::new(async move { answer.await.readable_by(readers) });
            Begun::Later(Later { hearing, ..later })
        }
    }
}

fn start_for(server: &Arc<Server>, terms: &Terms, hop: &Arc<Hop>, head: RequestHead, body: Option<Incoming>) -> Begun {
    let edge = &server.edge;
    let (began, version) = (edge.now(), head.version);
    let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream());
    if let Err(refusal) = check_head(&head, has_body) {
        return Begun::Now(pages::refused(edge, refusal, version));
    }
    if head.method == Method::OPTIONS {
        return Begun::Now(pages::preflight(&terms.methods, &head.fields.headers));
    }
    if head.uri.path().starts_with(OWN_PATHS) {
        let server = server.clone();
        return Begun::Later(Later::new(async move { own_page(&server, head, body).await }));
    }
    if !terms.methods.allow(&head.method) {
        let refusal = Refusal { status: StatusCode::METHOD_NOT_ALLOWED, word: "method" };
        return Begun::Now(pages::refused(edge, refusal, version));
    }
    let asked = match receive(head, hop, (&edge.plan, terms), &edge.sessions, (&*edge.clock, began)) {
        Ok(asked) => asked,
        Err(refusal) => return Begun::Now(pages::refused(edge, refusal, version)),
    };
    let is_viewer = asked.session != SessionKey::NONE;
    if is_viewer && terms.rate.as_ref().is_some_and(|rate| !rate.allows(asked.client)) {
        return Begun::Now(logged(edge, asked, began, pages::too_many(edge)));
    }
    if let Admission::Refused(why, elsewhere) = edge.admission(&asked, terms) {
        let reply = pages::not_admitted(edge, &asked, why, elsewhere);
        return Begun::Now(logged(edge, asked, began, reply));
    }
    if let Some(faults) = &edge.faults
        && let Some(effect) = faults.effect(&asked)
    {
        let server = server.clone();
        return Begun::Later(Later::new(async move { broken(server, asked, effect, body).await }));
    }
    admitted(edge, asked, version, body)
}

/// An answer that is broken on purpose.
async fn broken(server: Arc<Server>, asked: Asked, effect: Effect, body: Option<Incoming>) -> Reply {
    let edge = &server.edge;
    let instead = match &edge.faults {
        Some(faults) => faults.outlast(&asked, effect).await,
        None => None,
    };
    if let Some(status) = instead {
        let began = asked.at;
        return logged(edge, asked, began, pages::broken(edge, status));
    }
    effect.broken(match admitted(edge, asked, Version::HTTP_10, body) {
        Begun::Now(reply) => reply,
        Begun::Later(later) => later.answer.await,
    })
}

fn admitted(edge: &Arc<Edge>, asked: Asked, version: Version, body: Option<Incoming>) -> Begun {
    let began = asked.at;
    let reads = matches!(asked.method, Method::GET | Method::HEAD);
    if reads && let Some(reply) = respond::at_once(edge, &asked) {
        prefetch::ahead(edge, &asked, &edge.terms());
        return Begun::Now(logged(edge, asked, began, reply));
    }
    let (informed, hearing) = match version {
        Version::HTTP_11 => Some(Informed::new()).unzip(),
        _ => (None, None),
    };
    let edge = edge.clone();
    let later = Later::new(async move {
        let reply = if reads {
            let reply = respond::serve(&edge, &asked, informed).await;
            prefetch::ahead(&edge, &asked, &edge.terms());
            reply
        } else {
            respond::forward(&edge, &asked, RequestBody::of(body), informed).await
        };
        logged(&edge, asked, began, reply)
    });
    Begun::Later(Later { hearing, ..later })
}

fn logged(edge: &Edge, asked: Asked, began: Millis, mut reply: Reply) -> Reply {
    if let Some(access) = &edge.access {
        access.open(asked, began, &mut reply);
    }
    reply
}

async fn own_page(server: &Arc<Server>, head: RequestHead, body: Option<Incoming>) -> Reply {
    let head_only = head.method == Method::HEAD;
    let path = head.uri.path().strip_prefix(OWN_PATHS).unwrap_or_default();
    let (status, text) = own_path(server, &head, path, body).await;
    pages::page(status, text, head_only)
}

async fn own_path(server: &Server, request: &RequestHead, path: &str, body: Option<Incoming>) -> (StatusCode, String) {
    let Server { edge, own } = server;
    let may = || is_allowed(&request.fields.headers, &own.service_token);
    let read = matches!(request.method, Method::GET | Method::HEAD);
    match path {
        _ if !own.enabled => (StatusCode::NOT_FOUND, "not here\n".into()),
        "healthz" if read => (StatusCode::OK, "ok\n".into()),
        "readyz" if read && edge.readiness.is_ready() && !edge.is_draining() => (StatusCode::OK, "ready\n".into()),
        "readyz" if read => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
        "metrics" if read && own.metrics.is_none() => (StatusCode::NOT_FOUND, "no metrics recorder runs\n".into()),
        "metrics" | "purge" if !may() => (StatusCode::UNAUTHORIZED, "the service token is needed\n".into()),
        "metrics" if read => (StatusCode::OK, own.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default()),
        "purge" if request.method == Method::POST => match whole(edge, body).await {
            Ok(bytes) => purge(edge, &bytes).await,
            Err(refused) => refused,
        },
        "faults" if edge.faults.is_none() => (StatusCode::NOT_FOUND, "faults are not allowed here\n".into()),
        "faults" if !may() => (StatusCode::UNAUTHORIZED, "the service token is needed\n".into()),
        "faults" => match whole(edge, body).await {
            Ok(bytes) => {
                edge.faults.as_ref().map_or_else(Default::default, |faults| faults.command(&request.method, &bytes))
            }
            Err(refused) => refused,
        },
        "purge" | "metrics" | "healthz" | "readyz" => (StatusCode::METHOD_NOT_ALLOWED, "not by this method\n".into()),
        _ => (StatusCode::NOT_FOUND, "not here\n".into()),
    }
}

/// The whole body of a request for one of our own pages, or why it isn't there.
async fn whole(edge: &Edge, body: Option<Incoming>) -> Result<Bytes, (StatusCode, String)> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    match tokio::time::timeout(edge.plan.header_timeout, Limited::new(body, PURGE_MAX_BYTES).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the request's body: {error}\n"))),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the request's body did not come\n".into())),
    }
}
