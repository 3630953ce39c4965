//! "Content Discovery": tags, referrers, and Docker's catalog.

use serde_json::{Value, json};
use wharfinger_oci::{Digest, media_type};

use crate::servers;
use crate::support::{
    Content, Options, Reply, Running, Store, deleting, descriptor, escaped, image_of, index_of,
    quiet,
};

/// The path of the next page, from `Link` (RFC 5988).
fn next(reply: &Reply) -> Option<String> {
    let link = reply.get("link")?;
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    assert_eq!(rest, r#"; rel="next""#);
    Some(path.to_owned())
}

/// All entries of a listing, page by page; each page but the last has `n`.
async fn pages(server: &Running, first: &str, key: &str, n: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut path = Some(first.to_owned());
    while let Some(page) = path {
        let reply = server.get(&page).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let entries: Vec<String> = serde_json::from_value(reply.json()[key].clone()).unwrap();
        path = next(&reply);
        assert!(
            entries.len() == n || path.is_none() && entries.len() < n,
            "{entries:?}"
        );
        all.extend(entries);
    }
    all
}

/// "Listing Tags".
#[tokio::test]
async fn tags_are_listed_in_order_and_by_page() {
    for server in servers().await {
        let image = server.push_image("tags", "z", 1).await;
        let mut tags = vec!["z".to_owned()];
        for tag in ["a", "B", "0", "_x", "a.b", "a-b", "a_b", "aa", "Z"] {
            assert_eq!(server.push_manifest("tags", tag, &image).await.status, 201);
            tags.push(tag.to_owned());
        }
        tags.sort();
        let reply = server.get("/v2/tags/tags/list").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.get("content-type"), Some("application/json"));
        assert_eq!(reply.json(), json!({ "name": "tags", "tags": tags }));
        assert_eq!(reply.get("link"), None);
        assert_eq!(server.head("/v2/tags/tags/list").await.status, 200);
        for n in [1, 3, 4, 9, 10, 11] {
            let path = format!("/v2/tags/tags/list?n={n}");
            assert_eq!(pages(&server, &path, "tags", n).await, tags, "n={n}");
        }
        // "`<tagname>` will not be included in the results", and it need not exist.
        for (last, expected) in [("a", &tags[5..]), ("a.a", &tags[6..]), ("zz", &[])] {
            let reply = server.get(&format!("/v2/tags/tags/list?last={last}")).await;
            assert_eq!(reply.json()["tags"], json!(expected), "{last}");
        }
        // "When `n` is zero, this endpoint MUST return an empty list, and MUST NOT include a
        // `Link` header."
        let reply = server.get("/v2/tags/tags/list?n=0").await;
        assert_eq!(reply.json(), json!({ "name": "tags", "tags": [] }));
        assert_eq!((reply.status, reply.get("link")), (200, None));
        for n in ["-1", "x", "1.5", "99999999999999999999999"] {
            let reply = server.get(&format!("/v2/tags/tags/list?n={n}")).await;
            reply.is_error(400, "PAGINATION_NUMBER_INVALID");
        }
        server
            .get("/v2/unknown/tags/list")
            .await
            .is_error(404, "NAME_UNKNOWN");
    }
}

/// "The list of tags MAY be empty if there are no tags on the repository."
#[tokio::test]
async fn a_repository_without_tags_lists_none() {
    for server in servers().await {
        let image = server.push_image("bare", "t", 1).await;
        assert_eq!(server.delete("/v2/bare/manifests/t").await.status, 202);
        server.push_blob("blobs", b"only").await;
        let untagged = image.digest().to_string();
        server.image("untagged", 1, "").await;
        assert_eq!(
            server
                .push_manifest("untagged", &untagged, &image)
                .await
                .status,
            201
        );
        for name in ["bare", "untagged", "blobs"] {
            let reply = server.get(&format!("/v2/{name}/tags/list")).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.json(), json!({ "name": name, "tags": [] }));
        }
    }
}

/// `tags.maxtags`: who asks for more at once gets pages; who does not say gets all.
#[tokio::test]
async fn tags_are_limited() {
    let options = Options {
        tags_max: 2,
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let image = server.push_image("max", "a", 1).await;
    for tag in ["b", "c", "d", "e"] {
        assert_eq!(server.push_manifest("max", tag, &image).await.status, 201);
    }
    let all = ["a", "b", "c", "d", "e"];
    assert_eq!(
        pages(&server, "/v2/max/tags/list?n=100", "tags", 2).await,
        all
    );
    assert_eq!(
        pages(&server, "/v2/max/tags/list?n=1", "tags", 1).await,
        all
    );
    let reply = server.get("/v2/max/tags/list").await;
    assert_eq!(
        (reply.json()["tags"].clone(), reply.get("link")),
        (json!(all), None)
    );
}

/// Docker's catalog: every repository, nested ones too, in order.
#[tokio::test]
async fn the_catalog_is_listed_by_page() {
    for server in servers().await {
        let reply = server.get("/v2/_catalog").await;
        assert_eq!(reply.json(), json!({ "repositories": [] }));
        let mut names = ["b", "a", "a/b", "a/b/c", "a-b", "a.b", "z/y/x"];
        for name in names {
            server.push_image(name, "t", 1).await;
        }
        names.sort_by_key(|name| name.split('/').collect::<Vec<_>>());
        let reply = server.get("/v2/_catalog").await;
        assert_eq!(reply.json(), json!({ "repositories": names }));
        assert_eq!(reply.get("link"), None);
        for n in [1, 2, 3, 6, 7, 8] {
            let path = format!("/v2/_catalog?n={n}");
            assert_eq!(
                pages(&server, &path, "repositories", n).await,
                names,
                "n={n}"
            );
        }
        let reply = server.get("/v2/_catalog?n=0").await;
        assert_eq!((reply.status, reply.get("link")), (200, None));
        assert_eq!(reply.json(), json!({ "repositories": [] }));
        for n in ["-1", "x", "1001"] {
            let reply = server.get(&format!("/v2/_catalog?n={n}")).await;
            reply.is_error(400, "PAGINATION_NUMBER_INVALID");
        }
    }
}

/// A manifest with a subject, and what it is listed as.
struct Referrer {
    content: Content,
    artifact_type: Option<&'static str>,
}

/// One of each kind of referrer to `subject`.
fn referrers(subject: &Content) -> Vec<Referrer> {
    let subject = format!(
        r#","subject":{},"annotations":{{"k":"v"}}"#,
        subject.descriptor()
    );
    let artifact = r#","artifactType":"application/sbom+json""#;
    let typed = format!("{subject}{artifact}");
    vec![
        Referrer {
            content: image_of(b"{}", &[], &typed),
            artifact_type: Some("application/sbom+json"),
        },
        Referrer {
            content: image_of(b"{}", &[], &subject),
            artifact_type: Some("application/vnd.oci.image.config.v1+json"),
        },
        Referrer {
            content: index_of(&[], &typed),
            artifact_type: Some("application/sbom+json"),
        },
        Referrer {
            content: index_of(&[], &subject),
            artifact_type: None,
        },
    ]
}

fn expected(referrer: &Referrer) -> Value {
    let mut value = json!({
        "mediaType": referrer.content.media_type,
        "digest": referrer.content.digest().to_string(),
        "size": referrer.content.bytes.len(),
        "annotations": { "k": "v" },
    });
    if let Some(artifact_type) = referrer.artifact_type {
        value["artifactType"] = artifact_type.into();
    }
    value
}

fn sorted(mut descriptors: Vec<Value>) -> Vec<Value> {
    descriptors.sort_by_key(|descriptor| descriptor["digest"].to_string());
    descriptors
}

/// "Listing Referrers", with and without a filter.
#[tokio::test]
async fn referrers_are_listed() {
    for server in servers().await {
        server.push_blob("refs", b"{}").await;
        let subject = server.push_image("refs", "subject", 1).await;
        let path = format!("/v2/refs/referrers/{}", subject.digest());
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let all = referrers(&subject);
        for referrer in &all {
            let digest = referrer.content.digest().to_string();
            let reply = server
                .push_manifest("refs", &digest, &referrer.content)
                .await;
            assert_eq!(reply.status, 201, "{reply:?}");
        }
        let reply = server.get(&path).await;
        assert_eq!(reply.get("content-type"), Some(media_type::OCI_IMAGE_INDEX));
        assert_eq!(reply.get("oci-filters-applied"), None);
        let index = reply.json();
        assert_eq!(index["schemaVersion"], 2);
        assert_eq!(index["mediaType"], media_type::OCI_IMAGE_INDEX);
        let listed = sorted(index["manifests"].as_array().unwrap().clone());
        assert_eq!(listed, sorted(all.iter().map(expected).collect()));

        let filters = [
            "application/sbom+json",
            "application/vnd.oci.image.config.v1+json",
            "application/none",
        ];
        for filter in filters {
            let reply = server
                .get(&format!("{path}?artifactType={}", escaped(filter)))
                .await;
            assert_eq!(reply.get("oci-filters-applied"), Some("artifactType"));
            let listed = sorted(reply.json()["manifests"].as_array().unwrap().clone());
            let wanted = all
                .iter()
                .filter(|r| r.artifact_type == Some(filter))
                .map(expected);
            assert_eq!(listed, sorted(wanted.collect()), "{filter}");
        }
    }
}

/// "the registry MUST NOT return a 404", and a digest that is none is a 400.
#[tokio::test]
async fn referrers_of_nothing_are_an_empty_list() {
    for server in servers().await {
        let digest = Digest::canonical(b"nothing");
        for name in ["refs", "unknown/repository"] {
            let reply = server.get(&format!("/v2/{name}/referrers/{digest}")).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.json()["manifests"], json!([]));
            assert_eq!(reply.get("link"), None);
        }
        for bad in [
            "sha256:abc",
            "latest",
            "sha256",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
        ] {
            let reply = server.get(&format!("/v2/refs/referrers/{bad}")).await;
            reply.is_error(400, "DIGEST_INVALID");
        }
    }
}

/// Referrers that arrive before their subject are listed.
#[tokio::test]
async fn referrers_may_come_first() {
    for server in servers().await {
        server.push_blob("early", b"{}").await;
        let subject = server.image("early", 1, "").await;
        let referrer = &referrers(&subject)[0].content;
        let digest = referrer.digest().to_string();
        assert_eq!(
            server.push_manifest("early", "r", referrer).await.status,
            201
        );
        for _ in 0..2 {
            let reply = server
                .get(&format!("/v2/early/referrers/{}", subject.digest()))
                .await;
            assert_eq!(reply.json()["manifests"][0]["digest"], *digest);
            assert_eq!(
                server.push_manifest("early", "s", &subject).await.status,
                201
            );
        }
    }
}

/// "A `Link` header MUST be included in the response when the descriptor list cannot be returned
/// in a single manifest."
#[tokio::test]
async fn many_referrers_are_listed_by_page() {
    let server = Running::start(Store::Memory, deleting(), quiet()).await;
    server.push_blob("many", b"{}").await;
    let subject = descriptor(media_type::OCI_IMAGE_MANIFEST, b"subject");
    let long = "x".repeat(1_000_000);
    let mut digests = Vec::new();
    for n in 0..9 {
        let extra = format!(
            r#","subject":{subject},"artifactType":"application/a+b;{n}","annotations":{{"x":"{long}"}}"#
        );
        let artifact = image_of(b"{}", &[], &extra.replace(&format!(";{n}"), ""));
        let artifact = Content::new(
            artifact.media_type,
            String::from_utf8(artifact.bytes.to_vec()).unwrap() + &" ".repeat(n),
        );
        let reply = server
            .push_manifest("many", &artifact.digest().to_string(), &artifact)
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        digests.push(artifact.digest().to_string());
    }
    digests.sort();
    let path = format!("/v2/many/referrers/{}", Digest::canonical(b"subject"));
    for first in [
        path.clone(),
        format!("{path}?artifactType={}", escaped("application/a+b")),
    ] {
        let (mut found, mut page, mut count) = (Vec::new(), Some(first), 0);
        while let Some(path) = page {
            let reply = server.get(&path).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert!(
                reply.body.len() <= 4 * 1024 * 1024,
                "a page is no larger than a manifest"
            );
            let index = reply.json();
            for entry in index["manifests"].as_array().unwrap() {
                found.push(entry["digest"].as_str().unwrap().to_owned());
            }
            page = next(&reply);
            count += 1;
        }
        assert_eq!(found, digests);
        assert_eq!(count, 3);
    }
}

/// "Enabling the Referrers API": what clients kept under the fallback tag is listed too.
#[tokio::test]
async fn the_fallback_tag_is_listed() {
    for server in servers().await {
        let subject = server.push_image("fallback", "subject", 1).await;
        // A referrer that the registry knows of only by the index: its own record is removed.
        for digest in [subject.digest(), subject.sha512()] {
            let tag: String = digest.to_string().replace(':', "-");
            let tag = &tag[..tag.len().min("sha512-".len() + 64)];
            let subject = format!(
                r#","subject":{{"mediaType":"{}","digest":"{digest}","size":{}}}"#,
                subject.media_type,
                subject.bytes.len()
            );
            server.push_blob("fallback", b"{}").await;
            let referrer = image_of(b"{}", &[], &subject);
            let name = "fallback".parse().unwrap();
            let reply = server
                .push_manifest("fallback", &referrer.digest().to_string(), &referrer)
                .await;
            assert_eq!(reply.status, 201, "{reply:?}");
            let record =
                wharfinger_registry::layout::referrer_link(&name, &digest, &referrer.digest());
            server
                .driver
                .delete(&record.parent().unwrap())
                .await
                .unwrap();
            let path = format!("/v2/fallback/referrers/{digest}");
            assert_eq!(server.get(&path).await.json()["manifests"], json!([]));

            let stranger = server.push_image("fallback", "stranger", 2).await;
            let index = index_of(&[&referrer, &stranger], "");
            assert_eq!(
                server.push_manifest("fallback", tag, &index).await.status,
                201
            );
            let listed = server.get(&path).await.json()["manifests"].clone();
            assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
            assert_eq!(listed[0]["digest"], *referrer.digest().to_string());
            let artifact_type = "application/vnd.oci.image.config.v1+json";
            assert_eq!(listed[0]["artifactType"], artifact_type);
        }
    }
}
