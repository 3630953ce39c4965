//! Writing a file of any size.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, open as open_path};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use super::folder::{ATTEMPTS, Folder, temporary_name};
use super::output::Output;
use super::store::{Store, read_error, same_file};
use super::together::Target;
use super::{FilesystemDriver, joined, run};
use crate::{Error, Result, StoragePath, WriteMode, Writer};

/// A path's turn: who holds the lock may touch the file, and the number says which writer is the
/// latest. A hop that outlives its request holds the lock until it is through, so the next
/// writer of the path starts after it.
type Slot = Arc<tokio::sync::Mutex<u64>>;

/// The slots of the paths that are being written.
#[derive(Debug, Default)]
pub(super) struct WriterSlots(Mutex<HashMap<StoragePath, Weak<tokio::sync::Mutex<u64>>>>);

impl WriterSlots {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn slot(&self, path: &StoragePath) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(path).and_then(Weak::upgrade) {
            return slot;
        }
        if slots.len() == slots.capacity() {
            // Before it grows, what nobody uses goes.
            slots.retain(|_, slot| slot.strong_count() > 0);
        }
        let slot = Slot::default();
        slots.insert(path.clone(), Arc::downgrade(&slot));
        slot
    }
}

/// What becomes of the file when the writer ends.
#[derive(Clone, Debug)]
enum Place {
    /// It is where it belongs.
    There,
    /// It replaces the file that is there, from this name beside it.
    Beside(String),
}

#[derive(Debug)]
pub(super) struct FilesystemWriter {
    driver: FilesystemDriver,
    path: StoragePath,
    file: Arc<File>,
    place: Place,
    slot: Slot,
    turn: u64,
    /// `None` when an operation took it along and did not bring it back.
    output: Option<Output>,
    size: u64,
    ended: bool,
}

pub(super) async fn open(
    driver: &FilesystemDriver,
    path: &StoragePath,
    mode: WriteMode,
) -> Result<FilesystemWriter> {
    let slot = driver.writers.slot(path);
    let mut guard = Arc::clone(&slot).lock_owned().await;
    let wanted = path.clone();
    let hop = driver.hop(path, move |store| {
        // What is written from now on is not to be undone.
        store.journal.enter(store)?;
        store.journal.settle(&wanted)?;
        let opened = match mode {
            WriteMode::Create => create(store, &wanted)?,
            WriteMode::Append { at } => (append(store, &wanted, at)?, Place::There),
        };
        *guard += 1;
        Ok((opened, *guard))
    });
    let ((file, place), turn) = hop.await?;
    let size = match mode {
        WriteMode::Create => 0,
        WriteMode::Append { at } => at,
    };
    Ok(FilesystemWriter {
        driver: driver.clone(),
        path: path.clone(),
        file: Arc::new(file),
        place,
        slot,
        turn,
        output: Some(Output::new(size)),
        size,
        ended: false,
    })
}

fn create(store: &Store, path: &StoragePath) -> Result<(File, Place)> {
    let failed = |error| store.write_error(path, "create", error);
    let mut attempts = 1;
    let (folder, created) = loop {
        let folder = Folder::of_file(store, path)?;
        match folder.create(path.name()) {
            // A removal has taken away the folder that was just opened or made.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => {
                attempts += 1;
            }
            created => break (folder, created),
        }
    };
    match created {
        Ok(file) => Ok((file, Place::There)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(store.full(path)).is_ok_and(|metadata| metadata.is_dir()) {
                return Err(Error::not_a_file(path));
            }
            let name = temporary_name();
            Ok((folder.create(&name).map_err(failed)?, Place::Beside(name)))
        }
        Err(error) => Err(failed(error)),
    }
}

fn append(store: &Store, path: &StoragePath, at: u64) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open_path(store.full(path), flags, Mode::empty());
    let file = File::from(file.map_err(|error| read_error(path, "open", error.into()))?);
    let metadata = file
        .metadata()
        .map_err(|error| Error::io(path, "stat", error))?;
    if !metadata.is_file() {
        return Err(Error::not_a_file(path));
    }
    if metadata.len() < at {
        return Err(Error::InvalidOffset {
            path: path.clone(),
            offset: at,
        });
    }
    if metadata.len() > at {
        file.set_len(at)
            .map_err(|error| Error::io(path, "truncate", error))?;
    }
    Ok(file)
}

impl FilesystemWriter {
    /// Runs `work` when it is the path's turn and this is still its latest writer.
    async fn hop<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &Arc<File>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let guard: OwnedMutexGuard<u64> = Arc::clone(&self.slot).lock_owned().await;
        if *guard != self.turn {
            return Err(Error::superseded(&self.path));
        }
        let permit = self.driver.permit().await;
        let (store, file) = (Arc::clone(&self.driver.store), Arc::clone(&self.file));
        let hop = spawn_blocking(move || {
            let result = run(permit, || work(&store, &file));
            drop(guard);
            result
        });
        joined(&self.path, hop.await)
    }

    /// After an operation that failed or was abandoned, how much of it is in the file is not known.
    fn take_output(&mut self) -> Result<Output> {
        let output = self.output.take();
        output.ok_or_else(|| Error::broken_writer(&self.path))
    }

    /// What was written survives the machine under the file's name.
    async fn finish(mut self: Box<Self>) -> Result<()> {
        let mut output = self.take_output()?;
        let (path, place) = (self.path.clone(), self.place.clone());
        let work = move |store: &Store, file: &Arc<File>| {
            let flushed = output.flush(file);
            flushed.map_err(|error| store.write_error(&path, "write", error))?;
            finish(store, &path, file, &place)
        };
        let result = self.hop(work).await;
        self.ended = result.is_ok();
        result
    }
}

fn finish(store: &Store, path: &StoragePath, file: &Arc<File>, place: &Place) -> Result<()> {
    let content = Target::Content(path.clone(), Arc::clone(file));
    let id = store.durable.id(path, file);
    if matches!(place, Place::There) && id.is_some_and(|id| store.durable.contains(id)) {
        return store.sync(vec![content]);
    }
    let parent = path.parent().ok_or_else(|| Error::not_a_file(path))?;
    let folder = Folder::open(store, &parent).map_err(|e| read_error(path, "open", e))?;
    let ways = store.ways_up([&folder])?;
    match place {
        // It has its name already: neither waits for the other.
        Place::There => {
            store.sync_with_ways(vec![content, Target::Folder(Arc::new(folder))], ways)?;
        }
        Place::Beside(name) => {
            store.sync_with_ways(vec![content], ways)?;
            let _turn = store.journal.turn(store, &[path])?;
            store.journal.settle(path)?;
            folder
                .rename(name, &folder, path.name())
                .map_err(|error| store.write_error(path, "rename", error))?;
            store.sync(vec![Target::Folder(Arc::new(folder))])?;
        }
    }
    if let Some(id) = id {
        store.durable.insert(id);
    }
    Ok(())
}

/// Removes the file under the name it has, unless the name has gone to another file.
fn give_up(store: &Store, path: &StoragePath, file: &File, place: &Place) -> io::Result<()> {
    let ours = file.metadata()?;
    let place = match place {
        Place::There => store.full(path),
        Place::Beside(name) => store.full(path).with_file_name(name),
    };
    match fs::metadata(&place) {
        Ok(there) if same_file(&ours, &there) => fs::remove_file(&place),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Writer for FilesystemWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        // Away until the end is seen: the future may be dropped while a part is written.
        let mut output = self.take_output()?;
        let path = self.path.clone();
        let output = self
            .hop(move |store, file| {
                let written = output.write(file, &store.buffers, buffers);
                written.map_err(|error| Error::io(&path, "write", error))?;
                Ok(output)
            })
            .await?;
        self.size = output.size();
        self.output = Some(output);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.finish().await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.finish().await
    }

    async fn cancel(mut self: Box<Self>) -> Result<()> {
        let (path, place) = (self.path.clone(), self.place.clone());
        let work = move |store: &Store, file: &Arc<File>| {
            give_up(store, &path, file, &place).map_err(|error| Error::io(&path, "remove", error))
        };
        let result = self.hop(work).await;
        self.ended = result.is_ok();
        result
    }
}

impl Drop for FilesystemWriter {
    /// A file that was to replace another never will: it goes.
    fn drop(&mut self) {
        if self.ended || !matches!(self.place, Place::Beside(_)) {
            return;
        }
        let (store, file) = (Arc::clone(&self.driver.store), Arc::clone(&self.file));
        let (path, place) = (self.path.clone(), self.place.clone());
        let remove = move || {
            if let Err(error) = give_up(&store, &path, &file, &place) {
                tracing::warn!(%path, %error, "temporary file not removed");
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
