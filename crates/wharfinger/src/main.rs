//! Wharfinger: a container registry. (interim)
use std::sync::Arc;
use wharfinger_registry::{Options, Registry, Validation};
use wharfinger_storage::{FilesystemDriver, FilesystemOptions};
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into());
    let root = std::env::args().nth(2).unwrap_or("wharfinger-data".into());
    let sparse = std::env::args().nth(3).is_some();
    let driver = Arc::new(FilesystemDriver::new(FilesystemOptions::new(root)).unwrap());
    let registry = Registry::new(
        driver,
        Options {
            delete: true,
            validation: Validation {
                sparse,
                ..Default::default()
            },
            ..Options::default()
        },
    )
    .unwrap();
    let listener = tokio::net::TcpListener::bind(&addr).await.unwrap();
    println!("listening on {addr}");
    wharfinger_server::Server::new(
        registry,
        wharfinger_server::Options {
            http2_cleartext: true,
            ..Default::default()
        },
    )
    .serve(listener, async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await;
}
