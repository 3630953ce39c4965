//! `rewrite`: the store is reached elsewhere than where it says.

use std::io;

use async_trait::async_trait;

use super::Middleware;
use super::url::Url;
use crate::{Driver, Error, RedirectRequest, Result};

/// Changes the addresses that a store gives, where clients reach it by others. A signature that
/// covers what is changed has to be taken off by whoever answers there.
#[derive(Clone, Debug)]
pub struct Rewrite {
    scheme: String,
    host: String,
    trim: String,
}

impl Rewrite {
    /// Puts `scheme` and `host` (with a port) in place of the store's, and leaves `trim` out where
    /// paths begin with it. What is empty changes nothing.
    pub fn new(scheme: &str, host: &str, trim: &str) -> Self {
        Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            trim: trim.to_owned(),
        }
    }
}

#[async_trait]
impl Middleware for Rewrite {
    async fn redirect_url(
        &self,
        below: &dyn Driver,
        request: RedirectRequest<'_>,
    ) -> Result<Option<String>> {
        let path = request.path;
        let Some(url) = below.redirect_url(request).await? else {
            return Ok(None);
        };
        let mut url = Url::parse(&url).map_err(|error| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            Error::io(path, "change its address", error)
        })?;
        if !self.scheme.is_empty() {
            url.scheme.clone_from(&self.scheme);
        }
        if !self.host.is_empty() {
            let user = url.authority.len() - url.host().len();
            url.authority.replace_range(user.., &self.host);
        }
        if !self.trim.is_empty()
            && let Some(rest) = url.decoded_path().strip_prefix(&self.trim)
        {
            url.set_path(rest);
        }
        Ok(Some(url.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryDriver, MiddlewareDriver, Redirect, StoragePath};

    #[tokio::test]
    async fn only_what_is_said_changes() {
        let store = Redirect::new("http://store:9000/bucket%20x").unwrap();
        let store = MiddlewareDriver::new(Arc::new(MemoryDriver::new()), store);
        let path: StoragePath = "/docker/a".parse().unwrap();
        let request = RedirectRequest {
            path: &path,
            method: "GET",
            content_type: "a/b",
            client: None,
        };
        for (rewrite, expected) in [
            (["", "", ""], "http://store:9000/bucket%20x/docker/a"),
            (["https", "", ""], "https://store:9000/bucket%20x/docker/a"),
            (["", "cdn", "/else"], "http://cdn/bucket%20x/docker/a"),
            (
                ["https", "cdn:8443", "/bucket x"],
                "https://cdn:8443/docker/a",
            ),
            (["", "", "/bucket x/"], "http://store:9000/docker/a"),
            (["", "", "/bucket"], "http://store:9000/%20x/docker/a"),
        ] {
            let [scheme, host, trim] = rewrite;
            let rewrite = Rewrite::new(scheme, host, trim);
            let url = rewrite.redirect_url(&store, request.clone()).await.unwrap();
            assert_eq!(url.as_deref(), Some(expected));
        }
    }
}
