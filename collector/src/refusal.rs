//! Why a beacon is refused, as status, stable reason and words.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use spillway_lake::AppendError;
use spillway_model::limits::{BEACON_MAX_BYTES, BEACON_MAX_UNPACKED_BYTES, CMCD_TARGET_MAX_CHARS};
use spillway_wire::beacon::{BeaconError, Refused};
use spillway_wire::cmcd::BodyError;

/// A refusal of a whole beacon.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the query has no write key `k`")]
    MissingKey,
    #[error("the write key is not one of this deployment")]
    UnknownKey,
    #[error("the origin {0:?} may not send for this property")]
    OriginNotAllowed(String),
    #[error(
        "content type {0:?} is not valid (valid: text/plain, application/json, for CMCD application/cmcd; encoding gzip or none)"
    )]
    UnsupportedMediaType(String),
    #[error("the body is above {BEACON_MAX_BYTES} bytes as sent or {BEACON_MAX_UNPACKED_BYTES} unpacked")]
    BodyTooLarge,
    #[error("the body is not whole gzip")]
    BadGzip,
    #[error("the body did not come in time")]
    BodyTimeout,
    #[error("the body ended early")]
    BodyCut,
    #[error("too many beacons from this {0}")]
    RateLimited(&'static str, u64),
    #[error("{0}")]
    Beacon(BeaconError),
    #[error("{0}")]
    Cmcd(BodyError),
    #[error("the target `t` {0:?} is not valid (valid: 1 to {CMCD_TARGET_MAX_CHARS} characters of [A-Za-z0-9._-])")]
    BadTarget(String),
    #[error("{0}")]
    NotDurable(AppendError),
    #[error("the disk did not answer in time")]
    DiskTimeout,
    #[error("an earlier copy of these events could not be stored")]
    OriginalFailed,
}

impl Refusal {
    /// The stable reason.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::MissingKey => "missing_key",
            Self::UnknownKey => "unknown_key",
            Self::OriginNotAllowed(_) => "origin_not_allowed",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::BadGzip => "bad_gzip",
            Self::BodyTimeout => "body_timeout",
            Self::BodyCut => "body_cut",
            Self::RateLimited(..) => "rate_limited",
            Self::Beacon(error) => error.reason(),
            Self::Cmcd(error) => error.reason(),
            Self::BadTarget(_) => "bad_target",
            Self::NotDurable(error) => error.reason(),
            Self::DiskTimeout => "disk_timeout",
            Self::OriginalFailed => "wal_write",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::MissingKey => StatusCode::UNAUTHORIZED,
            Self::UnknownKey | Self::OriginNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadGzip | Self::Beacon(_) | Self::Cmcd(_) | Self::BadTarget(_) => StatusCode::BAD_REQUEST,
            Self::BodyTimeout | Self::BodyCut => StatusCode::REQUEST_TIMEOUT,
            Self::RateLimited(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotDurable(_) | Self::DiskTimeout | Self::OriginalFailed => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited(_, seconds) => Some(*seconds),
            Self::NotDurable(AppendError::QueueFull(..) | AppendError::Stopped) => Some(1),
            // The disk or the table needs longer than a moment.
            Self::NotDurable(_) | Self::DiskTimeout | Self::OriginalFailed => Some(5),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Refused { error: self.reason().into(), detail: self.to_string() };
        let mut response = (self.status(), Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
