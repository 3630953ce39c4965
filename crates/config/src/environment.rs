//! The environment: `REGISTRY_HTTP_ADDR` stands for `http.addr`, whatever the file says.
//!
//! Which key a variable means is decided by the tree it is put into, as in Distribution: names are
//! split at `_`, numbers are places in lists, and everything else is a key in lower case, unless
//! the file has one that differs in case alone.

use crate::node::{Key, Node, Value};
use crate::problem::{Origin, Problem};

const PREFIX: &str = "REGISTRY_";

/// Not keys of the configuration: where the file is.
const RESERVED: [&str; 1] = ["REGISTRY_CONFIGURATION_PATH"];

/// Puts what the environment says into the tree.
///
/// # Errors
/// A variable whose value is not YAML, or which names a place that the tree cannot have.
pub(crate) fn apply(
    tree: &mut Node,
    variables: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<Problem>,
) -> Result<(), Vec<Problem>> {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !RESERVED.contains(&name.as_str()))
        .collect();
    // In order of names, so that REGISTRY_STORAGE comes before REGISTRY_STORAGE_S3_BUCKET.
    variables.sort();
    let mut problems = Vec::new();
    for (name, text) in variables {
        let origin = Origin::Environment(name.as_str().into());
        let path: Vec<&str> = name[PREFIX.len()..].split('_').collect();
        let outcome = Node::parse(&text, &|_| origin.clone(), warnings)
            .and_then(|value| put(tree, &path, &mut Vec::new(), value));
        if let Err(problem) = outcome {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn put(node: &mut Node, path: &[&str], above: &mut Vec<String>, new: Node) -> Result<(), Problem> {
    let Some((&segment, rest)) = path.split_first() else {
        *node = new;
        return Ok(());
    };
    let origin = new.origin.clone();
    let wrong = |message: String| Problem {
        origin: origin.clone(),
        key: above.join("."),
        message,
    };
    if segment.is_empty() {
        return Err(wrong("two `_` in a row name no key".to_owned()));
    }
    node.spell_out();
    let index = segment.parse::<usize>().ok();
    if let (Value::Null, Some(0)) = (&node.value, index) {
        node.value = Value::List(Vec::new());
    }
    match &mut node.value {
        Value::List(items) => {
            let Some(index) = index.filter(|index| *index <= items.len()) else {
                return Err(wrong(format!(
                    "{segment:?} is no place in a list of {}; the next free place is {0}",
                    items.len()
                )));
            };
            if index == items.len() {
                items.push(Node::new(Value::Null, new.origin.clone()));
            }
            above.push(index.to_string());
            put(&mut items[index], rest, above, new)
        }
        other => {
            if !matches!(other, Value::Map(_)) {
                *other = Value::Map(Vec::new());
            }
            let Value::Map(entries) = other else {
                unreachable!("it was made a map")
            };
            let at = entries
                .iter()
                .position(|(key, _)| key.text.to_uppercase() == segment.to_uppercase());
            let at = at.unwrap_or_else(|| {
                let key = Key {
                    text: segment.to_lowercase(),
                    origin: new.origin.clone(),
                };
                entries.push((key, Node::new(Value::Null, new.origin.clone())));
                entries.len() - 1
            });
            above.push(entries[at].0.text.clone());
            put(&mut entries[at].1, rest, above, new)
        }
    }
}
