//! Notes: small things that whoever embeds the registry remembers of a repository, beside its
//! content. A crash may lose the last ones.

use bytes::Bytes;
use wharfinger_oci::Digest;
use wharfinger_storage::Durability;

use crate::link::ignore_absent;
use crate::{Repository, Result, layout};

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// When what it keeps was used.
    Uses,
    /// The tags that another registry has listed.
    Tags,
    /// The referrers of a manifest that another registry has listed.
    Referrers(Digest),
}

impl Note {
    fn about(self) -> String {
        match self {
            Self::Uses => "uses".to_owned(),
            Self::Tags => "tags".to_owned(),
            Self::Referrers(digest) => {
                format!("referrers/{}/{}", digest.algorithm(), digest.hex())
            }
        }
    }
}

impl Repository {
    /// A note as it was last written, or `None`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note(&self, note: Note) -> Result<Option<Bytes>> {
        let path = layout::note(&self.name, &note.about());
        match self.shared.driver.get(&path).await {
            Err(error) if error.is_not_found() => Ok(None),
            content => Ok(Some(content?)),
        }
    }

    /// Writes a note in place of the last one.
    ///
    /// # Errors
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), or that the store failed.
    pub async fn set_note(&self, note: Note, content: Bytes) -> Result<()> {
        let _writing = self.shared.writing()?;
        let path = layout::note(&self.name, &note.about());
        let driver = &self.shared.driver;
        Ok(driver.put(&path, content, Durability::Process).await?)
    }

    /// Removes a note, if it is there.
    ///
    /// # Errors
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), or that the store failed.
    pub async fn remove_note(&self, note: Note) -> Result<()> {
        let _writing = self.shared.writing()?;
        let path = layout::note(&self.name, &note.about());
        ignore_absent(self.shared.driver.discard(&path).await)
    }

    /// Removes all notes.
    ///
    /// # Errors
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), or that the store failed.
    pub async fn remove_notes(&self) -> Result<()> {
        let _writing = self.shared.writing()?;
        let folder = layout::notes(&self.name);
        ignore_absent(self.shared.driver.discard(&folder).await)
    }
}
