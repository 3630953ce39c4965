//! The folder that a journal is in, and who may use it.
//!
//! Who changes the store locks the folder (flock(2)): alone, and then has the journal; or together with
//! others, and then nobody has. So nothing that is done elsewhere is undone by what is in a journal. Who
//! finds another alone there locks a file beside it, by which the other sees that it is wanted, writes
//! back what it has, and shares from then on. What a killed process held is free at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::filesystem::store::same_file;

/// The folder in the root where the journal is.
pub(in crate::filesystem) const JOURNAL: &str = ".wharfinger-journal";

const FILES: [&str; 2] = ["0", "1"];

/// Locked by who waits.
const WANTED: &str = "wanted";

/// How long to wait for another to give the journal up. It looks once a second, and then writes back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is locked as long as this is there.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    folder: File,
}

/// How a folder was entered.
#[derive(Debug)]
pub(super) enum Entered {
    /// Nobody else has it. What a crash has left in its files is to be done.
    Alone,
    /// There may be others. There is nothing in its files.
    Together,
}

impl Place {
    /// Enters the folder below `root`, which is made when it is missing; alone if that is possible at
    /// once. Who has to wait, or wants to, shares it, unless a crash has left something.
    ///
    /// # Errors
    /// `TimedOut` when another does not give it up.
    pub(super) fn enter(root: &Path, wants_alone: bool) -> io::Result<(Self, Entered)> {
        let begun = Instant::now();
        let mut waiting = None;
        loop {
            let place = Self::open(root)?;
            let wants_alone = wants_alone && waiting.is_none();
            if place.lock(FlockOperation::NonBlockingLockExclusive)?
                && place.is_there()?
                && (wants_alone || !place.is_empty()?)
            {
                return Ok((place, Entered::Alone));
            }
            // To share it, the lock is given to all who want it.
            if place.share()? && place.is_there()? && place.is_empty()? {
                return Ok((place, Entered::Together));
            }
            if begun.elapsed() > PATIENCE {
                let reason =
                    "another process on the folder has the journal and does not give it up";
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            if waiting.is_none() {
                waiting = place.want()?;
            }
            drop(place);
            sleep(Duration::from_millis(20));
        }
    }

    /// Enters the folder alone where a crash has left something in it. `None` where there is nothing, and
    /// where somebody is at work.
    pub(super) fn enter_now(root: &Path) -> io::Result<Option<Self>> {
        if !root.join(JOURNAL).is_dir() {
            return Ok(None);
        }
        let place = Self::open(root)?;
        let alone = place.lock(FlockOperation::NonBlockingLockExclusive)? && place.is_there()?;
        Ok((alone && !place.is_empty()?).then_some(place))
    }

    fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(JOURNAL);
        // The root itself may have been taken away while the registry runs.
        fs::create_dir_all(root)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let folder = File::open(&path)?;
        Ok(Self { path, folder })
    }

    fn lock(&self, operation: FlockOperation) -> io::Result<bool> {
        try_lock(&self.folder, operation)
    }

    /// From now on others may be there, too.
    fn share(&self) -> io::Result<bool> {
        self.lock(FlockOperation::NonBlockingLockShared)
    }

    /// Who had it may have removed it since it was opened.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(there) => Ok(same_file(&self.folder.metadata()?, &there)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether there are no files.
    fn is_empty(&self) -> io::Result<bool> {
        for file in self.files() {
            if file.try_exists()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says that the journal is wanted, as long as the file is open.
    fn want(&self) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        match options.open(self.path.join(WANTED)) {
            Ok(file) => {
                try_lock(&file, FlockOperation::NonBlockingLockShared)?;
                Ok(Some(file))
            }
            // It was just removed with the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody waits for the journal.
    pub(super) fn is_wanted(&self) -> bool {
        let wanted = File::open(self.path.join(WANTED));
        let free =
            wanted.and_then(|file| try_lock(&file, FlockOperation::NonBlockingLockExclusive));
        matches!(free, Ok(false))
    }

    /// The journal's files.
    pub(super) fn files(&self) -> [PathBuf; 2] {
        FILES.map(|name| self.path.join(name))
    }

    /// What is in the files, as far as they are there.
    pub(super) fn contents(&self) -> io::Result<Vec<Vec<u8>>> {
        let files = self.files().into_iter();
        let contents = files.filter_map(|file| match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            content => Some(content),
        });
        contents.collect()
    }

    /// Empties the files, which are made when they are missing.
    pub(super) fn empty(&self) -> io::Result<()> {
        self.files()
            .iter()
            .try_for_each(|file| File::create(file)?.sync_all())
    }

    /// Makes the names of the files survive the machine.
    pub(super) fn sync(&self, root: &File) -> io::Result<()> {
        self.folder.sync_all()?;
        root.sync_all()
    }

    /// Removes the files, of which nothing is needed any more.
    pub(super) fn remove_files(&self) -> io::Result<()> {
        for file in self.files() {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Leaves the folder, and removes it where nobody else is there and nothing is in it.
    pub(super) fn leave(&self) {
        let alone = self.lock(FlockOperation::NonBlockingLockExclusive);
        if matches!(alone, Ok(true)) {
            if !self.is_wanted() {
                let _ = fs::remove_file(self.path.join(WANTED));
            }
            // In vain where it is gone with its root.
            let _ = fs::remove_dir(&self.path);
        }
        let _ = flock(&self.folder, FlockOperation::Unlock);
    }
}

fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
