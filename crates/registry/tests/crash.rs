//! Crashes and failures of the store at every step of every operation: what was acknowledged stays,
//! nothing is served that is not whole, and the operation can be done again.
//!
//! Each operation of the table below is a test of two: `power` runs it on a disk that loses what
//! was not synced, and cuts the power at each step; `faults` lets each call of the driver fail. A
//! new operation is a new line there.

#[path = "crash/check.rs"]
mod check;
#[path = "crash/client.rs"]
mod client;
#[path = "crash/content.rs"]
mod content;
#[path = "crash/faults.rs"]
mod faults;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/power.rs"]
mod power;
mod support;

use std::sync::Arc;
use std::time::Duration;

use check::check;
use client::Client;
use content::{huge, image, index, large, large_image, referrer, signed, small};
use wharfinger_oci::Algorithm::{Sha256, Sha512};
use wharfinger_registry::{Result, layout};
use wharfinger_storage::Driver;

/// Something that clients do, which may come in the middle of nothing else.
trait Operation {
    /// What they have done before.
    async fn prepare(&self, client: &Client) -> Result<()>;
    /// What they do. Done again after it was cut off, it must succeed.
    async fn run(&self, client: &Client) -> Result<()>;
}

/// After whatever has happened: the operation can be done again, then all of it is there, a
/// collection removes nothing of it, and no upload is left behind.
async fn recover(
    client: &Client,
    driver: &Arc<dyn Driver>,
    operation: &impl Operation,
    what: &str,
) {
    let ledger = &client.ledger;
    let check = async |what: &str| {
        check(&client.registry, driver, ledger, what).await;
    };
    let resumed = client.finish_uploads().await;
    resumed.unwrap_or_else(|error| panic!("{what}, then resuming: {error:?}"));
    let again = operation.run(client).await;
    again.unwrap_or_else(|error| panic!("{what}, then again: {error:?}"));
    check(&format!("{what}, then again")).await;
    let collected = client.collect(false).await;
    collected.unwrap_or_else(|error| panic!("{what}, then collecting: {error:?}"));
    check(&format!("{what}, then again, then collected")).await;
    let purged = client
        .registry
        .purge_uploads(Duration::ZERO, false)
        .await
        .unwrap();
    assert!(
        purged.kept == 0 && purged.failed.is_empty(),
        "{what}: {purged:?}"
    );
    for repository in ["a", "b"] {
        let uploads = layout::uploads(&support::name(repository));
        let left = driver.list(&uploads, None, None).await;
        assert!(left.is_ok_and(|left| left.is_empty()) || driver.stat(&uploads).await.is_err());
    }
}

async fn does(work: impl AsyncFn(&Client) -> Result<()>, client: &Client) -> Result<()> {
    work(client).await
}

async fn nothing(_: &Client) -> Result<()> {
    Ok(())
}

/// Makes two tests of each operation: its name, what is there before it, and what it does.
macro_rules! operations {
    ($($name:ident: $prepare:expr, $run:expr;)*) => {
        $(mod $name {
            use super::*;

            struct This;

            impl Operation for This {
                async fn prepare(&self, client: &Client) -> Result<()> {
                    does($prepare, client).await
                }

                async fn run(&self, client: &Client) -> Result<()> {
                    does($run, client).await
                }
            }

            #[test]
            fn power() {
                power::cut_at_every_step(&This);
            }

            #[test]
            fn faults() {
                faults::fail_every_call(&This);
            }
        })*
    };
}

operations! {
    push_of_nothing: nothing, async |c| c.push("a", &bytes::Bytes::new()).await;
    push_small: nothing, async |c| c.push("a", &small()).await;
    push_large: nothing, async |c| c.push("a", &large()).await;
    push_huge: nothing, async |c| c.push("a", &huge()).await;
    push_small_that_is_there: async |c| c.push("b", &small()).await,
        async |c| c.push("a", &small()).await;
    push_large_that_is_there: async |c| c.push("b", &large()).await,
        async |c| c.push("a", &large()).await;
    push_small_under_sha512: nothing, async |c| c.push_under("a", &small(), Sha512).await;
    push_large_under_sha512: nothing, async |c| c.push_under("a", &large(), Sha512).await;
    push_under_a_wrong_digest: nothing, async |c| {
        c.push_wrong("a", &small()).await?;
        c.push_wrong("a", &large()).await
    };
    store_small: nothing, async |c| c.store("a", &small()).await;

    push_small_in_chunks: nothing, async |c| {
        c.push_in_chunks("a", &small(), &[0, 10, 2500], Sha256).await
    };
    push_large_in_chunks: nothing, async |c| {
        c.push_in_chunks("a", &large(), &[70_000, 70_003, 95_000], Sha256).await
    };
    push_large_in_chunks_of_which_the_first_is_small: nothing, async |c| {
        c.push_in_chunks("a", &large(), &[1000, 2000, 70_000, 70_100], Sha256).await
    };
    push_huge_in_chunks: nothing, async |c| {
        c.push_in_chunks("a", &huge(), &[40_000, 1_140_000], Sha256).await
    };
    push_in_chunks_what_is_there: async |c| c.push("b", &large()).await, async |c| {
        c.push_in_chunks("a", &large(), &[70_000], Sha256).await
    };
    push_in_chunks_under_another_algorithm: nothing, async |c| {
        c.push_in_chunks("a", &large(), &[70_000], Sha512).await
    };
    resume_what_another_process_began: async |c| {
        let id = c.open("a")?;
        c.patch("a", &id, &large(), 80_000).await
    }, async |c| c.finish_uploads().await;
    cancel: async |c| {
        for bytes in [small(), large()] {
            let id = c.open("a")?;
            c.patch("a", &id, &bytes, bytes.len() - 1).await?;
        }
        Ok(())
    }, async |c| {
        for (repository, id, _) in c.ledger.open_uploads() {
            c.cancel(repository, &id).await?;
        }
        Ok(())
    };

    mount: async |c| c.push("b", &large()).await,
        async |c| c.mount("a", "b", &large(), Sha256).await;
    mount_from_anywhere: async |c| c.push("b", &small()).await,
        async |c| c.mount("a", "", &small(), Sha256).await;
    mount_under_sha512: async |c| c.push_under("b", &small(), Sha512).await,
        async |c| c.mount("a", "b", &small(), Sha512).await;

    push_image: nothing, async |c| c.push_image("a", &large_image(4), &["latest"]).await;
    push_manifest_by_digest: async |c| c.push_image("a", &image(4), &[]).await,
        async |c| c.put("a", &index(&[&image(4)]), Sha256, &[]).await;
    push_manifest_under_new_tags: async |c| c.push_image("a", &image(4), &[]).await,
        async |c| c.put("a", &image(4).manifest, Sha256, &["1", "1.0", "latest"]).await;
    push_manifest_under_sha512: async |c| c.push_image("a", &image(4), &[]).await,
        async |c| c.put("a", &index(&[&image(4)]), Sha512, &["latest"]).await;
    move_tag: async |c| {
        c.push_image("a", &image(4), &["latest", "1"]).await?;
        c.push_image("a", &image(5), &[]).await
    }, async |c| c.put("a", &image(5).manifest, Sha256, &["latest"]).await;
    push_referrer: async |c| {
        c.push_image("a", &image(4), &["latest"]).await?;
        let signature = referrer(5, &image(4).manifest);
        c.push("a", &signature.config).await?;
        c.push("a", &signature.layer).await
    }, async |c| c.put("a", &referrer(5, &image(4).manifest).manifest, Sha256, &[]).await;
    push_signed: async |c| c.push("a", &small()).await,
        async |c| c.put("a", &signed(1), Sha256, &["old"]).await;
    push_signed_again: async |c| {
        c.push("a", &small()).await?;
        c.put("a", &signed(1), Sha256, &["old"]).await
    }, async |c| c.put("a", &signed(2), Sha256, &["old"]).await;

    delete_tag: async |c| c.push_image("a", &image(4), &["latest", "1"]).await,
        async |c| c.delete_tag("a", "latest").await;
    delete_manifest: async |c| {
        c.push_image("a", &image(4), &["latest", "1", "other"]).await?;
        c.push_image("a", &image(5), &["other"]).await
    }, async |c| c.delete_manifest("a", &image(4).manifest, Sha256).await;
    delete_manifest_under_sha512: async |c| {
        c.push_image("a", &image(4), &[]).await?;
        c.put("a", &index(&[&image(4)]), Sha512, &["latest"]).await
    }, async |c| c.delete_manifest("a", &index(&[&image(4)]), Sha256).await;
    delete_referrer: async |c| {
        c.push_image("a", &image(4), &["latest"]).await?;
        c.push_image("a", &referrer(5, &image(4).manifest), &["signature"]).await
    }, async |c| c.delete_manifest("a", &referrer(5, &image(4).manifest).manifest, Sha256).await;
    delete_signed: async |c| {
        c.push("a", &small()).await?;
        c.put("a", &signed(2), Sha256, &["old"]).await
    }, async |c| c.delete_manifest("a", &signed(2), Sha256).await;
    delete_blob: async |c| {
        c.push("a", &small()).await?;
        c.push("b", &small()).await
    }, async |c| c.delete_blob("a", &small(), Sha256).await;
    delete_blob_under_sha512: async |c| c.push_under("a", &small(), Sha512).await,
        async |c| c.delete_blob("a", &small(), Sha512).await;

    collect: some_garbage, async |c| c.collect(false).await;
    collect_untagged: some_garbage, async |c| c.collect(true).await;
    collect_while_serving: some_garbage, async |c| c.collect_beside(false, nothing_more).await;
    collect_untagged_while_serving: some_garbage,
        async |c| c.collect_beside(true, nothing_more).await;
    evict: some_garbage, async |c| c.evict("a", &image(4)).await;
    collect_beside_a_push: some_garbage, async |c| {
        c.collect_beside(true, async || {
            // Some of it is garbage, and comes to be needed just now.
            let again = image(6);
            if !c.head("a", &again.layer).await? {
                c.push("a", &again.layer).await?;
            }
            c.push("a", &again.config).await?;
            c.put("a", &again.manifest, Sha256, &["again"]).await?;
            c.push_image("b", &image(7), &["new"]).await
        })
        .await
    };

    pull: async |c| {
        c.push_image("a", &large_image(4), &["latest"]).await?;
        c.push_image("a", &referrer(5, &large_image(4).manifest), &[]).await
    }, async |c| c.pull("a", "latest").await;
    pull_signed: async |c| {
        c.push("a", &small()).await?;
        c.put("a", &signed(2), Sha256, &["old"]).await
    }, async |c| c.repository("a").manifests().get(&wharfinger_oci::Digest::canonical(signed(2).payload())).await.map(drop);
}

async fn nothing_more() -> Result<()> {
    Ok(())
}

/// Images that stay, by a tag, an index or their subject, and others of which parts have no use.
async fn some_garbage(c: &Client) -> Result<()> {
    c.push_image("a", &image(4), &["latest"]).await?;
    c.push_image("a", &referrer(5, &image(4).manifest), &[])
        .await?;
    c.push_image("b", &image(4), &[]).await?;
    c.put("b", &index(&[&image(4)]), Sha256, &["all"]).await?;
    c.push_image("a", &image(6), &["moved"]).await?;
    c.push_image("a", &image(8), &["moved"]).await?;
    c.push("b", &large()).await?;
    c.push_image("a", &image(9), &["gone"]).await?;
    c.delete_manifest("a", &image(9).manifest, Sha256).await
}
