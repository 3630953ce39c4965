//! Azure Blob Storage: how a container is found and asked.
//!
//! Azure keeps the parts of an upload, its blocks, under the name of the blob that they are to be,
//! and drops all of them when a blob of that name is put, made or removed by anybody. So the blocks
//! of an upload are sent under a name of their own, and what becomes of them is copied to its place.
//! Two writers of one file cannot do each other harm that way, and an upload can be given up.

mod credentials;
mod signed;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::HttpClient;
use object_store::list::PaginatedListOptions;
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{Error, ObjectStoreExt as _, PutPayload, Result};
use tokio::time::sleep;
use tracing::debug;

pub use self::credentials::{AzureCredentials, AzureCredentialsError};
use self::signed::{CopyState, Signed};
use super::bucket::{Bucket, CopyOptions, Page};
use super::client::{Client, Retries};
use super::keys::UNFINISHED;
use super::requests::generic;
use super::store::{Objects, OpenUpload, Store, delete_together};

/// The store's name in errors.
const STORE: &str = "Azure";

/// How many parts of a file are copied at once.
const COPIED_AT_ONCE: usize = 4;

/// How many blobs are removed at once, one by one.
const DELETED_AT_ONCE: usize = 8;

/// What is to be known of a container.
#[derive(Clone, Debug)]
pub struct AzureOptions {
    /// The account's name.
    pub account: String,
    /// Where the account's blobs are: a scheme, a host and perhaps a path.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// The folder in the container below which everything is kept.
    pub root: String,
    /// Who asks.
    pub credentials: AzureCredentials,
    /// The size of the parts of large files in bytes.
    pub part: u64,
    /// How often it is looked whether a copy is done that Azure does not do at once.
    pub copy_polls: u32,
    /// How long is waited before the first of them; before the second it is twice as long.
    pub copy_delay: Duration,
    /// How often requests are tried.
    pub retries: Retries,
}

impl AzureOptions {
    /// The container, asked by `client`.
    pub(super) fn bucket(&self, client: reqwest::Client) -> Result<Bucket> {
        let client = Client {
            client,
            log: false,
            at_once: None,
        };
        let builder = MicrosoftAzureBuilder::new()
            .with_account(&self.account)
            .with_endpoint(self.service.clone())
            .with_container_name(&self.container)
            .with_retry(self.retries.config())
            .with_http_connector(client.clone());
        let store = self.credentials.give(builder).build()?;
        let signed = Signed::new(self, &store, HttpClient::new(client));
        let azure = Azure {
            can_delete_together: !self.credentials.are_a_token_in_addresses(),
            can_sign: !self.credentials.are_a_token_in_addresses()
                && self.is_signed_as_object_store_does(),
            store,
            signed,
            copy_polls: self.copy_polls,
            copy_delay: self.copy_delay,
        };
        Ok(Bucket {
            name: self.container.clone(),
            store: Box::new(azure),
            copying: CopyOptions {
                threshold: u64::MAX,
                part: self.part,
                concurrency: COPIED_AT_ONCE,
            },
            retries: self.retries,
        })
    }

    /// Whether the account's name is where `object_store` looks for it when it signs an address. It
    /// is not where a domain of one's own stands for the account.
    fn is_signed_as_object_store_does(&self) -> bool {
        let (_, place) = self.service.split_once("://").unwrap_or_default();
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        host.contains(&self.account) || path.trim_end_matches('/') == self.account
    }
}

/// A container of Azure's. It copies a range only from an address that anybody may read with what
/// stands in it, so that parts are not copied there.
#[derive(Debug)]
struct Azure {
    store: MicrosoftAzure,
    /// The requests that it does not have.
    signed: Signed,
    /// Whether addresses can be signed for others to use.
    can_sign: bool,
    /// Whether many blobs can be removed by one request.
    can_delete_together: bool,
    copy_polls: u32,
    copy_delay: Duration,
}

/// The name under which the blocks of an upload are sent.
fn blocks(key: &Path, upload: &str) -> Result<Path> {
    Ok(Path::parse(format!("{key}{UNFINISHED}{upload}"))?)
}

impl Azure {
    /// Removes a blob, whether it is there or not.
    async fn remove(&self, key: &Path) -> Result<()> {
        match self.signed.delete(key).await {
            Err(Error::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// Begins a copy. One that is already under way to the same place is waited for first: an
    /// answer may have been lost.
    async fn begin_copy(&self, from: &Path, to: &Path) -> Result<CopyState> {
        match self.signed.copy(from, to).await {
            Err(error) if says(&error, "PendingCopyOperation") => {
                self.copied(to).await?;
                self.signed.copy(from, to).await
            }
            begun => begun,
        }
    }

    /// Waits until the copy to a blob is done.
    async fn copied(&self, to: &Path) -> Result<()> {
        for turn in 1..=self.copy_polls {
            sleep(self.copy_delay * turn).await;
            match self.signed.copy_state(to).await? {
                CopyState::Done => return Ok(()),
                CopyState::Pending(_) => {}
                CopyState::Failed(reason) => {
                    // A blob of no bytes stands where the copy would have been.
                    self.remove(to).await?;
                    return Err(generic(STORE, format!("the copy failed: {reason}")));
                }
            }
        }
        if let CopyState::Pending(id) = self.signed.copy_state(to).await? {
            // When it comes to its end meanwhile, this fails, and nothing is lost but the time.
            self.signed.abort_copy(to, &id).await?;
            self.remove(to).await?;
            let reason = format!(
                "the copy was not done after {} looks at it, and was ended; storage.azure.max_retries \
                 and retry_delay say how long is waited",
                self.copy_polls
            );
            return Err(generic(STORE, reason));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Azure {
    fn objects(&self) -> &dyn Objects {
        &self.store
    }

    fn most_parts(&self) -> usize {
        50_000
    }

    /// `object_store` leaves out the blob whose name is the prefix itself.
    async fn list(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> Result<(Page, Option<String>)> {
        self.signed.list(prefix, &options).await
    }

    async fn put(&self, key: &Path, content: PutPayload) -> Result<()> {
        match self.store.put(key, content.clone()).await {
            // Distribution 3 makes append blobs of everything, and no blob changes its type.
            Err(error) if says(&error, "InvalidBlobType") => {
                self.remove(key).await?;
                self.store.put(key, content).await.map(drop)
            }
            put => put.map(drop),
        }
    }

    async fn delete(&self, keys: &[Path]) -> Result<()> {
        // Of tokens in addresses not every server takes many at once.
        if keys.len() > 1 && self.can_delete_together {
            return delete_together(&self.store, keys).await;
        }
        let deletions: Vec<_> = keys.iter().map(|key| self.remove(key)).collect();
        let mut deletions = stream::iter(deletions).buffer_unordered(DELETED_AT_ONCE);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        Ok(())
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let begun = match self.begin_copy(from, to).await {
            Err(error) if says(&error, "InvalidBlobType") => {
                self.remove(to).await?;
                self.begin_copy(from, to).await?
            }
            begun => begun?,
        };
        match begun {
            CopyState::Done => Ok(()),
            CopyState::Pending(_) | CopyState::Failed(_) => self.copied(to).await,
        }
    }

    async fn begin(&self, _key: &Path) -> Result<String> {
        Ok(format!("blocks-{}", uuid::Uuid::new_v4().simple()))
    }

    async fn put_part(
        &self,
        key: &Path,
        upload: &str,
        index: usize,
        content: PutPayload,
    ) -> Result<String> {
        let blocks = blocks(key, upload)?;
        let upload = upload.to_owned();
        let part = self.store.put_part(&blocks, &upload, index, content);
        Ok(part.await?.content_id)
    }

    async fn complete(&self, key: &Path, upload: &str, parts: Vec<String>) -> Result<()> {
        let blocks = blocks(key, upload)?;
        match self.signed.put_block_list(&blocks, &parts).await {
            Err(error) if says(&error, "InvalidBlockList") => {
                let path = blocks.to_string();
                let source = Box::new(error);
                return Err(Error::NotFound { path, source });
            }
            put => put?,
        }
        self.copy(&blocks, key).await?;
        if let Err(error) = self.remove(&blocks).await {
            debug!(%blocks, %error, "it stays until the upload's folder is removed");
        }
        Ok(())
    }

    async fn abort(&self, key: &Path, upload: &str) -> Result<()> {
        let blocks = blocks(key, upload)?;
        // Blocks that are in no list go, and then there is a blob that can be removed.
        self.signed.put_block_list(&blocks, &[]).await?;
        self.remove(&blocks).await
    }

    /// None: Azure drops blocks itself when a week has passed since the last of them came, and only
    /// a listing of all there is would tell of them.
    async fn open_uploads(&self, _prefix: &str) -> Result<Vec<OpenUpload>> {
        Ok(Vec::new())
    }

    async fn unsuitable(&self) -> Result<Option<&'static str>> {
        let reason = "its account has a hierarchical namespace, where folders stay when they are \
                      empty; an account without one is needed";
        Ok(self.signed.has_folders().await?.then_some(reason))
    }

    async fn presigned(
        &self,
        _method: http::Method,
        key: &Path,
        lasts: Duration,
    ) -> Result<Option<String>> {
        // `object_store` signs keys as they stand in an address, and Azure wants them as they are.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if !self.can_sign || !key.as_ref().chars().all(is_plain) {
            return Ok(None);
        }
        // What may be got may be asked for by HEAD too.
        let url = self.store.signed_url(http::Method::GET, key, lasts);
        Ok(Some(url.await?.to_string()))
    }
}

/// Whether an error is the store's with this code.
fn says(error: &Error, code: &str) -> bool {
    let mut cause = Some(error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if error.to_string().contains(code) {
            return true;
        }
        cause = error.source();
    }
    false
}
