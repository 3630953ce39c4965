//! `redirect`: another server has the same files.

use async_trait::async_trait;

use super::Middleware;
use super::url::{InvalidUrl, Url};
use crate::{Driver, RedirectRequest, Result};

/// Sends clients to a server that has the store's files below an address, under their paths.
#[derive(Clone, Debug)]
pub struct Redirect {
    base: Url,
    /// What the base's path says, without the slash at its end.
    folder: String,
}

impl Redirect {
    /// A server by its URL. Of what that says only scheme, host, port and path count.
    ///
    /// # Errors
    /// When it is no URL of HTTP.
    pub fn new(base: &str) -> Result<Self, InvalidUrl> {
        let mut base = Url::parse(base)?;
        base.authority = base.host().to_owned();
        base.rest.clear();
        let folder = cleaned(&base.decoded_path());
        Ok(Self { base, folder })
    }
}

#[async_trait]
impl Middleware for Redirect {
    async fn redirect_url(
        &self,
        _below: &dyn Driver,
        request: RedirectRequest<'_>,
    ) -> Result<Option<String>> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.folder, request.path));
        Ok(Some(url.to_string()))
    }
}

/// A path without what leads nowhere: no empty part, no `.`, no `..`, no slash at its end.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDriver, StoragePath};

    #[tokio::test]
    async fn addresses_are_those_of_distribution() {
        let path: StoragePath = "/docker/registry/v2/a".parse().unwrap();
        for (base, expected) in [
            ("https://h", "https://h"),
            ("https://h/", "https://h"),
            ("HTTP://h:5443/a/b", "http://h:5443/a/b"),
            ("http://h:80/a/b/", "http://h:80/a/b"),
            (
                "http://h/a//./b/../c d".replace(' ', "%20").as_str(),
                "http://h/a/c%20d",
            ),
            ("https://u:p@h/a?b=c#d", "https://h/a"),
        ] {
            let redirect = Redirect::new(base).unwrap();
            let request = RedirectRequest {
                path: &path,
                method: "HEAD",
                content_type: "a/b",
                client: None,
            };
            let below = MemoryDriver::new();
            let url = redirect.redirect_url(&below, request).await.unwrap();
            assert_eq!(url, Some(format!("{expected}/docker/registry/v2/a")));
        }
        assert!(Redirect::new("h").is_err());
    }
}
