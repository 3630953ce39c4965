//! The access check: what a request needs to be allowed, and what it is told when it is not.

use http::{HeaderMap, HeaderValue, Method, header};
use tracing::{error, info, warn};
use wharfinger_auth::{Access, AccessController, Action, Asked, Grant, Refusal, Shown};

use crate::call::Call;
use crate::error::{ApiError, Code};
use crate::limits::origin;
use crate::route::Route;

/// When a client may come again of whom nothing was looked at, in seconds.
const COME_AGAIN: u64 = 5;

/// A request that is not allowed.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What its client is told.
    pub(crate) error: ApiError,
    /// What it showed; `None` when that was not looked at.
    pub(crate) shown: Option<Shown>,
}

/// What a request is allowed and who sent it, or the refusal. Nothing of the store has been looked
/// at before: nobody learns what there is.
pub(crate) async fn check(call: &Call, route: &Route) -> Result<Grant, Refused> {
    let Some(controller) = &call.options().access else {
        return Ok(Grant::everything(""));
    };
    if matches!(route, Route::Root) {
        return Ok(Grant::default());
    }
    let access = needed(call, route);
    authorize(call, &**controller, &access).await
}

async fn authorize(
    call: &Call,
    controller: &dyn AccessController,
    access: &[Access],
) -> Result<Grant, Refused> {
    let headers = &call.request.headers;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = Asked {
        authorization: text(header::AUTHORIZATION),
        host: match call.request.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => text(header::HOST),
        },
        forwarded_scheme: forwarded_scheme(headers),
        client: Some(origin(call)),
    };
    match controller.authorize(asked, access).await {
        Ok(grant) => Ok(grant),
        Err(Refusal::Challenge {
            challenge,
            reason,
            shown,
        }) => {
            // Clients try without credentials first, every time.
            if shown == Shown::Nothing {
                info!(reason, "credentials are asked for");
            } else {
                warn!(reason, "access is refused");
            }
            let mut error = ApiError::with(Code::UNAUTHORIZED, detail(access));
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                error = error.header(header::WWW_AUTHENTICATE, challenge);
            }
            Err(Refused {
                error,
                shown: Some(shown),
            })
        }
        Err(busy @ Refusal::Busy) => {
            warn!(reason = %busy, "access is not decided");
            let error = ApiError::new(Code::UNAVAILABLE)
                .header(header::RETRY_AFTER, HeaderValue::from(COME_AGAIN));
            Err(Refused { error, shown: None })
        }
        Err(Refusal::Unavailable(reason)) => {
            error!(reason, "access cannot be decided");
            Err(Refused {
                error: ApiError::new(Code::UNAVAILABLE),
                shown: None,
            })
        }
    }
}

fn forwarded_scheme(headers: &HeaderMap) -> Option<&str> {
    let scheme = headers.get("x-forwarded-proto")?.to_str().ok()?;
    ["http", "https"].into_iter().find(|known| *known == scheme)
}

/// What Distribution tells beside the code: the accesses, or nothing.
fn detail(access: &[Access]) -> serde_json::Value {
    match access {
        [] => serde_json::Value::Null,
        access => serde_json::to_value(access).unwrap_or_default(),
    }
}

/// What a request needs to be allowed. A mount needs to read its source.
fn needed(call: &Call, route: &Route) -> Vec<Access> {
    if matches!(route, Route::Catalog) {
        return vec![Access::catalog()];
    }
    let Some(name) = route.repository() else {
        return Vec::new();
    };
    let name = name.as_str();
    let actions: &[Action] = match call.request.method {
        Method::GET | Method::HEAD => &[Action::Pull],
        Method::POST | Method::PUT | Method::PATCH => &[Action::Pull, Action::Push],
        Method::DELETE => &[Action::Delete],
        _ => &[],
    };
    let mut access: Vec<Access> = actions
        .iter()
        .map(|action| Access::repository(name, *action))
        .collect();
    if let (Route::Uploads(_), Some(from)) = (route, call.mounts_from()) {
        let from = from.map_or_else(|named| named, |name| name.to_string());
        access.push(Access::repository(from, Action::Pull));
    }
    access
}
