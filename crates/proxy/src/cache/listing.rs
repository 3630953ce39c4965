//! Lists of tags and referrers: what the upstream has told is kept as a note of the repository, and
//! served while it tells nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;
use wharfinger_oci::manifest::ContentDescriptor;
use wharfinger_oci::{Digest, Tag};
use wharfinger_registry::{Error as RegistryError, Note, Page};

use super::{Answer, CachedRepository};
use crate::Result;

impl CachedRepository {
    /// The tags that the upstream lists; or, while it does not, those that it has listed before, and
    /// those that are kept.
    ///
    /// # Errors
    /// When neither has the repository.
    pub async fn tags(
        &self,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Answer<Page<Tag>>> {
        let upstream = &self.shared.upstream;
        if self.is_listed(Note::Tags)
            && let Some(all) = self.noted_tags().await
        {
            return Ok(Answer::fresh(page(&all, after, limit)));
        }
        if upstream.is_resting()
            && let Some(all) = self.known_tags().await?
        {
            return Ok(self.shared.stale(page(&all, after, limit)));
        }
        let error = match upstream.tags(&self.there, limit, after).await {
            Ok(listed) => {
                let mut page = Page {
                    items: listed.tags,
                    more: listed.more,
                };
                // Some give everything whatever they are asked.
                if let Some(limit) = limit.filter(|limit| page.items.len() > *limit) {
                    self.keep_tags(None, &page).await;
                    page.items.sort();
                    page.items
                        .retain(|tag| after.is_none_or(|after| tag.as_str() > after));
                    page.more |= page.items.len() > limit;
                    page.items.truncate(limit);
                } else {
                    self.keep_tags(after, &page).await;
                }
                return Ok(Answer::fresh(page));
            }
            Err(error) => error,
        };
        match self.known_tags().await? {
            Some(all) => Ok(self.shared.stale(page(&all, after, limit))),
            None => Err(error.into()),
        }
    }

    /// The tags that the upstream has listed, and those that are kept; `None` where the repository
    /// is not known.
    async fn known_tags(&self) -> Result<Option<BTreeSet<Tag>>> {
        let noted = self.noted_tags().await;
        match self.local().tags().list(None, None).await {
            Ok(kept) => {
                let mut all = noted.unwrap_or_default();
                all.extend(kept.items);
                Ok(Some(all))
            }
            Err(RegistryError::NameUnknown(_)) => Ok(noted),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a part of the list, which takes the place of what was known between its ends.
    async fn keep_tags(&self, after: Option<&str>, part: &Page<Tag>) {
        let is_all = after.is_none() && !part.more;
        let mut all = match is_all {
            true => BTreeSet::new(),
            false => self.noted_tags().await.unwrap_or_default(),
        };
        // Where it has another order than that of bytes, nothing is between its ends.
        if part
            .items
            .is_sorted_by(|one, next| one.as_str() < next.as_str())
        {
            let end = part.items.last().filter(|_| part.more).map(Tag::as_str);
            all.retain(|tag: &Tag| {
                let is_before = after.is_some_and(|after| tag.as_str() <= after);
                is_before || end.is_some_and(|end| tag.as_str() > end)
            });
        }
        all.extend(part.items.iter().cloned());
        let all: Vec<_> = all.iter().map(Tag::as_str).collect();
        self.keep_list(Note::Tags, &all, is_all).await;
    }

    async fn noted_tags(&self) -> Option<BTreeSet<Tag>> {
        let noted: Vec<String> = self.noted(Note::Tags).await?;
        Some(noted.iter().filter_map(|tag| tag.parse().ok()).collect())
    }

    /// The referrers that the upstream lists; or, while it does not, those that it has listed
    /// before, or else those that are kept.
    ///
    /// # Errors
    /// When neither knows any.
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Answer<Vec<ContentDescriptor>>> {
        let upstream = &self.shared.upstream;
        let note = Note::Referrers(*subject);
        let wanted = |mut all: Vec<ContentDescriptor>| {
            let is_wanted = |one: &ContentDescriptor| {
                artifact_type.is_none() || one.artifact_type.as_deref() == artifact_type
            };
            all.retain(is_wanted);
            all
        };
        if self.is_listed(note)
            && let Some(all) = self.noted(note).await
        {
            return Ok(Answer::fresh(wanted(all)));
        }
        // All of them are asked for, whichever are wanted: so what is kept is the whole list.
        let error = match upstream.referrers(&self.there, subject, None).await {
            Ok(all) => {
                match all.is_empty() {
                    // Whoever makes up a subject gets this; nothing is kept of it.
                    true => self.forget_list(note).await,
                    false => self.keep_list(note, &all, true).await,
                }
                return Ok(Answer::fresh(wanted(all)));
            }
            Err(error) => error,
        };
        if let Some(noted) = self.noted(note).await {
            return Ok(self.shared.stale(wanted(noted)));
        }
        let kept = self.local().referrers();
        let kept = kept.list(subject, artifact_type).await?;
        match kept.is_empty() {
            true => Err(error.into()),
            false => Ok(self.shared.stale(kept)),
        }
    }

    /// Whether a whole list came so short a time ago that nobody need be asked.
    fn is_listed(&self, note: Note) -> bool {
        let listed = self.shared.listed.get(&(self.name.clone(), note));
        listed.is_some_and(|at| at.elapsed() < self.shared.options.tag_ttl)
    }

    /// A list as it was noted; one that cannot be read is none.
    async fn noted<T: DeserializeOwned>(&self, note: Note) -> Option<T> {
        let noted = self.local().note(note).await;
        let noted = noted.unwrap_or_else(|error| {
            warn!(repository = %self.name, %error, "a list that was kept cannot be read");
            None
        });
        serde_json::from_slice(&noted?).ok()
    }

    /// Notes a list. It is not kept for repositories of which there is nothing else: those that
    /// clients only ask about may be any number.
    async fn keep_list(&self, note: Note, list: &impl Serialize, is_all: bool) {
        let local = self.local();
        let kept = async {
            if !local.exists().await? {
                return Ok(false);
            }
            let Ok(content) = serde_json::to_vec(list) else {
                return Ok(false);
            };
            let content = Bytes::from(content);
            if local.note(note).await?.as_ref() != Some(&content) {
                local.set_note(note, content).await?;
            }
            Ok::<_, RegistryError>(true)
        };
        match kept.await {
            Ok(true) if is_all && !self.shared.options.tag_ttl.is_zero() => {
                let key = (self.name.clone(), note);
                self.shared.listed.insert(key, Instant::now());
            }
            Ok(_) | Err(RegistryError::ReadOnly) => {}
            Err(error) => warn!(repository = %self.name, %error, "a list is not kept"),
        }
    }

    async fn forget_list(&self, note: Note) {
        let local = self.local();
        let forgotten = async {
            match local.note(note).await? {
                Some(_) => local.remove_note(note).await,
                None => Ok(()),
            }
        };
        match forgotten.await {
            Ok(()) | Err(RegistryError::ReadOnly) => {}
            Err(error) => warn!(repository = %self.name, %error, "a list that was kept stays"),
        }
    }
}

/// A part of a list.
fn page(all: &BTreeSet<Tag>, after: Option<&str>, limit: Option<usize>) -> Page<Tag> {
    let mut rest = all
        .iter()
        .filter(|tag| after.is_none_or(|after| tag.as_str() > after))
        .cloned();
    let items = rest.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    Page {
        items,
        more: rest.next().is_some(),
    }
}
