//! The file that tells how far a verification has got, so that another one goes on from there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wharfinger_registry::Position;

/// How often it is written.
const EVERY: Duration = Duration::from_secs(1);

/// Why it cannot be gone on with.
#[derive(Debug, Error)]
pub(super) enum StateError {
    #[error("--state: {}: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error(
        "--state: {} does not say how far a verification has got ({error}); remove it to begin anew",
        file.display()
    )]
    Damaged {
        file: PathBuf,
        error: serde_json::Error,
    },
    #[error("--state: {} is about {theirs}, and not about {ours}; name another file", file.display())]
    OtherStore {
        file: PathBuf,
        theirs: String,
        ours: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    /// The store, for people.
    store: String,
    position: Position,
}

/// The file.
#[derive(Debug)]
pub(super) struct StateFile {
    file: PathBuf,
    store: String,
    written: Instant,
}

impl StateFile {
    /// Opens it; gives the position that it tells, or the beginning where there is none.
    pub(super) fn open(file: &Path, store: String) -> Result<(Self, Position), StateError> {
        let position = match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Position::default(),
            Err(error) => return Err(failed(file)(error)),
            Ok(text) => {
                let content: Content =
                    serde_json::from_slice(&text).map_err(|error| StateError::Damaged {
                        file: file.to_owned(),
                        error,
                    })?;
                if content.store != store {
                    return Err(StateError::OtherStore {
                        file: file.to_owned(),
                        theirs: content.store,
                        ours: store,
                    });
                }
                content.position
            }
        };
        let this = Self {
            file: file.to_owned(),
            store,
            written: Instant::now(),
        };
        // What cannot be written is better known now than after hours.
        this.write(&position)?;
        Ok((this, position))
    }

    /// Writes a position, unless that was done a moment ago.
    pub(super) fn note(&mut self, position: &Position) -> Result<(), StateError> {
        if self.written.elapsed() < EVERY {
            return Ok(());
        }
        self.write(position)?;
        self.written = Instant::now();
        Ok(())
    }

    /// Removes it: all has been read.
    pub(super) fn remove(self) -> Result<(), StateError> {
        fs::remove_file(&self.file).map_err(failed(&self.file))
    }

    fn write(&self, position: &Position) -> Result<(), StateError> {
        let content = Content {
            store: self.store.clone(),
            position: position.clone(),
        };
        let mut name = self.file.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let write = || {
            let mut file = File::create(&new)?;
            serde_json::to_writer(&mut file, &content)?;
            file.flush()?;
            file.sync_all()?;
            fs::rename(&new, &self.file)
        };
        write().map_err(failed(&self.file))
    }
}

fn failed(file: &Path) -> impl Fn(io::Error) -> StateError {
    move |error| StateError::Io {
        file: file.to_owned(),
        error,
    }
}
