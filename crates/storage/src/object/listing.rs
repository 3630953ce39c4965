//! Folders as they are listed: prefixes of keys, in the order of names.
//!
//! A store lists by key, and the key of what is in a folder goes on with a slash behind the
//! folder's name. So the folder `a` comes behind `a-b` and `a.b`, while as names it comes first.
//! Only then: whatever folder may still come, and belongs before a name that has come already,
//! is a beginning of the key that came last. Those few are asked for one by one.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::bucket::{Bucket, PAGE};
use crate::Entry;
use crate::path::is_part;

type Result<T> = object_store::Result<T>;

/// The entries of the folder whose keys start with `prefix`, by their names, from behind `after`
/// on, `limit` at the most; `None` where the folder is not there.
pub(super) async fn list(
    bucket: &Bucket,
    prefix: &str,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Option<Vec<Entry>>> {
    let limit = limit.unwrap_or(usize::MAX);
    let after = after.unwrap_or_default();
    let mut found = BTreeMap::new();
    let mut seen_any = false;
    let start = (!after.is_empty()).then(|| format!("{prefix}{after}"));
    let mut listing = bucket.list(prefix, start, true, limit.saturating_add(2).min(PAGE));
    while limit > 0
        && let Some(page) = listing.next().await?
    {
        seen_any |= !page.objects.is_empty() || !page.folders.is_empty();
        let mut last = String::new();
        let mut files = Vec::new();
        for object in &page.objects {
            if bucket.is_file(&object.key, object.size).await? {
                files.push(&object.key);
            }
        }
        let objects = files.into_iter().map(|key| (key, false));
        for (key, is_dir) in objects.chain(page.folders.iter().map(|key| (key, true))) {
            let name = key.get(prefix.len()..).unwrap_or_default();
            let place = if is_dir {
                format!("{name}/")
            } else {
                name.to_owned()
            };
            last = last.max(place);
            if is_part(name) && name > after {
                *found.entry(name.to_owned()).or_insert(is_dir) |= is_dir;
            }
        }
        if listing.is_at_end() || found.len() < limit {
            continue;
        }
        let behind = found.keys().nth(limit - 1).cloned().unwrap_or_default();
        let open: Vec<&str> = beginnings(&last)
            .filter(|name| is_part(name) && *name > after && **name < *behind)
            .filter(|name| !found.contains_key(*name))
            .collect();
        let asked = open.iter().map(|name| {
            let below = format!("{prefix}{name}/");
            async move { bucket.has_any(&below).await }
        });
        for (name, is_there) in open.iter().zip(try_join_all(asked).await?) {
            if is_there {
                found.insert((*name).to_owned(), true);
            }
        }
        break;
    }
    if !seen_any && !prefix.is_empty() && (limit == 0 || !after.is_empty()) {
        seen_any = bucket.has_any(prefix).await?;
    }
    let entries = found.into_iter().take(limit);
    let entries = entries.map(|(name, is_dir)| Entry { name, is_dir });
    Ok(seen_any.then(|| entries.collect()))
}

/// The beginnings of a name that end before a letter which sorts before the slash.
fn beginnings(name: &str) -> impl Iterator<Item = &str> {
    let early = name.bytes().enumerate().filter(|(_, byte)| *byte < b'/');
    early.map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beginnings_before_a_dash_or_a_dot_may_follow() {
        let all: Vec<_> = beginnings("1.0-rc.1/").collect();
        assert_eq!(all, ["1", "1.0", "1.0-rc"]);
        assert_eq!(beginnings("latest").count(), 0);
    }
}
