//! What the tests of the server share: a running server, and a client that speaks HTTP/1.1 over
//! a bare socket, so that it can say whatever a client could say.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharfinger_oci::{Algorithm, Digest, media_type};
use wharfinger_proxy::Upstreams;
use wharfinger_registry::{Options as RegistryOptions, Registry, layout};
pub use wharfinger_server::Options;
use wharfinger_server::{Listener, Server};
use wharfinger_storage::{Driver, FilesystemDriver, FilesystemOptions, MemoryDriver};

pub mod client;

pub use client::{Connection, Reply, Request};

/// Where a server under test keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    Folder,
}

impl Store {
    pub const ALL: [Self; 2] = [Self::Memory, Self::Folder];
}

/// A server on a free port of the loopback interface. Dropping it stops it.
pub struct Running {
    pub address: SocketAddr,
    pub registry: Registry,
    pub server: Server,
    pub driver: Arc<dyn Driver>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    _folder: Option<TempDir>,
}

/// A registry that allows deletion.
pub fn deleting() -> RegistryOptions {
    RegistryOptions {
        delete: true,
        ..RegistryOptions::default()
    }
}

/// Options of a server that logs nothing, as most tests want it.
pub fn quiet() -> Options {
    Options {
        access_log: false,
        ..Options::default()
    }
}

/// A server over memory that allows deletion.
pub async fn server() -> Running {
    Running::start(Store::Memory, deleting(), quiet()).await
}

impl Running {
    pub async fn start(store: Store, registry: RegistryOptions, options: Options) -> Self {
        let (driver, folder): (Arc<dyn Driver>, _) = match store {
            Store::Memory => (Arc::new(MemoryDriver::new()), None),
            Store::Folder => {
                let folder = TempDir::new().unwrap();
                let driver = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
                (Arc::new(driver), Some(folder))
            }
        };
        let mut running = Self::over(driver, registry, options).await;
        running._folder = folder;
        running
    }

    /// A server over a store that may have content already.
    pub async fn over(
        driver: Arc<dyn Driver>,
        registry: RegistryOptions,
        options: Options,
    ) -> Self {
        let registry = Registry::new(Arc::clone(&driver), registry).unwrap();
        Self::of(driver, registry.clone(), Server::new(registry, options)).await
    }

    /// A server that is a cache.
    pub async fn caching(
        driver: Arc<dyn Driver>,
        registry: RegistryOptions,
        options: Options,
        upstreams: impl FnOnce(&Registry) -> Upstreams,
    ) -> Self {
        let registry = Registry::new(Arc::clone(&driver), registry).unwrap();
        let upstreams = upstreams(&registry);
        let server = Server::caching(registry.clone(), upstreams, options);
        Self::of(driver, registry, server).await
    }

    async fn of(driver: Arc<dyn Driver>, registry: Registry, server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::try_from(listener).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.clone().serve(listener, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            registry,
            server,
            driver,
            stop: Some(stop),
            serving: Some(serving),
            _folder: None,
        }
    }

    /// Tells the server to stop, and gives what ends when it has.
    pub fn stop(&mut self) -> JoinHandle<()> {
        drop(self.stop.take());
        self.serving.take().unwrap()
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Sends a request over a connection of its own.
    pub async fn send(&self, request: Request) -> Reply {
        self.connect().await.send(&request).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path)).await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.send(Request::new("HEAD", path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Request::new("DELETE", path)).await
    }

    /// How many uploads of a repository have left something behind.
    pub async fn uploads_left(&self, name: &str) -> usize {
        let folder = layout::uploads(&name.parse().unwrap());
        match self.driver.list(&folder, None, None).await {
            Ok(entries) => entries.len(),
            Err(error) if error.is_not_found() => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens an upload and gives its location.
    pub async fn open_upload(&self, name: &str) -> String {
        let reply = self
            .send(Request::post(&format!("/v2/{name}/blobs/uploads/")))
            .await;
        assert_eq!(reply.status, 202, "{reply:?}");
        reply.location()
    }

    /// Pushes a blob in one request.
    pub async fn push_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::canonical(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let reply = self.send(Request::post(&path).body(content)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        digest
    }

    /// Pushes a manifest under a tag or a digest.
    pub async fn push_manifest(&self, name: &str, reference: &str, manifest: &Content) -> Reply {
        let path = format!("/v2/{name}/manifests/{reference}");
        let request = Request::put(&path)
            .header("content-type", manifest.media_type)
            .body(&manifest.bytes);
        self.send(request).await
    }

    /// Pushes an image with a config and a layer that no other seed has, under a tag.
    pub async fn push_image(&self, name: &str, tag: &str, seed: u64) -> Content {
        let image = self.image(name, seed, "").await;
        let reply = self.push_manifest(name, tag, &image).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        image
    }

    /// A manifest whose config and layer have been pushed; `extra` are further fields, led by a
    /// comma.
    pub async fn image(&self, name: &str, seed: u64, extra: &str) -> Content {
        let config = format!("{{\"seed\":{seed}}}").into_bytes();
        let layer = random(seed, 500);
        self.push_blob(name, &config).await;
        self.push_blob(name, &layer).await;
        image_of(&config, &[&layer], extra)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

/// A manifest on its way.
#[derive(Clone, Debug)]
pub struct Content {
    pub media_type: &'static str,
    pub bytes: Bytes,
}

impl Content {
    pub fn new(media_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self {
            media_type,
            bytes: bytes.into(),
        }
    }

    pub fn digest(&self) -> Digest {
        Digest::canonical(&self.bytes)
    }

    pub fn sha512(&self) -> Digest {
        Digest::of(Algorithm::Sha512, &self.bytes)
    }

    /// The manifest's descriptor as JSON.
    pub fn descriptor(&self) -> String {
        descriptor(self.media_type, &self.bytes)
    }
}

/// A descriptor as JSON.
pub fn descriptor(media_type: &str, content: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
        Digest::canonical(content),
        content.len()
    )
}

/// An OCI image manifest; `extra` are further fields, led by a comma.
pub fn image_of(config: &[u8], layers: &[&[u8]], extra: &str) -> Content {
    let layers: Vec<String> = layers
        .iter()
        .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer))
        .collect();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]{extra}}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", config),
        layers.join(","),
    );
    Content::new(media_type::OCI_IMAGE_MANIFEST, text)
}

/// An OCI index of manifests; `extra` are further fields, led by a comma.
pub fn index_of(manifests: &[&Content], extra: &str) -> Content {
    let manifests: Vec<String> = manifests.iter().map(|m| m.descriptor()).collect();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]{extra}}}"#,
        media_type::OCI_IMAGE_INDEX,
        manifests.join(",")
    );
    Content::new(media_type::OCI_IMAGE_INDEX, text)
}

/// Bytes without a pattern, the same for the same seed.
pub fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// `text` as it may stand in a query.
pub fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
