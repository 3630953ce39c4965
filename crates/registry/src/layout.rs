//! Where everything lies below the driver's root: the one place that knows CNCF Distribution's
//! layout. Given names and digests, a path; given a path, what it is ([`locate`]).

use wharfinger_oci::{Algorithm, Digest, RepositoryName, Tag};
use wharfinger_storage::StoragePath;

use crate::UploadId;

const BLOBS: &str = "/docker/registry/v2/blobs";
const REPOSITORIES: &str = "/docker/registry/v2/repositories";
/// What the name of an upload's small file ends with.
const SMALL_UPLOAD: &str = ".small";
const GC: &str = "/docker/registry/v2/_gc";
const QUARANTINE: &str = "/docker/registry/v2/_quarantine";
const TURNS: &str = "/docker/registry/v2/_turns";
const SCRUB: &str = "/docker/registry/v2/_scrub";
const NOTES: &str = "/docker/registry/v2/_notes";

fn path(text: String) -> StoragePath {
    text.try_into().expect("names and digests make valid paths")
}

/// Put together without a formatter, for what requests ask for again and again.
fn path_of(parts: &[&str]) -> StoragePath {
    path(parts.concat())
}

fn algorithm_and_hex(digest: &Digest) -> String {
    let mut text = String::with_capacity(7 + 128);
    text.push_str(digest.algorithm().as_str());
    text.push('/');
    digest.push_hex(&mut text);
    text
}

/// The folder that a file lies in.
pub fn folder_of(file: &StoragePath) -> StoragePath {
    file.parent().unwrap_or_else(StoragePath::root)
}

/// The folder that holds all blobs.
pub fn blobs() -> StoragePath {
    path(BLOBS.to_owned())
}

/// The bytes of a blob.
pub fn blob_data(digest: &Digest) -> StoragePath {
    blob_path(digest, "/data")
}

/// The folder of a blob.
pub fn blob(digest: &Digest) -> StoragePath {
    blob_path(digest, "")
}

fn blob_path(digest: &Digest, file: &str) -> StoragePath {
    let hex = digest.hex();
    path_of(&[
        BLOBS,
        "/",
        digest.algorithm().as_str(),
        "/",
        &hex[..2],
        "/",
        &hex,
        file,
    ])
}

/// The folder of all blobs of one algorithm, in which they lie by the first two digits of their
/// digest.
pub fn blobs_of(algorithm: Algorithm) -> StoragePath {
    path(format!("{BLOBS}/{algorithm}"))
}

/// The folder that holds all repositories.
pub fn repositories() -> StoragePath {
    path(REPOSITORIES.to_owned())
}

/// A repository's folder; other repositories may lie below it.
pub fn repository(name: &RepositoryName) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}"))
}

/// The folder of a repository's links to layers under one algorithm.
pub fn layers(name: &RepositoryName, algorithm: Algorithm) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_layers/{algorithm}"))
}

/// A repository's link to a layer (or any other blob).
pub fn layer_link(name: &RepositoryName, digest: &Digest) -> StoragePath {
    let blob = algorithm_and_hex(digest);
    path_of(&[
        REPOSITORIES,
        "/",
        name.as_str(),
        "/_layers/",
        &blob,
        "/link",
    ])
}

/// The folder of a repository's manifests: its presence makes a repository.
pub fn manifests(name: &RepositoryName) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_manifests"))
}

/// The folder of a repository's revisions under one algorithm.
pub fn revisions(name: &RepositoryName, algorithm: Algorithm) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/revisions/{algorithm}"
    ))
}

/// The folder of one revision.
pub fn revision(name: &RepositoryName, digest: &Digest) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/revisions/{}",
        algorithm_and_hex(digest)
    ))
}

/// A repository's link to a manifest.
pub fn revision_link(name: &RepositoryName, digest: &Digest) -> StoragePath {
    let revision = algorithm_and_hex(digest);
    let revisions = "/_manifests/revisions/";
    path_of(&[
        REPOSITORIES,
        "/",
        name.as_str(),
        revisions,
        &revision,
        "/link",
    ])
}

/// The folder of a revision's signatures under one algorithm (schema 1).
pub fn signatures(name: &RepositoryName, revision: &Digest, algorithm: Algorithm) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/revisions/{}/signatures/{algorithm}",
        algorithm_and_hex(revision)
    ))
}

/// A revision's link to one of its signatures (schema 1).
pub fn signature_link(name: &RepositoryName, revision: &Digest, signature: &Digest) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/revisions/{}/signatures/{}/link",
        algorithm_and_hex(revision),
        algorithm_and_hex(signature)
    ))
}

/// The folder of a repository's tags.
pub fn tags(name: &RepositoryName) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_manifests/tags"))
}

/// The folder of one tag.
pub fn tag(name: &RepositoryName, tag: &Tag) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_manifests/tags/{tag}"))
}

/// The link from a tag to the manifest it stands for.
pub fn tag_current(name: &RepositoryName, tag: &Tag) -> StoragePath {
    let (tags, current) = ("/_manifests/tags/", "/current/link");
    path_of(&[
        REPOSITORIES,
        "/",
        name.as_str(),
        tags,
        tag.as_str(),
        current,
    ])
}

/// The folder of the manifests that a tag has stood for, under one algorithm.
pub fn tag_index(name: &RepositoryName, tag: &Tag, algorithm: Algorithm) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/tags/{tag}/index/{algorithm}"
    ))
}

/// The link to one manifest that a tag has stood for.
pub fn tag_index_link(name: &RepositoryName, tag: &Tag, digest: &Digest) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/tags/{tag}/index/{}/link",
        algorithm_and_hex(digest)
    ))
}

/// The folder of the manifests, under one algorithm, whose subject is `subject`. Unknown to
/// Distribution, which reads only revisions and tags here.
pub fn referrers(name: &RepositoryName, subject: &Digest, algorithm: Algorithm) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/referrers/{}/{algorithm}",
        algorithm_and_hex(subject)
    ))
}

/// The folder of the subjects, under one algorithm, that manifests of the repository have.
pub fn subjects(name: &RepositoryName, algorithm: Algorithm) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/referrers/{algorithm}"
    ))
}

/// The link to one manifest whose subject is `subject`.
pub fn referrer_link(name: &RepositoryName, subject: &Digest, referrer: &Digest) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_manifests/referrers/{}/{}/link",
        algorithm_and_hex(subject),
        algorithm_and_hex(referrer)
    ))
}

/// The folder of a repository's uploads under way.
pub fn uploads(name: &RepositoryName) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_uploads"))
}

/// The folder of one upload.
pub fn upload(name: &RepositoryName, id: &UploadId) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_uploads/{id}"))
}

/// The bytes of an upload that has received little, in a file of their own. Distribution does not know
/// it.
pub fn small_upload(name: &RepositoryName, id: &UploadId) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_uploads/{id}{SMALL_UPLOAD}"))
}

/// The upload that something in the folder of uploads belongs to.
pub fn upload_of(entry: &str) -> Option<UploadId> {
    entry
        .strip_suffix(SMALL_UPLOAD)
        .unwrap_or(entry)
        .parse()
        .ok()
}

/// The bytes an upload has received.
pub fn upload_data(name: &RepositoryName, id: &UploadId) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_uploads/{id}/data"))
}

/// When an upload was begun, in RFC 3339.
pub fn upload_started_at(name: &RepositoryName, id: &UploadId) -> StoragePath {
    path(format!("{REPOSITORIES}/{name}/_uploads/{id}/startedat"))
}

/// The folder of an upload's saved hash states under one algorithm.
pub fn hash_states(name: &RepositoryName, id: &UploadId, algorithm: Algorithm) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_uploads/{id}/hashstates/{algorithm}"
    ))
}

/// An upload's hash state after `offset` bytes.
pub fn hash_state(
    name: &RepositoryName,
    id: &UploadId,
    algorithm: Algorithm,
    offset: u64,
) -> StoragePath {
    path(format!(
        "{REPOSITORIES}/{name}/_uploads/{id}/hashstates/{algorithm}/{offset}"
    ))
}

/// The folder of what collections tell others. Distribution looks at none of it.
pub fn gc() -> StoragePath {
    path(GC.to_owned())
}

/// Where collection stands.
pub fn gc_state() -> StoragePath {
    path(format!("{GC}/state"))
}

/// The last sign of life of whoever collects.
pub fn gc_beat() -> StoragePath {
    path(format!("{GC}/beat"))
}

/// What the last collection has counted.
pub fn gc_last() -> StoragePath {
    path(format!("{GC}/last"))
}

/// The folder of all collections' lists and pardons.
pub fn gc_runs() -> StoragePath {
    path(format!("{GC}/runs"))
}

/// The folder of one collection.
pub fn gc_run(run: &str) -> StoragePath {
    path(format!("{GC}/runs/{run}"))
}

/// One of the files that list what a collection has condemned.
pub fn gc_condemned(run: &str, file: u32) -> StoragePath {
    path(format!("{GC}/runs/{run}/condemned/{file}"))
}

/// The folder of a collection's pardons.
pub fn gc_pardons(run: &str) -> StoragePath {
    path(format!("{GC}/runs/{run}/pardoned"))
}

/// One of a collection's pardons.
pub fn gc_pardon(run: &str, key: &str) -> StoragePath {
    path(format!("{GC}/runs/{run}/pardoned/{key}"))
}

/// How far a collection has got with its removals.
pub fn gc_removed(run: &str) -> StoragePath {
    path(format!("{GC}/runs/{run}/removed"))
}

/// Where the bytes of a damaged blob are put aside; `when` tells one time from another. Distribution
/// looks at none of it.
pub fn quarantined(digest: &Digest, when: &str) -> StoragePath {
    path(format!("{QUARANTINE}/{}/{when}", algorithm_and_hex(digest)))
}

/// The folder of what has been taken out of its place and not been looked at again.
pub fn suspects() -> StoragePath {
    path(format!("{QUARANTINE}/suspects"))
}

/// Where a blob is while it is looked at again.
pub fn suspect(digest: &Digest) -> StoragePath {
    path(format!("{QUARANTINE}/suspects/{}", digest.hex()))
}

/// The folder of what the check in the background remembers. Distribution looks at none of it.
pub fn scrub() -> StoragePath {
    path(SCRUB.to_owned())
}

/// How far the check in the background has got.
pub fn scrub_state() -> StoragePath {
    path(format!("{SCRUB}/state"))
}

/// The folder of what is remembered of some work that is done again and again. Distribution looks at
/// none of it. The work's name is made of letters, digits, `-`, `_` and `.`.
pub fn turn(work: &str) -> StoragePath {
    path(format!("{TURNS}/{work}"))
}

/// When that work was done.
pub fn turn_state(work: &str) -> StoragePath {
    path(format!("{TURNS}/{work}/state"))
}

/// The folder of what is noted of a repository. Distribution looks at none of it.
pub fn notes(name: &RepositoryName) -> StoragePath {
    path(format!("{NOTES}/{name}/_"))
}

/// Something that is noted of a repository, by what it is about.
pub(crate) fn note(name: &RepositoryName, about: &str) -> StoragePath {
    path(format!("{NOTES}/{name}/_/{about}"))
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// The bytes of a blob.
    BlobData(Digest),
    /// A repository's link to a layer.
    LayerLink(RepositoryName, Digest),
    /// A repository's link to a manifest.
    RevisionLink(RepositoryName, Digest),
    /// A revision's link to a signature.
    SignatureLink(RepositoryName, Digest, Digest),
    /// The link from a tag to the manifest it stands for.
    TagCurrent(RepositoryName, Tag),
    /// The link to a manifest that a tag has stood for.
    TagIndexLink(RepositoryName, Tag, Digest),
    /// The link to a manifest whose subject is the first digest.
    ReferrerLink(RepositoryName, Digest, Digest),
    /// The folder of an upload, or anything below it, or its small file.
    Upload(RepositoryName, UploadId),
}

/// What lies at `path`, or `None` when the layout has no place for it.
pub fn locate(path: &StoragePath) -> Option<Located> {
    let text = path.as_str();
    if let Some(rest) = text.strip_prefix(BLOBS) {
        let parts: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
        let [algorithm, first_two, hex, "data"] = parts[..] else {
            return None;
        };
        let digest = parse_digest(algorithm, hex)?;
        return (hex.get(..2) == Some(first_two)).then_some(Located::BlobData(digest));
    }
    let rest = text.strip_prefix(REPOSITORIES)?.strip_prefix('/')?;
    let (name, inside) = rest.split_once("/_")?;
    let name: RepositoryName = name.parse().ok()?;
    let parts: Vec<&str> = inside.split('/').collect();
    Some(match parts[..] {
        ["layers", a, h, "link"] => Located::LayerLink(name, parse_digest(a, h)?),
        ["manifests", "revisions", a, h, "link"] => {
            Located::RevisionLink(name, parse_digest(a, h)?)
        }
        ["manifests", "revisions", a, h, "signatures", sa, sh, "link"] => {
            Located::SignatureLink(name, parse_digest(a, h)?, parse_digest(sa, sh)?)
        }
        ["manifests", "tags", tag, "current", "link"] => {
            Located::TagCurrent(name, tag.parse().ok()?)
        }
        ["manifests", "tags", tag, "index", a, h, "link"] => {
            Located::TagIndexLink(name, tag.parse().ok()?, parse_digest(a, h)?)
        }
        ["manifests", "referrers", sa, sh, a, h, "link"] => {
            Located::ReferrerLink(name, parse_digest(sa, sh)?, parse_digest(a, h)?)
        }
        ["uploads", entry, ..] => Located::Upload(name, upload_of(entry)?),
        _ => return None,
    })
}

fn parse_digest(algorithm: &str, hex: &str) -> Option<Digest> {
    Digest::from_hex(algorithm.parse().ok()?, hex).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Digest> {
        (any::<[u8; 64]>(), any::<bool>()).prop_map(|(raw, sha512)| {
            let algorithm = if sha512 {
                Algorithm::Sha512
            } else {
                Algorithm::Sha256
            };
            Digest::from_raw(algorithm, &raw[..algorithm.len()]).unwrap()
        })
    }

    proptest! {
        #[test]
        fn paths_and_what_they_are_agree(
            name in "[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,6}){0,3}",
            tag_text in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
            a in digest(),
            b in digest(),
            offset: u64,
        ) {
            let name: RepositoryName = name.parse().unwrap();
            let tag: Tag = tag_text.parse().unwrap();
            let id = UploadId::generate();
            let pairs = [
                (blob_data(&a), Located::BlobData(a)),
                (layer_link(&name, &a), Located::LayerLink(name.clone(), a)),
                (revision_link(&name, &a), Located::RevisionLink(name.clone(), a)),
                (signature_link(&name, &a, &b), Located::SignatureLink(name.clone(), a, b)),
                (tag_current(&name, &tag), Located::TagCurrent(name.clone(), tag.clone())),
                (tag_index_link(&name, &tag, &a), Located::TagIndexLink(name.clone(), tag, a)),
                (referrer_link(&name, &a, &b), Located::ReferrerLink(name.clone(), a, b)),
                (upload_data(&name, &id), Located::Upload(name.clone(), id.clone())),
                (small_upload(&name, &id), Located::Upload(name.clone(), id.clone())),
                (upload_started_at(&name, &id), Located::Upload(name.clone(), id.clone())),
                (
                    hash_state(&name, &id, Algorithm::Sha256, offset),
                    Located::Upload(name.clone(), id),
                ),
            ];
            for (path, located) in pairs {
                prop_assert_eq!(locate(&path), Some(located));
            }
        }
    }

    #[test]
    fn a_blob_in_the_wrong_shard_is_not_located() {
        let digest = Digest::canonical(b"x");
        let hex = digest.hex();
        let wrong = format!("{BLOBS}/sha256/zz/{hex}/data");
        assert_eq!(locate(&wrong.parse().unwrap()), None);
    }

    #[test]
    fn the_layout_is_distributions() {
        let name: RepositoryName = "library/debian".parse().unwrap();
        let digest = Digest::canonical(b"");
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            blob_data(&digest).as_str(),
            format!("/docker/registry/v2/blobs/sha256/e3/{hex}/data")
        );
        assert_eq!(
            revision_link(&name, &digest).as_str(),
            format!(
                "/docker/registry/v2/repositories/library/debian/_manifests/revisions/sha256/{hex}/link"
            )
        );
    }
}
