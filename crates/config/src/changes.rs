//! What differs between two configurations, key by key.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Config;
use crate::secret;

impl Config {
    /// The keys whose values are not the same in `other`, in alphabetical order: `http.addr`,
    /// `http.headers.X-Frame-Options`. A list is one value. Secrets count, but are not told.
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.leaves(), other.leaves());
        let mut changed: Vec<String> = ours
            .iter()
            .filter(|(key, value)| theirs.get(*key) != Some(value))
            .map(|(key, _)| key.clone())
            .collect();
        changed.extend(theirs.into_keys().filter(|key| !ours.contains_key(key)));
        changed.sort_unstable();
        changed
    }

    /// Every key that has a value, with the value, secrets included.
    pub(crate) fn leaves(&self) -> BTreeMap<String, Value> {
        let tree = secret::exposed(|| serde_json::to_value(self));
        let mut leaves = BTreeMap::new();
        collect(tree.expect("it is plain data"), String::new(), &mut leaves);
        leaves
    }
}

/// Adds every key at and below `key` that has a value.
pub(crate) fn collect(value: Value, key: String, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (name, value) in entries {
                let below = match key.as_str() {
                    "" => name,
                    above => format!("{above}.{name}"),
                };
                collect(value, below, leaves);
            }
        }
        Value::Null => {}
        leaf => drop(leaves.insert(key, leaf)),
    }
}
