//! What a request is about: its path, parsed once.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use wharfinger_oci::{Digest, Reference, RepositoryName};
use wharfinger_registry::UploadId;

use crate::error::{ApiError, Code, Result};

/// A path of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`, which load balancers ask for.
    Root,
    /// `/v2/`: whether the API is there.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`.
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`.
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`.
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`.
    Upload(RepositoryName, UploadId),
    /// `/v2/<name>/referrers/<digest>`.
    Referrers(RepositoryName, Digest),
}

impl Route {
    /// Reads a request's path. `Ok(None)` is a path that the API does not have.
    #[doc(hidden)]
    pub fn parse(prefix: &str, path: &str) -> std::result::Result<Option<Self>, String> {
        Self::of(prefix, path).map_err(|error| format!("{error:?}"))
    }

    /// # Errors
    /// When the path has the form of the API's, but a part of it is not valid.
    pub(crate) fn of(prefix: &str, path: &str) -> Result<Option<Self>> {
        let path: Cow<'_, str> = match path.contains('%') {
            true => percent_decode_str(path).decode_utf8_lossy(),
            false => path.into(),
        };
        let Some(path) = path.strip_prefix(prefix) else {
            return Ok(None);
        };
        let rest = match path {
            "" => return Ok(Some(Self::Root)),
            "v2" | "v2/" => return Ok(Some(Self::Base)),
            "v2/_catalog" => return Ok(Some(Self::Catalog)),
            path => match path.strip_prefix("v2/") {
                Some(rest) => rest,
                None => return Ok(None),
            },
        };
        Self::in_repository(rest)
    }

    /// Reads what stands behind `v2/`, if it is about a repository.
    fn in_repository(path: &str) -> Result<Option<Self>> {
        // Names nest, so the API's own words are looked for from the end.
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Some(Self::Tags(repository(name)?)));
        }
        let uploads = path.strip_suffix('/').unwrap_or(path);
        if let Some(name) = uploads.strip_suffix("/blobs/uploads") {
            return Ok(Some(Self::Uploads(repository(name)?)));
        }
        let Some((before, last)) = path.rsplit_once('/') else {
            return Ok(None);
        };
        let route = if let Some(name) = before.strip_suffix("/blobs/uploads") {
            Self::Upload(repository(name)?, last.parse().map_err(ApiError::from)?)
        } else if let Some(name) = before.strip_suffix("/blobs") {
            Self::Blob(repository(name)?, parse_digest(last)?)
        } else if let Some(name) = before.strip_suffix("/referrers") {
            Self::Referrers(repository(name)?, parse_digest(last)?)
        } else if let Some(name) = before.strip_suffix("/manifests") {
            let name = repository(name)?;
            let reference = last.parse().map_err(|error| {
                let code = match error {
                    wharfinger_oci::ReferenceError::Digest(_) => Code::DIGEST_INVALID,
                    wharfinger_oci::ReferenceError::Tag(_) => Code::TAG_INVALID,
                };
                ApiError::with(code, error.to_string())
            })?;
            Self::Manifest(name, reference)
        } else {
            return Ok(None);
        };
        Ok(Some(route))
    }

    /// The path's form.
    pub(crate) fn pattern(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Base => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Tags(_) => "/v2/{name}/tags/list",
            Self::Manifest(..) => "/v2/{name}/manifests/{reference}",
            Self::Blob(..) => "/v2/{name}/blobs/{digest}",
            Self::Uploads(_) => "/v2/{name}/blobs/uploads/",
            Self::Upload(..) => "/v2/{name}/blobs/uploads/{uuid}",
            Self::Referrers(..) => "/v2/{name}/referrers/{digest}",
        }
    }

    /// The repository that it is about, if it is about one.
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Root | Self::Base | Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }

    /// The same, for another name to be put there.
    pub(crate) fn repository_mut(&mut self) -> Option<&mut RepositoryName> {
        match self {
            Self::Root | Self::Base | Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }

    /// The methods that the path knows.
    pub(crate) fn methods(&self) -> &'static str {
        match self {
            Self::Root | Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => {
                "GET, HEAD"
            }
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(..) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }

    /// The methods that are left where the one that was asked for is switched off: deletion, or
    /// all that writes.
    pub(crate) fn methods_left(&self, read_only: bool) -> &'static str {
        match self {
            Self::Uploads(_) if read_only => "",
            _ if read_only => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT",
            Self::Blob(..) => "GET, HEAD",
            _ => self.methods(),
        }
    }
}

fn repository(name: &str) -> Result<RepositoryName> {
    name.parse().map_err(|error: wharfinger_oci::NameError| {
        ApiError::with(Code::NAME_INVALID, error.to_string())
    })
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|error: wharfinger_oci::DigestError| {
        ApiError::with(Code::DIGEST_INVALID, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<Route> {
        Route::of("/", path).unwrap()
    }

    #[test]
    fn paths_are_told_apart_from_the_end() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let digest = Digest::canonical(b"");
        assert_eq!(route("/"), Some(Route::Root));
        assert_eq!(route("/v2/"), Some(Route::Base));
        assert_eq!(route("/v2/_catalog"), Some(Route::Catalog));
        assert_eq!(route("/v2/a/b/tags/list"), Some(Route::Tags(name("a/b"))));
        assert_eq!(
            route("/v2/tags/list/tags/list"),
            Some(Route::Tags(name("tags/list")))
        );
        assert_eq!(
            route("/v2/blobs/uploads/blobs/uploads/"),
            Some(Route::Uploads(name("blobs/uploads")))
        );
        assert_eq!(
            route(&format!("/v2/a/blobs/{digest}")),
            Some(Route::Blob(name("a"), digest))
        );
        for uploads in ["/v2/a/blobs/uploads/", "/v2/a/blobs/uploads"] {
            assert_eq!(route(uploads), Some(Route::Uploads(name("a"))));
        }
        let escaped = digest.to_string().replace(':', "%3A");
        assert_eq!(
            route(&format!("/v2/a/blobs/{escaped}")),
            Some(Route::Blob(name("a"), digest))
        );
        for none in [
            "/v1/",
            "/v2/x",
            "/v2/tags/list",
            "/v2//",
            "/v2/manifests/x",
            "/v2/blobs/uploads/x",
            "/v2/a/blobs/uploads//",
            "/v2/a/tags/list/",
            "/v3/a/tags/list",
            "v2/",
        ] {
            assert_eq!(route(none), None, "{none}");
        }
        assert!(Route::of("/", "/v2/A/tags/list").is_err());
        assert!(Route::of("/", "/v2//tags/list").is_err());
        assert!(Route::of("/", "/v2//manifests/x").is_err());
        assert!(Route::of("/", "/v2/a//b/tags/list").is_err());
        assert!(Route::of("/", "/v2/a/blobs/sha256:0").is_err());
        assert!(Route::of("/", "/v2/a/manifests/.bad").is_err());
        assert!(Route::of("/", "/v2/../a/manifests/x").is_err());
        assert_eq!(Route::of("/my/", "/my/v2/").unwrap(), Some(Route::Base));
        assert_eq!(Route::of("/my/", "/v2/").unwrap(), None);
    }
}
