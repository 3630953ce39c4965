//! Google's XML API, as `tests/servers/gcs.py` serves it, which tells what it is.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::path::Path;
use object_store::{Attribute, Attributes, PutOptions};
use tempfile::TempDir;

use super::*;

/// The server, and a bucket in it.
struct Google {
    address: String,
    bucket: String,
    /// The file with the key of a service account.
    key: PathBuf,
}

impl Google {
    fn without_bucket() -> Self {
        static SHARED: OnceLock<(SocketAddr, TempDir, Child)> = OnceLock::new();
        let (address, folder, _) = SHARED.get_or_init(|| {
            let python = target_folder().join("moto/bin/python");
            let program =
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/gcs.py");
            let folder = tempfile::tempdir().unwrap();
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            // It ends when the test process does, and with it what the server reads from.
            let mut command = Command::new(&python);
            command.arg(program).arg(address.port().to_string());
            command.arg(folder.path()).arg("attended");
            command.stdin(Stdio::piped());
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.unwrap_or_else(|error| {
                let python = python.display();
                panic!("{python}: {error} (`cargo xtask test --only packages` installs it)")
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            while TcpStream::connect(address).is_err() {
                assert!(child.try_wait().unwrap().is_none(), "the server has ended");
                assert!(Instant::now() < deadline, "the server does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            (address, folder, child)
        });
        Self {
            address: format!("http://{address}"),
            bucket: format!("registry-{}", uuid::Uuid::new_v4().simple()),
            key: folder.path().join("key.json"),
        }
    }

    /// Makes the bucket, as somebody whom the metadata service knows.
    async fn make_bucket(&self) {
        let service = "computeMetadata/v1/instance/service-accounts/default/token";
        let token = client().get(format!("{}/{service}", self.address));
        let token = token.header("Metadata-Flavor", "Google").send().await;
        let token = token.unwrap().bytes().await.unwrap();
        let token: serde_json::Value = serde_json::from_slice(&token).unwrap();
        let bucket = client().put(format!("{}/{}", self.address, self.bucket));
        let made = bucket.bearer_auth(token["access_token"].as_str().unwrap());
        let made = made.send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
    }

    fn driver_of(&self, credentials: GcsCredentials) -> ObjectDriver {
        let options = GcsOptions {
            bucket: self.bucket.clone(),
            endpoint: Some(self.address.clone()),
            root: "some/where".to_owned(),
            credentials,
            part: PART as u64,
            concurrency: 25,
            retries: Retries {
                most: 3,
                within: Duration::from_secs(20),
            },
        };
        ObjectDriver::gcs(&options, client()).unwrap()
    }
}

impl Server for Google {
    async fn start() -> Self {
        let server = Self::without_bucket();
        server.make_bucket().await;
        server
    }

    fn driver(&self) -> ObjectDriver {
        self.driver_of(GcsCredentials::in_file(&self.key).unwrap())
    }

    async fn open_uploads(&self) -> usize {
        let driver = self.driver();
        let open = driver.0.bucket.open_uploads("some/where/").await;
        open.unwrap().len()
    }
}

driver_tests!(Google);

#[test]
fn leftovers_are_multipart_uploads_that_nobody_needs() {
    crate::testing::block_on(suite::leftovers_are_multipart_uploads_that_nobody_needs::<
        Google,
    >());
}

#[test]
fn a_bucket_that_is_not_there_is_told() {
    crate::testing::block_on(async {
        let driver = Google::without_bucket().driver();
        let error = driver.check().await.unwrap_err().to_string();
        assert!(error.contains("NoSuchBucket"), "{error}");
        let error = driver.get(&path("/file")).await.unwrap_err();
        assert!(!error.is_not_found(), "{error}");
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    });
}

#[test]
fn an_unfinished_upload_of_distributions_is_no_file() {
    crate::testing::block_on(async {
        let server = Google::start().await;
        let driver = server.driver();
        let upload = path("/r/_uploads/1/data");
        let key = Path::from("some/where/r/_uploads/1/data");
        let session = |kind: &'static str| {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::ContentType, kind.into());
            PutOptions::from(attributes)
        };
        let objects = driver.0.bucket.store.objects();
        let put = objects.put_opts(
            &key,
            "the end".into(),
            session("application/x-docker-upload-session"),
        );
        put.await.unwrap();

        assert!(driver.get(&upload).await.unwrap_err().is_not_found());
        assert!(driver.stat(&upload).await.unwrap_err().is_not_found());
        assert!(driver.file_size(&upload).await.unwrap_err().is_not_found());
        for offset in [0, 3, 7, 100] {
            let read = driver.reader(&upload, offset).await;
            assert!(read.err().unwrap().is_not_found(), "{offset}");
        }
        let append = WriteMode::Append { at: 7 };
        let error = driver.writer(&upload, append).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        let renamed = driver.rename(&upload, &path("/blob")).await;
        assert!(renamed.unwrap_err().is_not_found());
        let listed = driver.list(&path("/r/_uploads/1"), None, None).await;
        assert_eq!(listed.unwrap(), []);

        // Purging takes it away with its folder.
        driver.delete(&path("/r/_uploads/1")).await.unwrap();
        assert_eq!(all(&server).await, (vec![], 0));

        // The same as a file.
        let file = "application/octet-stream";
        let put = objects.put_opts(&key, "the end".into(), session(file));
        put.await.unwrap();
        assert_eq!(driver.stat(&upload).await.unwrap().size, 7);
        assert_eq!(driver.get(&upload).await.unwrap(), "the end");
    });
}

#[test]
fn a_key_in_the_configuration_is_as_good_as_one_in_a_file() {
    crate::testing::block_on(async {
        let server = Google::start().await;
        let key = std::fs::read(&server.key).unwrap();
        let key: BTreeMap<String, String> = serde_json::from_slice(&key).unwrap();
        let mut values: BTreeMap<&str, &str> = key
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let credentials = GcsCredentials::inline(&values).unwrap();
        assert_eq!(format!("{credentials:?}"), "ServiceAccount");
        let driver = server.driver_of(credentials);
        driver.check().await.unwrap();

        // The token tells who asks.
        values.insert("client_email", "somebody@else");
        let driver = server.driver_of(GcsCredentials::inline(&values).unwrap());
        assert!(driver.check().await.unwrap_err().is_refused());
    });
}

#[test]
fn nobody_is_let_in_only_where_everybody_is() {
    crate::testing::block_on(async {
        let mut server = Google::without_bucket();
        server.bucket = format!("open-{}", server.bucket);
        server.make_bucket().await;
        let driver = server.driver_of(GcsCredentials::Nobody);
        driver.check().await.unwrap();
        write(&driver, WriteMode::Create, content(8 * MIB))
            .await
            .close()
            .await
            .unwrap();
        assert_eq!(all(&server).await.1, 1);
        // Nobody can sign.
        let request = RedirectRequest {
            path: &path("/file"),
            method: "GET",
            content_type: "application/octet-stream",
            client: None,
        };
        assert_eq!(driver.redirect_url(request).await.unwrap(), None);

        let other = Google::start().await;
        let driver = other.driver_of(GcsCredentials::Nobody);
        let error = driver.check().await.unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(
            error.to_string().contains("AuthenticationRequired"),
            "{error}"
        );
    });
}

#[test]
fn a_signed_address_is_for_one_method_and_one_object() {
    crate::testing::block_on(async {
        let driver = Google::start().await.driver();
        for name in ["/a", "/b"] {
            let durability = Durability::Machine;
            driver
                .put(&path(name), name.into(), durability)
                .await
                .unwrap();
        }
        let request = RedirectRequest {
            path: &path("/a"),
            method: "GET",
            content_type: "application/octet-stream",
            client: None,
        };
        let url = driver.redirect_url(request).await.unwrap().unwrap();
        let status = async |request: reqwest::RequestBuilder| {
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(status(client().get(&url)).await, 200);
        assert_eq!(status(client().head(&url)).await, 403);
        let other = url.replacen("/a?", "/b?", 1);
        assert_eq!(status(client().get(other)).await, 403);
    });
}

/// Answers each request that nothing is there, after a while; gives how many it had at once at the
/// most.
fn slow_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let seen = Arc::clone(&most);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = connection.read(&mut head);
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
                now.fetch_sub(1, Ordering::SeqCst);
                let answer = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n";
                let _ = connection.write_all(answer);
            });
        }
    });
    (address, seen)
}

#[test]
fn no_more_requests_are_at_work_at_once_than_may_be() {
    crate::testing::block_on(async {
        let (address, most) = slow_server();
        let mut server = Google::without_bucket();
        server.address = format!("http://{address}");
        let driver = server.driver_of(GcsCredentials::Nobody);
        let asked = (0..80).map(|number| {
            let (driver, file) = (driver.clone(), path(&format!("/{number}")));
            async move { driver.file_size(&file).await }
        });
        for answer in futures_util::future::join_all(asked).await {
            assert!(answer.unwrap_err().is_not_found());
        }
        let most = most.load(Ordering::SeqCst);
        assert!((2..=25).contains(&most), "{most}");
    });
}
