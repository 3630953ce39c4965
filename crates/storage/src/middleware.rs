//! What stands around a driver and says where clients are sent, as CNCF Distribution's storage
//! middleware does.

mod cloudfront;
mod redirect;
mod rewrite;
mod url;

use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::cloudfront::{AmazonRanges, CloudFront, InvalidKey};
pub use self::redirect::Redirect;
pub use self::rewrite::Rewrite;
pub use self::url::InvalidUrl;
use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Errand, Fetch, Listing, Reader,
    RedirectRequest, Result, Stat, Steps, StoragePath, WriteMode, Writer,
};

/// Decides where clients are sent.
#[async_trait]
pub trait Middleware: Debug + Send + Sync + 'static {
    /// Where this request is served instead of here, or `None` where it is not; `below` is the
    /// driver that it stands around.
    ///
    /// # Errors
    /// Any that signing meets.
    async fn redirect_url(
        &self,
        below: &dyn Driver,
        request: RedirectRequest<'_>,
    ) -> Result<Option<String>>;
}

/// Passes every call on to a driver, but lets a middleware decide where clients are sent.
#[derive(Clone, Debug)]
pub struct MiddlewareDriver {
    driver: Arc<dyn Driver>,
    middleware: Arc<dyn Middleware>,
}

impl MiddlewareDriver {
    /// Puts `middleware` around `driver`.
    pub fn new(driver: Arc<dyn Driver>, middleware: impl Middleware) -> Self {
        Self {
            driver,
            middleware: Arc::new(middleware),
        }
    }
}

#[async_trait]
impl Driver for MiddlewareDriver {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    fn has_only_objects(&self) -> bool {
        self.driver.has_only_objects()
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        self.driver.get(path)
    }

    async fn put(&self, path: &StoragePath, content: Bytes, durability: Durability) -> Result<()> {
        self.driver.put(path, content, durability).await
    }

    async fn put_all(&self, steps: Steps) -> Result<()> {
        self.driver.put_all(steps).await
    }

    async fn move_and_put_all(
        &self,
        from: &StoragePath,
        to: &StoragePath,
        steps: Steps,
    ) -> Result<()> {
        self.driver.move_and_put_all(from, to, steps).await
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        self.driver.reader(path, offset).await
    }

    async fn range_reader(&self, path: &StoragePath, range: Range<u64>) -> Result<Reader> {
        self.driver.range_reader(path, range).await
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        self.driver.open(path).await
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        self.driver.writer(path, mode).await
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        self.driver.stat(path).await
    }

    async fn file_size(&self, path: &StoragePath) -> Result<u64> {
        self.driver.file_size(path).await
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        self.driver.list(path, after, limit).await
    }

    async fn list_each(&self, paths: &[StoragePath]) -> Result<Vec<Option<Listing>>> {
        self.driver.list_each(paths).await
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        self.driver.rename(from, to).await
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        self.driver.delete(path).await
    }

    async fn discard(&self, path: &StoragePath) -> Result<()> {
        self.driver.discard(path).await
    }

    async fn discard_file(&self, path: &StoragePath) -> Result<()> {
        self.driver.discard_file(path).await
    }

    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        self.driver.claim(claim)
    }

    fn errand(&self) -> Option<Errand> {
        self.driver.errand()
    }

    async fn check(&self) -> Result<()> {
        self.driver.check().await
    }

    async fn settled(&self) {
        self.driver.settled().await;
    }

    async fn remove_empty(&self, path: &StoragePath) -> Result<bool> {
        self.driver.remove_empty(path).await
    }

    async fn remove_leftovers(&self, older_than: Duration) -> Result<u64> {
        self.driver.remove_leftovers(older_than).await
    }

    async fn redirect_url(&self, request: RedirectRequest<'_>) -> Result<Option<String>> {
        self.middleware.redirect_url(&*self.driver, request).await
    }

    fn may_redirect(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDriver;

    crate::contract_tests!((
        MiddlewareDriver::new(
            Arc::new(MemoryDriver::new()),
            Redirect::new("https://store.example").unwrap(),
        ),
        ()
    ));

    #[tokio::test]
    async fn the_last_one_is_asked_first() {
        let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
        let path: StoragePath = "/docker/a".parse().unwrap();
        let request = RedirectRequest {
            path: &path,
            method: "GET",
            content_type: "text/plain",
            client: None,
        };
        let rewrite = || Rewrite::new("", "other.example:1", "/x");
        let redirect = || Redirect::new("https://one.example/x").unwrap();
        let around = |first: Arc<dyn Driver>| Arc::new(MiddlewareDriver::new(first, rewrite()));
        let inner = Arc::new(MiddlewareDriver::new(Arc::clone(&driver), redirect()));
        let url = around(inner).redirect_url(request.clone()).await.unwrap();
        assert_eq!(url.as_deref(), Some("https://other.example:1/docker/a"));
        // Nobody is sent anywhere by what only changes an address.
        let alone = around(driver);
        assert_eq!(alone.redirect_url(request.clone()).await.unwrap(), None);
        let last = MiddlewareDriver::new(alone, redirect());
        let url = last.redirect_url(request).await.unwrap();
        assert_eq!(url.as_deref(), Some("https://one.example/x/docker/a"));
    }
}
