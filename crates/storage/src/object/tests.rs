//! The driver on a real server of the protocol, which each test starts for itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::*;

const KEY: &str = "wharfinger-test";
const SECRET: &str = "a secret of the tests";

/// Serves until the test process ends, and with it what this reads from.
const PROGRAM: &str = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer('127.0.0.1', int(sys.argv[1]), verbose=False)
server.start()
sys.stdin.read()
server.stop()
";

/// The server that all tests of this process share, and a bucket of its own for one of them.
struct Server {
    address: SocketAddr,
    bucket: String,
}

impl Server {
    fn start() -> Self {
        static SHARED: OnceLock<(SocketAddr, Child)> = OnceLock::new();
        let (address, _) = SHARED.get_or_init(|| {
            let python = target_folder().join("moto/bin/python");
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let mut command = Command::new(&python);
            command.args(["-c", PROGRAM, &address.port().to_string()]);
            command.stdin(Stdio::piped());
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = child.unwrap_or_else(|error| {
                let python = python.display();
                panic!("{python}: {error} (`cargo xtask test --only packages` installs it)")
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            while TcpStream::connect(address).is_err() {
                assert!(Instant::now() < deadline, "the server does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            (address, child)
        });
        Self {
            address: *address,
            bucket: format!("registry-{}", uuid::Uuid::new_v4().simple()),
        }
    }

    async fn with_bucket() -> Self {
        let server = Self::start();
        let address = format!("http://{}/{}", server.address, server.bucket);
        let made = client().put(address).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        server
    }

    fn options(&self) -> S3Options {
        S3Options {
            bucket: self.bucket.clone(),
            region: "us-east-1".to_owned(),
            endpoint: S3Endpoint::server(&self.address.to_string(), false, false),
            root: "some/where".to_owned(),
            credentials: S3Credentials::Keys {
                access_key: KEY.to_owned(),
                secret_key: SECRET.to_owned(),
                session_token: None,
            },
            encryption: None,
            storage_class: None,
            acl: None,
            part: 5 * 1024 * 1024,
            copying: CopyOptions {
                threshold: 8 * 1024 * 1024,
                part: 5 * 1024 * 1024,
                concurrency: 4,
            },
            retries: Retries {
                most: 3,
                within: Duration::from_secs(20),
            },
            log_requests: false,
        }
    }

    fn driver(&self) -> ObjectDriver {
        ObjectDriver::s3(&self.options(), client()).unwrap()
    }
}

fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.no_proxy().build().unwrap()
}

/// Cargo's target folder.
fn target_folder() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    workspace.join(target.unwrap_or_else(|| "target".into()))
}

crate::contract_tests!((Server::with_bucket().await.driver(), ()));

const MIB: usize = 1024 * 1024;
const PART: usize = 5 * MIB;

fn path(text: &str) -> StoragePath {
    text.parse().unwrap()
}

fn content(size: usize) -> Bytes {
    crate::testing::Random::new(size as u64).bytes(size).into()
}

async fn write(driver: &ObjectDriver, mode: WriteMode, bytes: Bytes) -> Box<dyn Writer> {
    let mut writer = driver.writer(&path("/up/data"), mode).await.unwrap();
    // In pieces that do not divide a part.
    for piece in bytes.chunks(700_001) {
        writer.write(vec![bytes.slice_ref(piece)]).await.unwrap();
    }
    writer
}

/// The keys of the bucket and the multipart uploads that are under way in it.
async fn all(driver: &ObjectDriver) -> (Vec<String>, usize) {
    let bucket = &driver.0.bucket;
    let page = bucket.list("", None, false, 1000).next().await.unwrap();
    let keys = page.unwrap().objects.into_iter().map(|object| object.key);
    let open = bucket.signed.open_uploads("some/where/").await.unwrap();
    (keys.collect(), open.len())
}

#[test]
fn another_node_goes_on_wherever_the_last_one_closed() {
    crate::testing::block_on(async {
        let server = Server::with_bucket().await;
        let whole = content(23 * MIB);
        let mut at = 0;
        for end in [
            100,
            4 * MIB,
            11 * MIB,
            11 * MIB + 1,
            20 * MIB,
            20 * MIB,
            23 * MIB,
        ] {
            // A driver of its own each time: nothing is remembered in the process.
            let driver = server.driver();
            let mode = match at {
                0 => WriteMode::Create,
                at => WriteMode::Append { at: at as u64 },
            };
            let writer = write(&driver, mode, whole.slice(at..end)).await;
            assert_eq!(writer.size(), end as u64);
            writer.close().await.unwrap();
            let stat = server.driver().stat(&path("/up/data")).await.unwrap();
            assert_eq!((stat.size, stat.is_dir), (end as u64, false));
            let entries = driver.list(&path("/up"), None, None).await.unwrap();
            assert!(entries.len() <= 1, "{entries:?}");
            at = end;
        }
        let driver = server.driver();
        let mode = WriteMode::Append { at: at as u64 };
        let writer = driver.writer(&path("/up/data"), mode).await.unwrap();
        writer.commit().await.unwrap();
        assert!(driver.get(&path("/up/data")).await.unwrap() == whole);
        assert_eq!(
            all(&driver).await,
            (vec!["some/where/up/data".to_owned()], 0)
        );
    });
}

#[test]
fn a_node_that_dies_is_gone_on_behind() {
    crate::testing::block_on(async {
        let server = Server::with_bucket().await;
        let whole = content(18 * MIB);
        for first in [3 * MIB, 7 * MIB, 10 * MIB] {
            let mode = WriteMode::Create;
            let writer = write(&server.driver(), mode, whole.slice(..first)).await;
            writer.close().await.unwrap();
            // This one sends parts and dies; the next begins where the first ended.
            let mode = WriteMode::Append { at: first as u64 };
            let dying = write(&server.driver(), mode, whole.slice(..8 * MIB)).await;
            drop(dying);
            let driver = server.driver();
            driver.settled().await;
            let stat = driver.stat(&path("/up/data")).await.unwrap();
            assert_eq!(stat.size, first as u64);
            let writer = write(&driver, mode, whole.slice(first..)).await;
            writer.commit().await.unwrap();
            assert!(driver.get(&path("/up/data")).await.unwrap() == whole);
            assert_eq!(all(&driver).await.1, 0);
            driver.delete(&path("/up")).await.unwrap();
            assert!(all(&driver).await.0.is_empty());
        }
    });
}

#[test]
fn an_offset_that_was_closed_before_the_last_can_be_gone_back_to() {
    crate::testing::block_on(async {
        let server = Server::with_bucket().await;
        let driver = server.driver();
        let whole = content(16 * MIB);
        let ends = [6 * MIB, 13 * MIB];
        let close = async |mode, range: std::ops::Range<usize>| {
            let writer = write(&driver, mode, whole.slice(range)).await;
            writer.close().await.unwrap();
        };
        let behind = |at: usize| WriteMode::Append { at: at as u64 };
        // The last but one is kept; others, and those in between, cost putting it together.
        for at in [ends[0], 2 * MIB, 12 * MIB] {
            close(WriteMode::Create, 0..ends[0]).await;
            close(behind(ends[0]), ends[0]..ends[1]).await;
            let writer = write(&driver, behind(at), whole.slice(at..)).await;
            writer.commit().await.unwrap();
            assert!(
                driver.get(&path("/up/data")).await.unwrap() == whole,
                "{at}"
            );
            assert_eq!(
                all(&driver).await,
                (vec!["some/where/up/data".to_owned()], 0)
            );
            driver.delete(&path("/up/data")).await.unwrap();
        }
    });
}

#[test]
fn a_long_file_is_cut_and_gone_on_with() {
    crate::testing::block_on(async {
        let driver = Server::with_bucket().await.driver();
        let whole = content(17 * MIB);
        for at in [17 * MIB, 16 * MIB, 11 * MIB, PART, 3, 0] {
            let writer = write(&driver, WriteMode::Create, whole.clone()).await;
            writer.commit().await.unwrap();
            let mode = WriteMode::Append { at: at as u64 };
            let writer = write(&driver, mode, Bytes::from_static(b"end")).await;
            writer.commit().await.unwrap();
            let got = driver.get(&path("/up/data")).await.unwrap();
            assert!(got == [&whole[..at], b"end"].concat(), "{at}");
            assert_eq!(
                all(&driver).await,
                (vec!["some/where/up/data".to_owned()], 0)
            );
        }
    });
}

#[test]
fn what_is_deleted_or_given_up_leaves_no_multipart_upload() {
    crate::testing::block_on(async {
        let server = Server::with_bucket().await;
        let driver = server.driver();
        for deleted in ["/up", "/up/data"] {
            write(&driver, WriteMode::Create, content(8 * MIB))
                .await
                .close()
                .await
                .unwrap();
            assert_eq!(all(&driver).await.1, 1);
            driver.delete(&path(deleted)).await.unwrap();
            assert_eq!(all(&driver).await, (vec![], 0));
        }
        write(&driver, WriteMode::Create, content(8 * MIB))
            .await
            .close()
            .await
            .unwrap();
        let mode = WriteMode::Append { at: 8 * MIB as u64 };
        write(&driver, mode, content(9 * MIB))
            .await
            .cancel()
            .await
            .unwrap();
        assert_eq!(all(&driver).await, (vec![], 0));
        write(&driver, WriteMode::Create, content(9 * MIB))
            .await
            .cancel()
            .await
            .unwrap();
        assert_eq!(all(&driver).await, (vec![], 0));
        // One that died, and another that begins anew.
        drop(write(&driver, WriteMode::Create, content(9 * MIB)).await);
        driver.settled().await;
        write(&driver, WriteMode::Create, content(7 * MIB))
            .await
            .close()
            .await
            .unwrap();
        assert_eq!(
            driver.stat(&path("/up/data")).await.unwrap().size,
            7 * MIB as u64
        );
        assert_eq!(all(&driver).await.1, 1);
    });
}

#[test]
fn leftovers_are_multipart_uploads_that_nobody_needs() {
    crate::testing::block_on(async {
        let driver = Server::with_bucket().await.driver();
        let bucket = &driver.0.bucket;
        write(&driver, WriteMode::Create, content(8 * MIB))
            .await
            .close()
            .await
            .unwrap();
        bucket.begin("some/where/up/data").await.unwrap();
        bucket.begin("some/where/blobs/data").await.unwrap();
        bucket.begin("some/where/other/data").await.unwrap();
        driver
            .put(&path("/other/startedat"), "x".into(), Durability::Machine)
            .await
            .unwrap();
        bucket.begin("elsewhere/data").await.unwrap();
        // The server says that all uploads were begun years ago.
        let ages = Duration::from_secs(50 * 365 * 24 * 3600);
        assert_eq!(driver.remove_leftovers(ages).await.unwrap(), 0);
        // What somebody goes on with stays, and what another registry may go on with.
        assert_eq!(driver.remove_leftovers(Duration::ZERO).await.unwrap(), 2);
        let mode = WriteMode::Append { at: 8 * MIB as u64 };
        write(&driver, mode, content(5 * MIB))
            .await
            .commit()
            .await
            .unwrap();
        let keys = bucket.signed.open_uploads("").await.unwrap();
        let keys: Vec<_> = keys.iter().map(|upload| upload.key.as_str()).collect();
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert!(keys.contains(&"elsewhere/data") && keys.contains(&"some/where/other/data"));
    });
}

#[test]
fn long_files_are_moved_part_by_part() {
    crate::testing::block_on(async {
        let driver = Server::with_bucket().await.driver();
        // At the threshold, above it, and with a rest that is no part by itself.
        for size in [8 * MIB, 8 * MIB + 1, 21 * MIB] {
            let whole = content(size);
            write(&driver, WriteMode::Create, whole.clone())
                .await
                .commit()
                .await
                .unwrap();
            driver
                .rename(&path("/up/data"), &path("/blobs/data"))
                .await
                .unwrap();
            assert!(driver.get(&path("/blobs/data")).await.unwrap() == whole);
            assert_eq!(
                all(&driver).await,
                (vec!["some/where/blobs/data".to_owned()], 0)
            );
        }
    });
}

#[test]
fn a_redirect_gives_the_content_without_credentials() {
    crate::testing::block_on(async {
        let driver = Server::with_bucket().await.driver();
        let file = path("/file");
        driver
            .put(&file, "content".into(), Durability::Machine)
            .await
            .unwrap();
        let request = |method| RedirectRequest {
            path: &file,
            method,
            content_type: "application/octet-stream",
            client: None,
        };
        let url = driver.redirect_url(request("GET")).await.unwrap().unwrap();
        assert!(
            url.contains("X-Amz-Expires=1200") && url.contains("X-Amz-Signature="),
            "{url}"
        );
        let got = client().get(url).send().await.unwrap();
        assert_eq!(got.headers()["content-type"], "application/octet-stream");
        assert_eq!(got.bytes().await.unwrap(), "content");
        let url = driver.redirect_url(request("HEAD")).await.unwrap().unwrap();
        let got = client().head(url).send().await.unwrap();
        assert_eq!(got.headers()["content-length"], "7");
        assert_eq!(driver.redirect_url(request("PUT")).await.unwrap(), None);
    });
}

#[test]
fn what_each_object_is_to_have_is_told_to_the_store() {
    crate::testing::block_on(async {
        let server = Server::with_bucket().await;
        let options = S3Options {
            encryption: Some(S3Encryption::Store),
            storage_class: Some("STANDARD_IA".to_owned()),
            acl: Some("public-read".to_owned()),
            ..server.options()
        };
        let driver = ObjectDriver::s3(&options, client()).unwrap();
        driver
            .put(&path("/small"), "x".into(), Durability::Machine)
            .await
            .unwrap();
        for size in [9 * MIB, 2] {
            write(&driver, WriteMode::Create, content(size))
                .await
                .commit()
                .await
                .unwrap();
            let to = path(&format!("/moved/{size}"));
            driver.rename(&path("/up/data"), &to).await.unwrap();
        }
        for name in ["small", "moved/2", &format!("moved/{}", 9 * MIB)] {
            // Nobody's request: the access list lets everybody read it.
            let url = format!(
                "http://{}/{}/some/where/{name}",
                server.address, server.bucket
            );
            let answer = client().head(url).send().await.unwrap();
            assert!(answer.status().is_success(), "{name}: {answer:?}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap();
            assert_eq!(header("x-amz-storage-class"), "STANDARD_IA", "{name}");
            assert_eq!(header("x-amz-server-side-encryption"), "AES256", "{name}");
            assert_eq!(header("content-type"), "application/octet-stream", "{name}");
        }
    });
}

#[test]
fn listings_are_in_the_order_of_names_whatever_the_order_of_keys() {
    crate::testing::block_on(async {
        let driver = Server::with_bucket().await.driver();
        let model = crate::MemoryDriver::new();
        // Folders whose names begin others' names, which keys have in another order.
        let names = [
            "1", "1-a", "1-b", "1.0", "1.0-a", "1.0.1", "1.0.1-a", "10", "a", "a-", "b.c",
        ];
        for name in names {
            for file in [format!("/t/{name}/link"), format!("/t/{name}/x/y")] {
                for driver in [&driver as &dyn Driver, &model] {
                    let durability = Durability::Machine;
                    driver
                        .put(&path(&file), "".into(), durability)
                        .await
                        .unwrap();
                }
            }
        }
        for after in [None]
            .into_iter()
            .chain(names.map(Some))
            .chain([Some("1.0.0")])
        {
            for limit in [None, Some(1), Some(2), Some(3), Some(7)] {
                let listed = driver.list(&path("/t"), after, limit).await.unwrap();
                let expected = model.list(&path("/t"), after, limit).await.unwrap();
                assert_eq!(listed, expected, "behind {after:?}, {limit:?}");
            }
        }
    });
}

#[test]
fn a_bucket_that_is_not_there_is_told() {
    crate::testing::block_on(async {
        let server = Server::start();
        let driver = server.driver();
        let error = driver.check().await.unwrap_err().to_string();
        assert!(error.contains("NoSuchBucket"), "{error}");
        let error = driver.get(&path("/file")).await.unwrap_err();
        assert!(
            !error.is_not_found() && error.to_string().contains("NoSuchBucket"),
            "{error}"
        );
    });
}
