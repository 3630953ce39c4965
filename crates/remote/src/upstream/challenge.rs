//! What an upstream asks for to let somebody in (`WWW-Authenticate`, RFC 9110, section 11.6.1).

use http::{HeaderMap, header};

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme, in lower case.
    pub(super) scheme: String,
    /// Its parameters; their names are in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        parameters
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All challenges of an answer. What cannot be understood is left out.
    pub(super) fn all(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        texts.flat_map(Self::parse).collect()
    }

    fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        for part in split(text) {
            // A part is a scheme, a parameter, or a scheme with its first parameter.
            let (before, value) = match part.split_once('=') {
                Some((before, value)) => (before.trim(), Some(value.trim())),
                None => (part, None),
            };
            let (scheme, name) = match (before.split_once(char::is_whitespace), value) {
                (Some((scheme, name)), Some(_)) => (Some(scheme), name.trim()),
                (None, Some(_)) => (None, before),
                (_, None) => (Some(before), ""),
            };
            if let Some(scheme) = scheme {
                challenges.push(Self {
                    scheme: scheme.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
            }
            if let (Some(challenge), Some(value)) = (challenges.last_mut(), value) {
                let parameter = (name.to_ascii_lowercase(), unquoted(value));
                challenge.parameters.push(parameter);
            }
        }
        challenges
    }
}

/// The parts between commas, those within quotes aside.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.strip_suffix('"').unwrap_or(inner).chars();
    while let Some(c) = characters.next() {
        let c = if c == '\\' {
            characters.next()
        } else {
            Some(c)
        };
        text.extend(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart_in_whatever_form_they_come() {
        let text = "Bearer realm=\"https://a/t?x=1,2\",service=\"a \\\"b\\\"\" , \
                    scope=\"repository:x:pull,push\", Basic Realm=plain, Negotiate";
        let found = Challenge::parse(text);
        let schemes: Vec<_> = found.iter().map(|one| one.scheme.as_str()).collect();
        assert_eq!(schemes, ["bearer", "basic", "negotiate"]);
        assert_eq!(found[0].get("realm"), Some("https://a/t?x=1,2"));
        assert_eq!(found[0].get("service"), Some("a \"b\""));
        assert_eq!(found[0].get("scope"), Some("repository:x:pull,push"));
        assert_eq!(found[1].get("realm"), Some("plain"));
        assert_eq!(found[2].get("realm"), None);
    }

    #[test]
    fn nonsense_is_no_challenge_and_no_panic() {
        for text in ["", ",,", "=", "\"", "a=\"", "Basic =", "Bearer realm=\"\\"] {
            for challenge in Challenge::parse(text) {
                assert_ne!(challenge.get("realm"), Some("x"), "{text}");
            }
        }
        assert_eq!(Challenge::parse("realm=x"), []);
    }
}
