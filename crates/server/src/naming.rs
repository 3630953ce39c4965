//! What a request's repository is called here. Clients reach one that is kept of another registry
//! by its name, by the parameter `ns`, or by a host; everything behind this speaks of its name.

use http::request::Parts;
use wharfinger_oci::RepositoryName;
use wharfinger_proxy::{Asked, Upstreams};

use crate::error::Result;
use crate::location::seen_by_client;
use crate::query::Query;
use crate::route::Route;

/// Puts the name that holds here into a route, and gives what the client calls its repository where
/// that is another name.
///
/// # Errors
/// When the request is about a registry of which nothing is kept here.
pub(crate) fn settle(
    upstreams: &Upstreams,
    request: &Parts,
    route: &mut Route,
) -> Result<Option<RepositoryName>> {
    let Some(name) = route.repository_mut().filter(|_| upstreams.have_names()) else {
        return Ok(None);
    };
    let query = Query::new(request.uri.query().unwrap_or_default());
    let (host, ns) = (host(request), query.get("ns"));
    let asked = Asked {
        host: host.as_deref(),
        ns: ns.as_deref(),
    };
    let local = upstreams.local(asked, name)?;
    Ok(local.map(|local| std::mem::replace(name, local)))
}

/// The host that a client sees.
pub(crate) fn host(request: &Parts) -> Option<String> {
    // Whether the connection is secure tells nothing of the host.
    seen_by_client(&request.headers, &request.uri, false).1
}
