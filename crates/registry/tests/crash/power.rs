//! The power is cut at every step of an operation.

use std::sync::Arc;

use futures_util::future::join_all;
use wharfinger_storage::Driver;
use wharfinger_storage::testing::block_on;
use wharfinger_storage::testing::crash::CrashDisk;

use crate::check::check;
use crate::client::Client;
use crate::ledger::Ledger;
use crate::{Operation, recover};

/// How many outcomes of each crash are looked at, besides that of the end of the process alone.
const SEEDS: u64 = 3;

/// With more steps than this, one outcome must do.
const MANY: u64 = 100;

fn over(disk: &CrashDisk) -> Arc<dyn Driver> {
    Arc::new(disk.clone())
}

/// Cuts the power at every step of an operation, and looks at what is left.
pub fn cut_at_every_step(operation: &impl Operation) {
    block_on(async {
        let prepared = CrashDisk::new();
        let before = Ledger::default();
        operation
            .prepare(&Client::new(over(&prepared), &before))
            .await
            .unwrap();

        let whole = prepared.restart();
        let first = whole.steps();
        let ledger = before.copy();
        operation
            .run(&Client::new(over(&whole), &ledger))
            .await
            .unwrap();
        let last = whole.steps();
        let mut cut = 0;
        for step in first..=last {
            let disk = prepared.restart();
            let told = before.copy();
            disk.cut_power_after(step);
            let outcome = operation.run(&Client::new(over(&disk), &told)).await;
            cut += usize::from(outcome.is_err());
            let seeds = if last - first > MANY { 1 } else { SEEDS };
            // Of the process alone, and of the machine, which loses what was not synced.
            let mut outcomes = vec![disk.restart()];
            outcomes.extend((0..seeds).map(|seed| disk.crash(step * SEEDS + seed)));
            let told = &told;
            let outcomes = outcomes.iter().enumerate().map(async |(number, disk)| {
                let what = format!("step {step}, outcome {number}");
                after(disk, told, operation, &what).await;
            });
            // At once, as collections mostly wait.
            join_all(outcomes).await;
        }
        assert!(cut > 0 || first == last, "no step was missed");
    });
}

/// A process that starts after a crash: all that was acknowledged is there, and all can be done.
async fn after(disk: &CrashDisk, told: &Ledger, operation: &impl Operation, what: &str) {
    let driver = over(disk);
    let ledger = told.copy();
    let client = Client::new(Arc::clone(&driver), &ledger);
    check(&client.registry, &driver, &ledger, what).await;
    recover(&client, &driver, operation, what).await;
}
