//! Paths of requests: any path is answered, and one that names something names it in one way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_server::parse::Route;

fuzz_target!(|path: &str| {
    let route = Route::parse("/", path);
    if let Ok(Some(route)) = &route {
        let canonical = match route {
            Route::Root => "/".to_owned(),
            Route::Base => "/v2/".to_owned(),
            Route::Catalog => "/v2/_catalog".to_owned(),
            Route::Tags(name) => format!("/v2/{name}/tags/list"),
            Route::Manifest(name, reference) => format!("/v2/{name}/manifests/{reference}"),
            Route::Blob(name, digest) => format!("/v2/{name}/blobs/{digest}"),
            Route::Uploads(name) => format!("/v2/{name}/blobs/uploads/"),
            Route::Upload(name, id) => format!("/v2/{name}/blobs/uploads/{id}"),
            Route::Referrers(name, digest) => format!("/v2/{name}/referrers/{digest}"),
        };
        assert_eq!(
            Route::parse("/", &canonical).as_ref(),
            Ok(&Some(route.clone()))
        );
    }
    if let Some(rest) = path.strip_prefix('/') {
        assert_eq!(Route::parse("/moved/", &format!("/moved/{rest}")), route);
    }
});
