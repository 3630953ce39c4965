//! Writing files part by part.

use std::sync::Arc;
use std::{io, mem};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::Shared;
use super::bucket::{SMALLEST_PART, is_answer_lost};
use super::failure::failed;
use super::keys;
use super::turns::Turn;
use super::unfinished::{Header, Part, Unfinished};
use crate::{Error, Result, StoragePath, WriteMode, Writer};

/// A file that is being written.
///
/// Bytes are collected until they fill a part, which is then sent while the next one is filled.
/// Before the first is sent, a record of the multipart upload is put beside the file.
#[derive(Debug)]
pub(super) struct ObjectWriter {
    shared: Arc<Shared>,
    path: StoragePath,
    key: String,
    turn: Turn,
    /// What the file begins with, as long as that is an object nobody has touched.
    begins_with: Option<Beginning>,
    /// The multipart upload, once there are bytes for a part.
    upload: Option<Header>,
    /// What has come behind the last part, in order.
    tail: Vec<Bytes>,
    tail_size: usize,
    /// A part on its way.
    sending: Option<JoinHandle<object_store::Result<Part>>>,
    size: u64,
    /// Where this writer began.
    at: u64,
    /// The sizes under which something is kept of the file.
    kept: Vec<u64>,
    /// Whether the store has all of this already, under the file's own key or in what is kept.
    is_stored: bool,
    /// Whether this is a new file, of which nothing is known yet.
    is_new: bool,
    /// Whether there may be an object under the file's own key.
    has_object: bool,
    /// Whether an operation has failed, or was abandoned halfway.
    broken: bool,
}

/// An object that a file goes on behind.
#[derive(Clone, Copy, Debug)]
struct Beginning {
    /// Its size in bytes.
    size: u64,
}

impl ObjectWriter {
    pub(super) async fn open(
        shared: Arc<Shared>,
        path: StoragePath,
        mode: WriteMode,
    ) -> Result<Self> {
        let turn = shared.turns.take(&path);
        let key = shared.keys.of(&path);
        let mut writer = Self {
            shared,
            path,
            key,
            turn,
            begins_with: None,
            upload: None,
            tail: Vec::new(),
            tail_size: 0,
            sending: None,
            size: 0,
            at: 0,
            kept: Vec::new(),
            is_stored: false,
            is_new: true,
            has_object: true,
            broken: false,
        };
        if let WriteMode::Append { at } = mode {
            writer.go_on(at).await?;
        }
        Ok(writer)
    }

    /// Takes the file up at an offset: from what is kept of it, or from the object.
    async fn go_on(&mut self, at: u64) -> Result<()> {
        let found = self.shared.find(&self.path, false).await?;
        let mut size = found.object.map(|stat| stat.size);
        self.kept = found.unfinished.into_keys().collect();
        let most = self.kept.last().copied().max(size);
        match most {
            None => return Err(Error::not_found(&self.path)),
            Some(most) if most < at => {
                return Err(Error::InvalidOffset {
                    path: self.path.clone(),
                    offset: at,
                });
            }
            Some(_) => {}
        }
        let has_object = size.is_some_and(|size| size >= at);
        if !has_object && !self.kept.contains(&at) {
            size = Some(self.finish_what_is_kept().await?);
        } else if !has_object {
            let unfinished = self.shared.unfinished(&self.path, at).await?;
            self.upload = Some(unfinished.header);
            self.tail_size = unfinished.tail.len();
            self.tail = vec![unfinished.tail];
        } else if let Some(last) = self.kept.last() {
            // What a crash left behind: the object is what counts.
            let given_up = self.shared.give_up(&self.key, *last).await;
            given_up.map_err(failed(&self.path, "give up what is kept of it"))?;
        }
        if self.upload.is_none() {
            self.begins_with = size.map(|size| Beginning { size });
        }
        self.size = at;
        self.at = at;
        self.is_new = false;
        self.has_object = size.is_some();
        self.is_stored = self.begins_with.is_none_or(|object| object.size == at);
        Ok(())
    }

    /// Makes an object of the most that is kept of the file: nothing is kept of the offset that
    /// is asked for, and parts can be read only when they are together. Gives its size.
    async fn finish_what_is_kept(&mut self) -> Result<u64> {
        let size = self.kept.last().copied().unwrap_or_default();
        let mut unfinished = self.shared.unfinished(&self.path, size).await?;
        let header = &mut unfinished.header;
        if !unfinished.tail.is_empty() {
            let index = header.parts.len();
            let tail = vec![unfinished.tail];
            let part = self
                .shared
                .bucket
                .put_part(&self.key, &header.upload, index, tail);
            let part = part.await.map_err(failed(&self.path, "write"))?;
            header.parts.push(part);
        }
        let bucket = &self.shared.bucket;
        let completed = bucket.complete(&self.key, &header.upload, &header.parts);
        completed.await.map_err(failed(&self.path, "complete"))?;
        Ok(size)
    }

    /// Fetches the beginning of the file, so that bytes may follow: a short one into memory, of
    /// a long one the store makes parts.
    async fn fetch_beginning(&mut self) -> Result<()> {
        let Some(_) = self.begins_with else {
            return Ok(());
        };
        let (at, part) = (self.at, self.shared.part as u64);
        let mut copied = 0;
        if at >= part {
            // Only the last part may be small: a small rest comes into memory.
            copied = match at % part {
                rest if rest < SMALLEST_PART => at - rest,
                _ => at,
            };
            let upload = self.begin().await?;
            let parts = self
                .shared
                .bucket
                .copy_parts(&self.key, 0..copied, &self.key, &upload, 0);
            let parts = parts.await.map_err(failed(&self.path, "copy"))?;
            self.upload = Some(Header { upload, parts });
        }
        let rest = self.shared.bucket.get_range(&self.key, copied..at).await;
        let rest = rest.map_err(failed(&self.path, "read"))?;
        self.tail_size = rest.len();
        self.tail = vec![rest];
        self.begins_with = None;
        Ok(())
    }

    /// Begins a multipart upload, and puts the record of it beside the file.
    async fn begin(&mut self) -> Result<String> {
        if mem::take(&mut self.is_new) {
            // What an earlier writer, which nobody went on with, has left.
            let found = self.shared.find(&self.path, false).await?;
            self.has_object = found.object.is_some();
            if let Some(last) = found.unfinished.last_key_value() {
                let given_up = self.shared.give_up(&self.key, *last.0).await;
                given_up.map_err(failed(&self.path, "give up what is kept of it"))?;
                let keys = found.unfinished.keys();
                let keys = keys.map(|size| keys::unfinished(&self.key, *size));
                let deleted = self.shared.bucket.delete(keys.collect()).await;
                deleted.map_err(failed(&self.path, "delete what is kept of it"))?;
            }
        }
        let upload = self.shared.bucket.begin(&self.key).await;
        let upload = upload.map_err(failed(&self.path, "begin"))?;
        // Of what was there when this writer began, so that it can be gone back to.
        let tail = match self.at < self.shared.part as u64 {
            true => self.first_bytes(self.at),
            false => Bytes::new(),
        };
        let record = Unfinished {
            header: Header {
                upload: upload.clone(),
                parts: Vec::new(),
            },
            tail,
        };
        self.keep(&record).await?;
        Ok(upload)
    }

    /// The first bytes of the tail, as long as there is no part before it.
    fn first_bytes(&self, size: u64) -> Bytes {
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        let mut first = BytesMut::with_capacity(left);
        for buffer in &self.tail {
            let taken = left.min(buffer.len());
            first.extend_from_slice(&buffer[..taken]);
            left -= taken;
        }
        first.freeze()
    }

    async fn keep(&mut self, unfinished: &Unfinished) -> Result<()> {
        let size = unfinished.size();
        let key = keys::unfinished(&self.key, size);
        let put = self
            .shared
            .bucket
            .put(&key, vec![unfinished.encode()])
            .await;
        put.map_err(failed(&self.path, "write"))?;
        if !self.kept.contains(&size) {
            self.kept.push(size);
        }
        Ok(())
    }

    /// Sends as many parts as there are bytes for.
    async fn send_parts(&mut self) -> Result<()> {
        while self.tail_size >= self.shared.part {
            if self.upload.is_none() {
                let upload = self.begin().await?;
                self.upload = Some(Header {
                    upload,
                    parts: Vec::new(),
                });
            }
            self.sent().await?;
            self.allows_another_part()?;
            let content = self.take_part();
            self.send(content).await;
        }
        Ok(())
    }

    fn allows_another_part(&self) -> Result<()> {
        let parts = self.upload.as_ref().map_or(0, |upload| upload.parts.len());
        let most = self.shared.bucket.most_parts();
        // One is left for the rest.
        match parts + 1 < most {
            true => Ok(()),
            false => {
                let reason = format!("a file can have {most} parts; larger parts are needed");
                let source = io::Error::new(io::ErrorKind::FileTooLarge, reason);
                Err(Error::io(&self.path, "write", source))
            }
        }
    }

    /// The bytes of a whole part, off the tail.
    fn take_part(&mut self) -> Vec<Bytes> {
        let mut left = self.shared.part;
        let mut content = Vec::new();
        let mut rest = mem::take(&mut self.tail).into_iter();
        for mut buffer in rest.by_ref() {
            if buffer.len() > left {
                content.push(buffer.split_to(left));
                self.tail.push(buffer);
                break;
            }
            left -= buffer.len();
            content.push(buffer);
            if left == 0 {
                break;
            }
        }
        self.tail.extend(rest);
        self.tail_size -= self.shared.part;
        content
    }

    /// Begins to send a part.
    async fn send(&mut self, content: Vec<Bytes>) {
        let Some(upload) = &self.upload else {
            return;
        };
        let (id, index) = (upload.upload.clone(), upload.parts.len());
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        let operation = Arc::clone(&self.shared.operations).read_owned().await;
        let send = async move {
            let _operation = operation;
            shared.bucket.put_part(&key, &id, index, content).await
        };
        self.sending = Some(tokio::spawn(send.in_current_span()));
    }

    /// Waits for the part that is on its way.
    async fn sent(&mut self) -> Result<()> {
        let Some(sending) = self.sending.take() else {
            return Ok(());
        };
        let sent = sending
            .await
            .map_err(|_| Error::broken_writer(&self.path))?;
        let part = sent.map_err(failed(&self.path, "write"))?;
        if let Some(upload) = &mut self.upload {
            upload.parts.push(part);
        }
        Ok(())
    }

    fn usable(&self) -> Result<()> {
        self.turn.check()?;
        match self.broken {
            true => Err(Error::broken_writer(&self.path)),
            false => Ok(()),
        }
    }

    async fn append(&mut self, buffers: Vec<Bytes>, added: usize) -> Result<()> {
        self.fetch_beginning().await?;
        self.tail.extend(buffers);
        self.tail_size += added;
        self.send_parts().await
    }

    /// Brings what is left onto its way, up to the point where the store has all but the tail.
    async fn arrive(&mut self) -> Result<()> {
        self.usable()?;
        self.broken = true;
        if self.is_stored {
            return Ok(());
        }
        self.fetch_beginning().await?;
        self.sent().await
    }

    async fn close_here(mut self) -> Result<()> {
        self.arrive().await?;
        if self.is_stored {
            return Ok(());
        }
        let Some(header) = self.upload.take() else {
            return self.put_whole().await;
        };
        let tail = self.tail.concat().into();
        self.keep(&Unfinished { header, tail }).await?;
        // What this writer began with stays, for who has not heard yet that it got further.
        let (at, size) = (self.at, self.size);
        let has_object = self.has_object;
        self.forget(|kept| kept == at || kept == size, has_object)
            .await
    }

    async fn commit_here(mut self) -> Result<()> {
        self.arrive().await?;
        let Some(mut header) = self.upload.take() else {
            return match self.is_stored {
                true => self.forget(|_| false, false).await,
                false => self.put_whole().await,
            };
        };
        if self.tail_size > 0 {
            let tail = mem::take(&mut self.tail);
            let bucket = &self.shared.bucket;
            let part = bucket.put_part(&self.key, &header.upload, header.parts.len(), tail);
            header
                .parts
                .push(part.await.map_err(failed(&self.path, "write"))?);
        }
        let bucket = &self.shared.bucket;
        let completed = bucket.complete(&self.key, &header.upload, &header.parts);
        match completed.await {
            // The answer was lost; asked again, the store does not know the upload any more.
            Err(error) if is_doubtful(&error) && self.is_there().await => {}
            completed => completed.map_err(failed(&self.path, "complete"))?,
        }
        self.forget(|_| false, false).await
    }

    /// Whether there is an object of the file's whole size.
    async fn is_there(&self) -> bool {
        let meta = self.shared.bucket.head(&self.key).await;
        meta.is_ok_and(|meta| meta.size == self.size)
    }

    async fn put_whole(mut self) -> Result<()> {
        let tail = mem::take(&mut self.tail);
        let put = self.shared.bucket.put(&self.key, tail).await;
        put.map_err(failed(&self.path, "write"))?;
        self.forget(|_| false, false).await
    }

    /// Removes what is kept of the file under sizes that are not needed, and the object too where
    /// what is kept has taken its place.
    async fn forget(&mut self, needed: impl Fn(u64) -> bool, object: bool) -> Result<()> {
        let unneeded = self.kept.iter().filter(|size| !needed(**size));
        let mut keys: Vec<_> = unneeded
            .map(|size| keys::unfinished(&self.key, *size))
            .collect();
        if object {
            keys.push(self.key.clone());
        }
        if keys.is_empty() {
            return Ok(());
        }
        let deleted = self.shared.bucket.delete(keys).await;
        deleted.map_err(failed(&self.path, "delete what was kept of it"))
    }

    async fn cancel_here(mut self) -> Result<()> {
        self.turn.check()?;
        let _ = self.sent().await;
        if let Some(header) = &self.upload {
            let aborted = self.shared.bucket.abort(&self.key, &header.upload).await;
            aborted.map_err(failed(&self.path, "give up"))?;
        }
        self.forget(|_| false, self.at > 0).await
    }

    /// Goes through with an end, whether or not somebody waits for it.
    async fn end<F>(self, end: impl FnOnce(Self) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let operation = Arc::clone(&self.shared.operations).read_owned().await;
        let end = end(self);
        let task = async move {
            let _operation = operation;
            end.await
        };
        match tokio::spawn(task.in_current_span()).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[async_trait]
impl Writer for ObjectWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        let buffers: Vec<_> = buffers.into_iter().filter(|b| !b.is_empty()).collect();
        let added: usize = buffers.iter().map(Bytes::len).sum();
        if added == 0 {
            return Ok(());
        }
        self.usable()?;
        self.broken = true;
        self.is_stored = false;
        self.append(buffers, added).await?;
        self.size += added as u64;
        self.broken = false;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.end(Self::close_here).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.end(Self::commit_here).await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.end(Self::cancel_here).await
    }
}

/// Whether the store may have completed an upload although it does not say so.
fn is_doubtful(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) || is_answer_lost(error)
}
