//! Every call of the driver fails, in every way there is.

use std::sync::Arc;

use futures_util::future::join_all;
use wharfinger_registry::Error;
use wharfinger_storage::testing::block_on;
use wharfinger_storage::testing::crash::CrashDisk;
use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver, Operation as Call};
use wharfinger_storage::{Driver, Error as StorageError};

use crate::check::check;
use crate::client::Client;
use crate::ledger::Ledger;
use crate::{Operation, recover};

const EFFECTS: [Effect; 6] = [
    Effect::Fail(Cause::Io),
    Effect::Fail(Cause::NoSpace),
    Effect::Fail(Cause::Permission),
    Effect::Fail(Cause::Timeout),
    Effect::FailAfter(Cause::Io),
    Effect::Short(5, Cause::NoSpace),
];

/// How many calls are many.
const MANY: usize = 60;

/// Lets every call of the driver that an operation makes fail, in every way.
pub fn fail_every_call(operation: &impl Operation) {
    block_on(async {
        let prepared = CrashDisk::new();
        let before = Ledger::default();
        let driver: Arc<dyn Driver> = Arc::new(prepared.clone());
        operation
            .prepare(&Client::new(driver, &before))
            .await
            .unwrap();
        let whole = FaultDriver::new(prepared.restart());
        let driver: Arc<dyn Driver> = Arc::new(whole.clone());
        operation
            .run(&Client::new(driver, &before.copy()))
            .await
            .unwrap();
        // Of many calls each fails in one way, else in all.
        let stride = if whole.operations().len() > MANY {
            EFFECTS.len()
        } else {
            1
        };
        let failing = EFFECTS.iter().enumerate().map(async |(number, effect)| {
            let mut failed = 0;
            for call in (number % stride..).step_by(stride) {
                match fail(operation, &prepared, &before, *effect, call).await {
                    Some(missed) => failed += usize::from(missed),
                    None => break,
                }
            }
            failed
        });
        // At once, as collections mostly wait.
        let failed = join_all(failing).await;
        assert!(failed.iter().sum::<usize>() > 0, "no call was missed");
    });
}

/// Lets one call fail; gives whether the operation failed with it, or `None` where it makes fewer
/// calls.
async fn fail(
    operation: &impl Operation,
    prepared: &CrashDisk,
    before: &Ledger,
    effect: Effect,
    call: usize,
) -> Option<bool> {
    let faulty = FaultDriver::new(prepared.restart());
    faulty.plan(Fault::new(effect).after(call as u64).times(1));
    let told = before.copy();
    let driver: Arc<dyn Driver> = Arc::new(faulty.clone());
    let client = Client::new(Arc::clone(&driver), &told);
    let outcome = operation.run(&client).await;
    let calls = faulty.operations();
    let Some((kind, path)) = calls.get(call) else {
        outcome.unwrap();
        return None;
    };
    if *kind == Call::Claim {
        // A store without locks, in which collections take their time.
        return Some(false);
    }
    let what = format!("{effect:?} of call {call}, {kind:?} {path}");
    if let Err(error) = &outcome {
        assert!(says(error, effect), "{what}: {error:?}");
    }
    assert!(
        is_idle(&faulty).await,
        "{what}: something is still under way"
    );
    faulty.clear();
    // The same process goes on, with all that it has in memory; another one sees the same.
    check(&client.registry, &driver, &told, &what).await;
    let other = Client::new(Arc::clone(&driver), &told);
    check(&other.registry, &driver, &told, &what).await;
    recover(&client, &driver, operation, &what).await;
    Some(outcome.is_err())
}

/// Whether an error tells what has happened: that the store failed, and how.
fn says(error: &Error, effect: Effect) -> bool {
    let (Effect::Fail(cause) | Effect::FailAfter(cause) | Effect::Short(_, cause)) = effect else {
        return false;
    };
    match error {
        Error::Storage(error @ StorageError::Io { .. }) => {
            error.is_no_space() == (cause == Cause::NoSpace)
                && error.is_refused() == (cause == Cause::Permission)
        }
        Error::SignatureUnknown { source, .. } => says(source, effect),
        _ => false,
    }
}

/// Whether nothing of an operation goes on. What was spawned may have to be given its turn.
async fn is_idle(driver: &FaultDriver) -> bool {
    for _ in 0..1000 {
        if driver.under_way() == 0 {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}
