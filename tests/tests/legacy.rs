//! Signed manifests as the first releases of Distribution 2 stored them.

use wharfinger_e2e::clients::copy;
use wharfinger_e2e::{Wharfinger, folder, legacy, run};

#[test]
fn what_early_releases_signed_is_served_with_its_signatures() {
    let home = folder();
    let data = home.path().join("data");
    let images = legacy::store(&data);
    let server = Wharfinger::start(home.path());
    let http = server.http();
    // 2.4 kept no signatures: there the registry signs with its own key.
    for (image, signatures) in [
        ("legacy/v2.0:latest", 2),
        ("legacy/v2.1.0:latest", 1),
        ("legacy/v2.4:latest", 1),
    ] {
        let digest = images[image].as_str();
        let (name, tag) = image.split_once(':').unwrap();
        for reference in [tag, digest] {
            let answer = http.get(&format!("/v2/{name}/manifests/{reference}"));
            assert_eq!(answer.outcome(), (200, String::new()), "{image}");
            assert_eq!(answer.header("docker-content-digest"), Some(digest));
            assert_eq!(
                answer.header("content-type"),
                Some("application/vnd.docker.distribution.manifest.v1+prettyjws")
            );
            let manifest = answer.json();
            let found = manifest["signatures"].as_array().unwrap().len();
            assert_eq!(found, signatures, "{image}");
            for layer in manifest["fsLayers"].as_array().unwrap() {
                let blob = layer["blobSum"].as_str().unwrap();
                let path = format!("/v2/{name}/blobs/{blob}");
                assert_eq!(http.head(&path).outcome(), (200, String::new()), "{path}");
            }
        }
        // skopeo takes the signatures off and checks the digest of what they sign.
        let from = format!("docker://{}", server.image(&format!("{name}@{digest}")));
        let to = format!("dir:{}", home.path().join(name.replace('/', "_")).display());
        run(&mut copy(&from, &to));
    }
}
