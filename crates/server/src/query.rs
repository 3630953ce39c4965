//! The query part of a request's target.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parameters of a query, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// A query as it stands behind the question mark; the empty string for none.
    pub fn new(query: &'a str) -> Self {
        Self(query)
    }

    /// Every value of a parameter, in order. Bytes that are no UTF-8 are replaced.
    pub fn all(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.0.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// The first value of a parameter; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).next().filter(|value| !value.is_empty())
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::new("digest=sha256%3aab&tag=a&tag=b%2Bc&x&y=&z=1+2");
        assert_eq!(query.get("digest").as_deref(), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b+c"]);
        assert_eq!(
            (query.get("x"), query.get("y"), query.get("none")),
            (None, None, None)
        );
        assert_eq!(query.get("z").as_deref(), Some("1 2"));
        assert_eq!(Query::new("a=%ff%").get("a").as_deref(), Some("\u{fffd}%"));
    }
}
