//! One request on its way through the server.

use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;
use tracing::Span;
use wharfinger_auth::Grant;
use wharfinger_oci::RepositoryName;
use wharfinger_registry::{Registry, Repository};

use crate::Options;
use crate::app::{App, Shared};
use crate::location::Locations;
use crate::peer::Peer;
use crate::query::Query;
use crate::serving::Client;
use crate::source::Source;

/// A request, and what is known about it besides what it says.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Arc<Client>,
    /// Line and headers.
    pub(crate) request: Parts,
    /// What the client calls the repository that it asks about, where that is not its name here.
    pub(crate) called: Option<RepositoryName>,
    /// Who asks: the connection's other end, or whom it passes a request on for.
    pub(crate) client: Peer,
    /// The request's name in logs.
    pub(crate) id: HeaderValue,
    /// What lines in the log about it stand within.
    pub(crate) span: Span,
    /// What the client may do, once that was checked.
    pub(crate) grant: Grant,
}

impl Call {
    pub(crate) fn app(&self) -> &App {
        &self.shared.app
    }

    /// The options that hold for this request.
    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    pub(crate) fn repository(&self, name: &RepositoryName) -> Repository {
        self.registry().repository(name)
    }

    /// Where the content of a repository comes from.
    pub(crate) fn source(&self, name: &RepositoryName) -> Source {
        match self.app().upstreams.repository(name) {
            None => Source::Own(self.repository(name)),
            Some(repository) => Source::Cached(repository),
        }
    }

    /// The repository that a mount is to take from, by its name here; `Err` is what cannot be the
    /// name of one, but may be that of another registry's.
    pub(crate) fn mounts_from(&self) -> Option<Result<RepositoryName, String>> {
        let named = self.query().get("from")?;
        let name = match named.parse() {
            Ok(name) => self.app().upstreams.spelt_out(&name).unwrap_or(name),
            Err(_) => return Some(Err(named.into_owned())),
        };
        Some(Ok(name))
    }

    pub(crate) fn query(&self) -> Query<'_> {
        Query::new(self.request.uri.query().unwrap_or_default())
    }

    pub(crate) fn locations(&self) -> Locations {
        Locations::new(self.options(), &self.request, self.connection.secure)
    }
}
