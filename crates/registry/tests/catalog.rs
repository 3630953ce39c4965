//! The catalog of a folder that others change, beside what the names of its folders say.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use wharfinger_oci::RepositoryName;
use wharfinger_registry::{Options, Registry};
use wharfinger_storage::testing::block_on;
use wharfinger_storage::{Driver, FilesystemDriver, FilesystemOptions};

/// The paths of the folders, below that of the repositories.
type Folders = BTreeSet<String>;

#[derive(Clone, Debug)]
enum Step {
    Make(String),
    Remove(String),
    Rename(String, String),
    /// Lets the folders get old enough for keeping what is in them.
    Wait,
}

/// A folder's path: names that sort otherwise than what is nested in them, and that are not names of
/// repositories.
fn names() -> impl Strategy<Value = String> {
    let part = prop_oneof![3 => Just("a"), 3 => Just("a-b"), 2 => Just("b"), 1 => Just("B"), 1 => Just("_x")];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn paths() -> impl Strategy<Value = String> {
    let own = prop_oneof![
        4 => Just("/_manifests/tags"), 2 => Just("/_layers"), 1 => Just("/_uploads/x"), 1 => Just("")
    ];
    (names(), own).prop_map(|(name, own)| format!("{name}{own}"))
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => paths().prop_map(Step::Make),
        2 => names().prop_map(Step::Remove),
        1 => (names(), names()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => Just(Step::Wait),
    ]
}

fn parts(name: &str) -> Vec<&str> {
    name.split('/').collect()
}

/// The repositories that these folders are, in the order of their paths' parts.
fn repositories(folders: &Folders) -> Vec<String> {
    let own = |folder: &String| {
        let (name, own) = folder.rsplit_once('/')?;
        let is_own = matches!(own, "_manifests" | "_layers")
            && !parts(name).iter().any(|p| p.starts_with('_'));
        (is_own && name.parse::<RepositoryName>().is_ok()).then(|| name.to_owned())
    };
    let mut names: Vec<_> = folders.iter().filter_map(own).collect();
    names.sort_by(|a, b| parts(a).cmp(&parts(b)));
    names.dedup();
    names
}

/// The folders that are really there.
fn folders(root: &std::path::Path, below: &str, found: &mut Folders) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        folders(root, &path, found);
        found.insert(path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    #[test]
    fn the_catalog_is_what_is_there(
        steps in prop::collection::vec((steps(), prop::option::of(names()), 1_usize..6), 1..50)
    ) {
        block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("docker/registry/v2/repositories");
            fs::create_dir_all(&root).unwrap();
            let driver = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
            let driver: Arc<dyn Driver> = Arc::new(driver);
            let registry = Registry::new(driver, Options::default()).unwrap();
            for (step, after, limit) in steps {
                match &step {
                    Step::Make(path) => fs::create_dir_all(root.join(path)).unwrap(),
                    Step::Remove(path) => drop(fs::remove_dir_all(root.join(path))),
                    Step::Rename(from, to) => drop(fs::rename(root.join(from), root.join(to))),
                    Step::Wait => tokio::time::sleep(Duration::from_millis(15)).await,
                }
                let mut there = Folders::new();
                folders(&root, "", &mut there);
                let mut expected = repositories(&there);
                if let Some(after) = &after {
                    expected.retain(|name| parts(name) > parts(after));
                }
                let page = registry.catalog(after.as_deref(), limit).await.unwrap();
                let seen: Vec<_> = page.items.iter().map(ToString::to_string).collect();
                assert_eq!(page.more, expected.len() > limit, "{step:?}");
                expected.truncate(limit);
                assert_eq!(seen, expected, "{step:?}");
            }
        });
    }
}
