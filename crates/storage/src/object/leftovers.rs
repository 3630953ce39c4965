//! Multipart uploads that nobody will go on with.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::info;

use super::Shared;
use super::bucket::PAGE;
use super::failure::failed;
use super::keys::{UNFINISHED, parent, parse_unfinished};
use super::store::OpenUpload;
use super::unfinished::Unfinished;
use crate::{Result, StoragePath};

/// Gives up the multipart uploads that are older than `older_than` and that no unfinished file
/// needs; gives how many those were.
///
/// One whose folder holds other files may be an upload of another registry on the bucket, which
/// keeps no record of it: it stays as long as they do.
pub(super) async fn remove(shared: &Arc<Shared>, older_than: Duration) -> Result<u64> {
    let root = StoragePath::root();
    let failed = failed(&root, "look for leftovers");
    let Some(begun_before) = SystemTime::now().checked_sub(older_than) else {
        return Ok(0);
    };
    let open = shared.bucket.open_uploads(shared.keys.root()).await;
    let mut removed = 0;
    for upload in open.map_err(&failed)? {
        if upload.begun < begun_before && !is_needed(shared, &upload).await.map_err(&failed)? {
            let aborted = shared.bucket.abort(&upload.key, &upload.id).await;
            aborted.map_err(&failed)?;
            info!(
                key = upload.key,
                "a multipart upload that nobody goes on with was given up"
            );
            removed += 1;
        }
    }
    Ok(removed)
}

async fn is_needed(shared: &Shared, upload: &OpenUpload) -> object_store::Result<bool> {
    let kept = format!("{}{UNFINISHED}", upload.key);
    let mut listing = shared.bucket.list(&kept, None, false, PAGE);
    let page = listing.next().await?.unwrap_or_default();
    let mut any = false;
    for object in page.objects {
        let Some((_, size)) = parse_unfinished(&object.key) else {
            continue;
        };
        any = true;
        let bytes = shared.bucket.get_bytes(&object.key, None).await?;
        match Unfinished::decode(&bytes, size) {
            Ok(kept) if kept.header.upload != upload.id => {}
            _ => return Ok(true),
        }
    }
    if any {
        return Ok(false);
    }
    let folder = parent(&upload.key);
    let mut listing = shared.bucket.list(folder, None, false, 2);
    let page = listing.next().await?.unwrap_or_default();
    Ok(page.objects.iter().any(|object| object.key != upload.key))
}
