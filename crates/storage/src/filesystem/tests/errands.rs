//! Where the calls of an errand run, and whom it keeps from running.

use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::*;
use crate::spawn_errand;

async fn thread_of_a_call(driver: &FilesystemDriver) -> ThreadId {
    let root = StoragePath::root();
    let call = driver.hop(&root, |_| Ok(thread::current().id()));
    call.await.unwrap()
}

#[test]
fn its_calls_run_on_its_thread_and_nobody_elses_do() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (driver, _folder) = driver();
    runtime.block_on(async {
        let elsewhere = driver.clone();
        let errand = spawn_errand(&driver, async move {
            put(&elsewhere, "/a/link", "x").await;
            let mut threads = vec![thread::current().id()];
            threads.push(thread_of_a_call(&elsewhere).await);
            tokio::task::yield_now().await;
            threads.push(thread_of_a_call(&elsewhere).await);
            assert_eq!(names(&elsewhere, "/a").await, ["link"]);
            threads
        });
        let threads = errand.await.unwrap();
        assert!(threads.iter().all(|thread| *thread == threads[0]));

        // The thread goes on to others, also when it ended badly.
        let failed = spawn_errand(&driver, async { panic!("as a test wants it") });
        assert!(failed.await.unwrap_err().is_panic());
        let is_here = spawn_blocking(|| (thread::current().id(), Errand::is_here()));
        assert_eq!(is_here.await.unwrap(), (threads[0], false));
        assert_eq!(thread_of_a_call(&driver).await, threads[0]);
    });
}

/// Each waits for something that others do with the same driver: those find threads.
#[test]
fn those_that_wait_keep_no_thread_from_others() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let (driver, _folder) = driver();
    let leave = driver.errands.available_permits();
    runtime.block_on(async {
        let mut errands = Vec::new();
        let mut ends = Vec::new();
        for number in 0..leave * 2 {
            let (end, ended) = oneshot::channel::<()>();
            let here = driver.clone();
            ends.push(end);
            errands.push(spawn_errand(&driver, async move {
                put(&here, &format!("/before/{number}"), "x").await;
                ended.await.unwrap();
                put(&here, &format!("/after/{number}"), "x").await;
                Errand::is_here()
            }));
        }
        while driver.errands.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        put(&driver, "/meanwhile", "x").await;
        driver.settled().await;
        ends.into_iter().for_each(|end| end.send(()).unwrap());
        let mut on_threads = 0;
        for errand in errands {
            on_threads += usize::from(errand.await.unwrap());
        }
        // The others had no leave, and were done as anything else is.
        assert_eq!(on_threads, leave);
        for folder in ["/before", "/after"] {
            assert_eq!(names(&driver, folder).await.len(), leave * 2);
        }
    });
}
