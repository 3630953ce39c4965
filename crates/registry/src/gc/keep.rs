//! Which manifests of a repository stay when untagged ones go.

use std::collections::HashMap;

use wharfinger_oci::Digest;

use super::mark::Node;

/// Whether each of `nodes` stays: those that a tag stands for, what those mention, and what has
/// one of those as its subject; and so on from there.
pub(super) fn kept(nodes: &[Node], tagged: &[Digest]) -> Vec<bool> {
    // A manifest goes by several digests when it was pushed under several algorithms.
    let mut by_digest: HashMap<Digest, Vec<usize>> = HashMap::new();
    let mut by_subject: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        by_digest.entry(node.digest).or_default().push(index);
        if node.digest != node.canonical {
            by_digest.entry(node.canonical).or_default().push(index);
        }
        for subject in &node.mentions.subjects {
            by_subject.entry(*subject).or_default().push(index);
        }
    }
    let mut stays = vec![false; nodes.len()];
    let mut pending: Vec<Digest> = tagged.to_vec();
    while let Some(digest) = pending.pop() {
        let named = by_digest.get(&digest).into_iter().flatten();
        for &index in named {
            if std::mem::replace(&mut stays[index], true) {
                continue;
            }
            let node = &nodes[index];
            pending.extend([node.digest, node.canonical]);
            pending.extend(&node.mentions.digests);
            for own in [node.digest, node.canonical] {
                let referrers = by_subject.get(&own).into_iter().flatten();
                pending.extend(referrers.map(|&referrer| nodes[referrer].digest));
            }
        }
    }
    stays
}
