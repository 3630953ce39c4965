//! Writers on a disk that can crash.

use std::sync::MutexGuard;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::CrashDisk;
use super::platter::State;
use crate::{Error, Result, StoragePath, Writer};

#[derive(Debug)]
pub(super) struct CrashWriter {
    pub(super) disk: CrashDisk,
    pub(super) path: StoragePath,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) replaces: bool,
    pub(super) turn: u64,
}

impl CrashWriter {
    fn turn(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.disk.lock();
        state.step(&self.path)?;
        match state.writers.get(&self.path) {
            Some(turn) if *turn == self.turn => Ok(state),
            _ => Err(Error::superseded(&self.path)),
        }
    }

    fn finish(&self) -> Result<()> {
        let mut state = self.turn()?;
        state.content_mut(self.inode).sync();
        state.step(&self.path)?;
        if self.replaces {
            state.place(&self.path, self.inode)?;
            state.step(&self.path)?;
        }
        state.sync_name(&self.path);
        state.step(&self.path)
    }
}

#[async_trait]
impl Writer for CrashWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        let size = {
            let mut state = self.turn()?;
            let content = state.content_mut(self.inode);
            buffers
                .iter()
                .for_each(|buffer| content.live.extend_from_slice(buffer));
            content.modified = SystemTime::now();
            let size = content.live.len() as u64;
            state.step(&self.path)?;
            size
        };
        self.size = size;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.finish()
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.finish()
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        let mut state = self.turn()?;
        if state
            .find_file(&self.path)
            .is_ok_and(|inode| inode == self.inode)
        {
            state.unlink(&self.path)?;
        }
        state.step(&self.path)
    }
}
