//! Azure's protocol, as Azurite serves it.

use super::*;

const ACCOUNT: &str = "wharfinger";

/// `a secret of the tests`, in the form that keys of accounts have.
const KEY: &str = "YSBzZWNyZXQgb2YgdGhlIHRlc3Rz";

/// What that key signed: anything may be done in the account until the year 2199.
const SAS: &str = "sv=2020-10-02&ss=b&srt=sco&sp=rwdlac&se=2199-01-01T00%3A00%3A00Z\
                   &sig=19p0pV8a1iWnZV1Rm7TfAykmNt2ERqrr4qMytf5yKfs%3D";

/// Azurite, and a container in it.
struct Azurite {
    address: SocketAddr,
    container: String,
}

impl Azurite {
    fn without_container() -> Self {
        static SHARED: OnceLock<(SocketAddr, Child)> = OnceLock::new();
        let (address, _) = SHARED.get_or_init(|| {
            let program = "azurite/node_modules/azurite/dist/src/blob/main.js";
            let program = target_folder().join(program);
            assert!(
                program.is_file(),
                "{} is missing: `cargo xtask test --only packages` installs it",
                program.display()
            );
            // A shell ends it when the test process ends, and with it what the shell reads from.
            let script = "node \"$@\" <&- & read -r _; kill $!";
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).arg(program);
            command.args(["--inMemoryPersistence", "--disableTelemetry", "--silent"]);
            command.args(["--blobHost", "127.0.0.1", "--blobPort", "0"]);
            command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines();
            let listening = said.map_while(Result::ok).find_map(|line| {
                let (_, address) = line.split_once("listens on http://")?;
                address.trim().parse().ok()
            });
            (listening.expect("the server starts"), child)
        });
        Self {
            address: *address,
            container: format!("registry-{}", uuid::Uuid::new_v4().simple()),
        }
    }

    fn service(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.address)
    }

    fn options(&self) -> AzureOptions {
        AzureOptions {
            account: ACCOUNT.to_owned(),
            service: self.service(),
            container: self.container.clone(),
            root: "some/where".to_owned(),
            credentials: AzureCredentials::SharedKey(KEY.to_owned()),
            part: PART as u64,
            copy_polls: 5,
            copy_delay: Duration::from_millis(100),
            retries: Retries {
                most: 3,
                within: Duration::from_secs(20),
            },
        }
    }

    /// Asks for something of the container by the token.
    async fn ask(&self, method: http::Method, what: &str) -> String {
        let address = format!("{}/{}?{what}&{SAS}", self.service(), self.container);
        let request = client().request(method, address);
        let answer = request.header("content-length", "0").send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.text().await.unwrap()
    }
}

impl Server for Azurite {
    async fn start() -> Self {
        let server = Self::without_container();
        server.ask(http::Method::PUT, "restype=container").await;
        server
    }

    fn driver(&self) -> ObjectDriver {
        ObjectDriver::azure(&self.options(), client()).unwrap()
    }

    /// How many names there are under which there is nothing but blocks.
    async fn open_uploads(&self) -> usize {
        let what = "restype=container&comp=list&include=uncommittedblobs&prefix=some/where/";
        let listed = self.ask(http::Method::GET, what).await;
        let names = listed.split("<Name>").skip(1);
        names.filter(|name| name.contains("!blocks-")).count()
    }
}

driver_tests!(Azurite);

/// A token does whatever a key does, but does not go to clients.
#[test]
fn a_token_is_as_good_as_a_key() {
    crate::testing::block_on(async {
        let server = Azurite::start().await;
        let options = AzureOptions {
            credentials: AzureCredentials::Sas(format!("?{SAS}")),
            ..server.options()
        };
        let driver = ObjectDriver::azure(&options, client()).unwrap();
        let whole = content(12 * MIB);
        let writer = write(&driver, WriteMode::Create, whole.slice(..7 * MIB)).await;
        writer.close().await.unwrap();
        let mode = WriteMode::Append { at: 7 * MIB as u64 };
        let writer = write(&driver, mode, whole.slice(7 * MIB..)).await;
        writer.commit().await.unwrap();
        let moved = path("/blobs/data");
        driver.rename(&path("/up/data"), &moved).await.unwrap();
        assert!(driver.get(&moved).await.unwrap() == whole);
        let request = RedirectRequest {
            path: &moved,
            method: "GET",
            content_type: "application/octet-stream",
            client: None,
        };
        assert_eq!(driver.redirect_url(request).await.unwrap(), None);
        driver.delete(&path("/blobs")).await.unwrap();
        assert_eq!(all(&server).await, (vec![], 0));
    });
}

#[test]
fn a_redirect_gives_the_content_without_credentials() {
    crate::testing::block_on(async {
        let server = Azurite::start().await;
        let driver = server.driver();
        let file = path("/file");
        let durability = Durability::Machine;
        driver
            .put(&file, "content".into(), durability)
            .await
            .unwrap();
        let request = |path, method| RedirectRequest {
            path,
            method,
            content_type: "application/octet-stream",
            client: None,
        };
        for method in ["GET", "HEAD"] {
            let url = driver.redirect_url(request(&file, method)).await.unwrap();
            let url = url.unwrap();
            let (_, query) = url.split_once('?').unwrap();
            assert!(query.split('&').any(|pair| pair == "sp=r"), "{url}");
            let method = method.parse().unwrap();
            let got = client().request(method, url).send().await.unwrap();
            assert_eq!(got.status(), 200, "{got:?}");
            assert_eq!(got.headers()["content-type"], "application/octet-stream");
            assert_eq!(got.headers()["content-length"], "7");
        }
        let put = driver.redirect_url(request(&file, "PUT")).await.unwrap();
        assert_eq!(put, None);
        // What would be signed otherwise than Azure reads it is not signed.
        let options = AzureOptions {
            root: "some where".to_owned(),
            ..server.options()
        };
        let driver = ObjectDriver::azure(&options, client()).unwrap();
        let got = driver.redirect_url(request(&file, "GET")).await.unwrap();
        assert_eq!(got, None);
    });
}

#[test]
fn a_container_that_is_not_there_is_told() {
    crate::testing::block_on(async {
        let driver = Azurite::without_container().driver();
        let error = driver.check().await.unwrap_err().to_string();
        assert!(error.contains("ContainerNotFound"), "{error}");
        let error = driver.get(&path("/file")).await.unwrap_err();
        let text = error.to_string();
        assert!(!error.is_not_found() && text.contains("ContainerNotFound"));
        assert!(!text.contains("RequestId"), "{text}");
    });
}

/// Distribution 3 writes append blobs.
#[test]
fn append_blobs_are_read_moved_and_replaced() {
    crate::testing::block_on(async {
        let server = Azurite::start().await;
        for name in ["link", "data"] {
            let blob = format!(
                "{}/{}/some/where/{name}",
                server.service(),
                server.container
            );
            let made = client().put(format!("{blob}?{SAS}"));
            let made = made.header("x-ms-blob-type", "AppendBlob");
            let made = made.header("content-length", "0").send().await.unwrap();
            assert_eq!(made.status(), 201);
            let appended = client().put(format!("{blob}?comp=appendblock&{SAS}"));
            let appended = appended.body("appended").send().await.unwrap();
            assert_eq!(appended.status(), 201);
        }
        let driver = server.driver();
        assert_eq!(driver.get(&path("/link")).await.unwrap(), "appended");
        let stat = driver.stat(&path("/data")).await.unwrap();
        assert_eq!((stat.size, stat.is_dir), (8, false));
        let durability = Durability::Machine;
        driver
            .put(&path("/link"), "put".into(), durability)
            .await
            .unwrap();
        assert_eq!(driver.get(&path("/link")).await.unwrap(), "put");
        driver
            .rename(&path("/data"), &path("/moved"))
            .await
            .unwrap();
        let mode = WriteMode::Append { at: 5 };
        let mut writer = driver.writer(&path("/moved"), mode).await.unwrap();
        writer.write(vec!["ed".into()]).await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(driver.get(&path("/moved")).await.unwrap(), "appened");
    });
}
