//! The store's errors as the driver's.

use std::io;

use crate::{Error, StoragePath};

/// The error of an operation on `path`.
pub(super) fn failed(
    path: &StoragePath,
    operation: &'static str,
) -> impl Fn(object_store::Error) -> Error {
    move |error| match &error {
        object_store::Error::NotFound { .. } if !is_about_the_bucket(&error) => {
            Error::not_found(path)
        }
        _ => Error::io(path, operation, io::Error::new(kind(&error), words(&error))),
    }
}

/// Whether what is missing is no object but the bucket.
fn is_about_the_bucket(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound"]
        .iter()
        .any(|code| text.contains(code))
}

fn kind(error: &object_store::Error) -> io::ErrorKind {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        E::NotFound { .. } => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    }
}

/// Whether a range was asked for that lies behind the object's end.
pub(super) fn is_behind_the_end(error: &object_store::Error) -> bool {
    let text = error.to_string();
    // The last is what `object_store` says when a server gives nothing instead of refusing.
    ["416 ", "InvalidRange", "Wanted range starting at"]
        .iter()
        .any(|words| text.contains(words))
}

/// What the store said, without the addresses and times that stand around it.
fn words(error: &object_store::Error) -> String {
    let all = error.to_string();
    let element = |name: &str| {
        let (_, rest) = all.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        // Azure goes on with the request's number and time.
        text.trim().lines().next()
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => return format!("the store says {code}: {message}"),
        (Some(code), None) => return format!("the store says {code}"),
        _ => {}
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_own_words_are_told() {
        let error = object_store::Error::Generic {
            store: "S3",
            source: "Error performing GET http://x in 3s - Server returned non-2xx status code: \
                     503: <Error><Code>SlowDown</Code><Message>Less, please.</Message></Error>"
                .into(),
        };
        let path: StoragePath = "/a".parse().unwrap();
        let told = failed(&path, "read")(error).to_string();
        assert_eq!(told, "/a: read: the store says SlowDown: Less, please.");
    }
}
