//! A store that fails: whatever call of the driver a request meets the failure in, its client is
//! told so with the right status and code, or gets what it asked for; it is never told that
//! something is missing, and never gets a part for the whole.

mod support;

use std::sync::Arc;

use support::{Content, Options, Reply, Request, Running, deleting, image_of, quiet, random};
use wharfinger_storage::testing::crash::CrashDisk;
use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver};

/// Causes with what a client is told of them.
const CAUSES: [(Cause, u16, &str); 5] = [
    (Cause::Io, 500, "UNKNOWN"),
    (Cause::Timeout, 500, "UNKNOWN"),
    (Cause::NoSpace, 507, "UNAVAILABLE"),
    (Cause::Permission, 503, "UNAVAILABLE"),
    (Cause::ReadOnly, 503, "UNAVAILABLE"),
];

/// What lies in the store before the request, and what requests need to know of it.
struct Prepared {
    disk: CrashDisk,
    image: Content,
    blob: Vec<u8>,
    opened: String,
    upload: String,
}

fn options() -> Options {
    Options {
        // Locations that one server gave are good on the next.
        secret: Some("of all servers".to_owned()),
        ..quiet()
    }
}

async fn prepare() -> Prepared {
    let disk = CrashDisk::new();
    let server = Running::over(Arc::new(disk.clone()), deleting(), options()).await;
    let image = server.push_image("a", "latest", 1).await;
    let blob = random(7, 4000);
    server.push_blob("b", &blob).await;
    let opened = server.open_upload("a").await;
    let chunk = Request::patch(&opened).body(random(8, 70_000));
    let reply = server.send(chunk).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    Prepared {
        disk,
        image,
        blob,
        opened: server.open_upload("a").await,
        upload: reply.location(),
    }
}

/// Each request, with the status that it has where nothing fails.
fn requests(prepared: &Prepared) -> Vec<(&'static str, Request, u16)> {
    let Prepared {
        image,
        blob,
        opened,
        upload,
        ..
    } = prepared;
    let digest = image.digest();
    let mounted = wharfinger_oci::Digest::canonical(blob);
    let manifest = |reference: &str, content: &Content| {
        Request::put(&format!("/v2/a/manifests/{reference}"))
            .header("content-type", content.media_type)
            .body(&content.bytes)
    };
    let subject = format!(r#","artifactType":"a/b","subject":{}"#, image.descriptor());
    let referrer = image_of(b"{\"seed\":1}", &[&random(1, 500)], &subject);
    let small = random(9, 1000);
    let large = random(10, 90_000);
    let digest_of = wharfinger_oci::Digest::canonical;
    let at_once = |content: &[u8]| {
        let digest = digest_of(content);
        Request::post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(content)
    };
    let rest = random(8, 70_000);
    let whole = digest_of(&rest);
    vec![
        ("patch first", Request::patch(opened).body(&small), 202),
        (
            "patch first large",
            Request::patch(opened).body(&large),
            202,
        ),
        (
            "finish at once",
            Request::put(&format!("{opened}&digest={}", digest_of(&small))).body(&small),
            201,
        ),
        ("push small", at_once(&small), 201),
        ("push large", at_once(&large), 201),
        ("push what is there", at_once(blob), 201),
        ("patch", Request::patch(upload).body(&large), 202),
        ("status", Request::get(upload), 204),
        (
            "finish",
            Request::put(&format!("{upload}&digest={whole}")),
            201,
        ),
        ("cancel", Request::new("DELETE", upload), 204),
        (
            "mount",
            Request::post(&format!("/v2/a/blobs/uploads/?mount={mounted}&from=b")),
            201,
        ),
        ("new tag", manifest("new", image), 201),
        (
            "referrer",
            manifest(&referrer.digest().to_string(), &referrer),
            201,
        ),
        ("manifest", Request::get("/v2/a/manifests/latest"), 200),
        ("blob", Request::get(&format!("/v2/b/blobs/{mounted}")), 200),
        ("tags", Request::get("/v2/a/tags/list"), 200),
        ("catalog", Request::get("/v2/_catalog"), 200),
        (
            "referrers",
            Request::get(&format!("/v2/a/referrers/{digest}")),
            200,
        ),
        (
            "delete tag",
            Request::new("DELETE", "/v2/a/manifests/latest"),
            202,
        ),
        (
            "delete manifest",
            Request::new("DELETE", &format!("/v2/a/manifests/{digest}")),
            202,
        ),
        (
            "delete blob",
            Request::new("DELETE", &format!("/v2/b/blobs/{mounted}")),
            202,
        ),
    ]
}

/// Whether the answer is that of a failure, with the form of every error.
fn tells(reply: &Reply, status: u16, code: &str) -> bool {
    reply.status == status && reply.codes() == [code]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_of_the_store_has_its_status_and_code() {
    let prepared = prepare().await;
    for (name, request, expected) in requests(&prepared) {
        let mut failed = 0;
        for (number, (cause, status, code)) in CAUSES.into_iter().enumerate() {
            // Each call fails before it has done anything for one cause, and after for another.
            for call in 0.. {
                let effect = match (number + call) % 2 {
                    0 => Effect::Fail(cause),
                    _ => Effect::FailAfter(cause),
                };
                let faulty = FaultDriver::new(prepared.disk.restart());
                faulty.plan(Fault::new(effect).after(call as u64).times(1));
                let driver = Arc::new(faulty.clone());
                let server = Running::over(driver, deleting(), options()).await;
                let reply = server.send(request.clone()).await;
                let calls = faulty.operations();
                let Some((kind, path)) = calls.get(call) else {
                    assert_eq!(reply.status, expected, "{name}: {reply:?}");
                    break;
                };
                let what = format!("{name}: {effect:?} of {kind:?} {path}");
                let is_told = tells_or_is(&reply, expected, status, code);
                assert!(is_told, "{what}: {reply:?}");
                failed += usize::from(reply.status == status);
                // What it could not be given now it can be given later, unless it was done.
                let again = server.send(request.clone()).await;
                let done: &[u16] = match name {
                    "patch" | "patch first" | "patch first large" => &[416],
                    // The bytes may have their place already: the client is told to begin anew.
                    "finish" | "finish at once" => &[404, 416],
                    "cancel" | "delete tag" | "delete manifest" | "delete blob" => &[404],
                    _ => &[],
                };
                let is_well = again.status == expected || done.contains(&again.status);
                assert!(is_well, "{what}, then again: {again:?}");
            }
        }
        assert!(failed > 0, "{name}: no call was missed");
    }
}

fn tells_or_is(reply: &Reply, expected: u16, status: u16, code: &str) -> bool {
    reply.status == expected || tells(reply, status, code)
}

/// A large blob is on its way when the store fails: the connection ends before the announced length.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_cannot_be_read_to_its_end_is_not_taken_for_whole() {
    let disk = CrashDisk::new();
    let server = Running::over(Arc::new(disk.clone()), deleting(), options()).await;
    let blob = random(3, 900_000);
    let digest = server.push_blob("a", &blob).await;
    let faulty = FaultDriver::new(disk.restart());
    let short = Effect::Short(1000, Cause::Io);
    let fault = Fault::new(short).on(wharfinger_storage::testing::fault::Operation::Read);
    faulty.plan(fault.after(2).times(1));
    let server = Running::over(Arc::new(faulty), deleting(), options()).await;
    let mut connection = server.connect().await;
    let request = Request::get(&format!("/v2/a/blobs/{digest}"));
    let bytes = request.to_bytes(connection.host());
    connection.write(bytes).await;
    let received = connection.read_to_end().await;
    assert!(received < blob.len(), "{received} bytes");
    let whole = server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert!(whole.body == blob);
}
