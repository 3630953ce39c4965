//! For tests: the contract suite, and drivers that fail and crash on demand.
//!
//! Behind the `testing` feature. A new driver runs [`contract_tests!`](crate::contract_tests) and
//! is held to what [`Driver`](crate::Driver) says. What stands on a driver is tested over
//! [`FaultDriver`](fault::FaultDriver), whose operations fail as planned, and
//! [`CrashDisk`](crash::CrashDisk), which loses what was not synced. [`Moto`](moto::Moto) is a bucket
//! on a real server.

pub mod contract;
pub mod crash;
pub mod fault;
pub mod moto;
pub mod random;

pub use random::Random;

/// Runs a test's future to its end on a runtime of its own with two threads, and panics when it
/// takes more than two minutes.
///
/// # Panics
/// When the future panics, or hangs.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let limit = std::time::Duration::from_secs(120);
    runtime
        .block_on(async { tokio::time::timeout(limit, future).await })
        .expect("the test hangs")
}
