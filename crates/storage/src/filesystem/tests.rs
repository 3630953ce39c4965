use super::*;

crate::contract_tests!(driver());

fn driver() -> (FilesystemDriver, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let driver = FilesystemDriver::new(FilesystemOptions::new(folder.path())).expect("a driver");
    (driver, folder)
}
