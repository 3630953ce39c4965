//! The filesystem driver and the driver in memory, side by side: whatever is asked for, both
//! answer the same, errors included.

use proptest::prelude::*;

use super::*;
use crate::MemoryDriver;

#[derive(Clone, Debug)]
enum Step {
    Put(StoragePath, Vec<u8>, Durability),
    Get(StoragePath),
    Read(StoragePath, u64),
    Open(StoragePath),
    Stat(StoragePath),
    List(StoragePath, Option<String>, Option<usize>),
    Rename(StoragePath, StoragePath),
    Delete(StoragePath),
    Write(StoragePath, WriteMode, Vec<Vec<u8>>, End),
    /// Opens a writer and leaves it open.
    Begin(StoragePath, WriteMode),
    /// Goes on with the writer that was left open.
    Continue(Vec<u8>),
    /// Ends the writer that was left open.
    Finish(End),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Commit,
    Cancel,
    Drop,
}

fn paths() -> impl Strategy<Value = StoragePath> {
    // Few names, so that files and folders meet.
    let part = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("_c")];
    prop::collection::vec(part, 0..4).prop_map(|parts| {
        parts
            .into_iter()
            .fold(StoragePath::root(), |path, part| path.join(part).unwrap())
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..12)
}

fn modes() -> impl Strategy<Value = WriteMode> {
    prop_oneof![
        Just(WriteMode::Create),
        (0_u64..14).prop_map(|at| WriteMode::Append { at }),
    ]
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Close),
        Just(End::Commit),
        Just(End::Cancel),
        Just(End::Drop)
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![9 => Just(Durability::Process), 1 => Just(Durability::Machine)];
    let after = prop::option::of("[a-c_]{0,2}");
    prop_oneof![
        4 => (paths(), bytes(), durability).prop_map(|(p, b, d)| Step::Put(p, b, d)),
        2 => paths().prop_map(Step::Get),
        2 => (paths(), 0_u64..14).prop_map(|(p, o)| Step::Read(p, o)),
        1 => paths().prop_map(Step::Open),
        2 => paths().prop_map(Step::Stat),
        3 => (paths(), after, prop::option::of(0_usize..4)).prop_map(|(p, a, l)| Step::List(p, a, l)),
        3 => (paths(), paths()).prop_map(|(f, t)| Step::Rename(f, t)),
        2 => paths().prop_map(Step::Delete),
        3 => (paths(), modes(), prop::collection::vec(bytes(), 0..3), ends())
            .prop_map(|(p, m, b, e)| Step::Write(p, m, b, e)),
        2 => (paths(), modes()).prop_map(|(p, m)| Step::Begin(p, m)),
        2 => bytes().prop_map(Step::Continue),
        2 => ends().prop_map(Step::Finish),
    ]
}

/// An error as far as the contract says what it is.
fn told(error: Error) -> String {
    match error {
        Error::Io { path, .. } => format!("{path}: i/o"),
        error => error.to_string().replace("inmemory", "filesystem"),
    }
}

async fn end(writer: Box<dyn Writer>, end: End) -> Result<()> {
    match end {
        End::Close => writer.close().await,
        End::Commit => writer.commit().await,
        End::Cancel => writer.cancel().await,
        End::Drop => {
            drop(writer);
            Ok(())
        }
    }
}

/// Does the step and says what came of it.
async fn answer(
    driver: &dyn Driver,
    left_open: &mut Option<Box<dyn Writer>>,
    step: Step,
) -> Result<String> {
    Ok(match step {
        Step::Put(path, bytes, durability) => {
            driver.put(&path, bytes.into(), durability).await?;
            "put".to_owned()
        }
        Step::Get(path) => format!("{:?}", driver.get(&path).await?),
        Step::Read(path, offset) => {
            let pieces = driver
                .reader(&path, offset)
                .await?
                .try_collect::<Vec<_>>()
                .await?;
            format!("{:?}", pieces.concat())
        }
        // Only one of the two has handles to give.
        Step::Open(path) => driver.open(&path).await.map(|_| "opened".to_owned())?,
        Step::Stat(path) => {
            let stat = driver.stat(&path).await?;
            format!("{} {}", stat.size, stat.is_dir)
        }
        Step::List(path, after, limit) => {
            format!("{:?}", driver.list(&path, after.as_deref(), limit).await?)
        }
        Step::Rename(from, to) => {
            driver.rename(&from, &to).await?;
            "moved".to_owned()
        }
        Step::Delete(path) => {
            driver.delete(&path).await?;
            "removed".to_owned()
        }
        Step::Write(path, mode, parts, how) => {
            let mut writer = driver.writer(&path, mode).await?;
            for part in parts {
                writer.write(vec![part.into()]).await?;
            }
            let size = writer.size();
            end(writer, how).await?;
            format!("written {size}")
        }
        Step::Begin(path, mode) => {
            *left_open = None;
            *left_open = Some(driver.writer(&path, mode).await?);
            "begun".to_owned()
        }
        Step::Continue(bytes) => match left_open {
            Some(writer) => {
                writer.write(vec![bytes.into()]).await?;
                format!("continued {}", writer.size())
            }
            None => "nothing to continue".to_owned(),
        },
        Step::Finish(how) => match left_open.take() {
            Some(writer) => {
                // What becomes of a file that was moved or removed under its writer is not said,
                // other than that it harms nobody else: compared by what is there afterwards.
                let _ = end(writer, how).await;
                "finished".to_owned()
            }
            None => "nothing to finish".to_owned(),
        },
    })
}

/// Every file and folder there is, with content.
async fn everything(driver: &dyn Driver) -> Vec<(String, Option<Bytes>)> {
    let mut all = Vec::new();
    let mut walk = crate::Walk::new(driver, StoragePath::root());
    while let Some(entry) = walk.next().await.unwrap() {
        let content = if entry.is_dir {
            None
        } else {
            Some(driver.get(&entry.path).await.unwrap())
        };
        all.push((entry.path.to_string(), content));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn both_answer_the_same(steps in prop::collection::vec(steps(), 1..40)) {
        block_on(async {
            let (real, _folder) = driver();
            let model = MemoryDriver::new();
            let (mut real_writer, mut model_writer) = (None, None);
            for (i, step) in steps.iter().enumerate() {
                let seen = answer(&real, &mut real_writer, step.clone()).await.map_err(told);
                let expected = answer(&model, &mut model_writer, step.clone()).await.map_err(told);
                assert_eq!(seen, expected, "step {i}: {step:?}");
            }
            assert_eq!(everything(&real).await, everything(&model).await);
        });
    }
}
