//! What happened, as receivers of CNCF Distribution's notifications read it.

use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;
use wharfinger_oci::{Digest, RepositoryName, Tag};

use crate::Reference;

/// What was done with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A blob or manifest came in.
    Push,
    /// A blob or manifest was asked for and answered, by its bytes or in part, by their headers,
    /// or by another place to get it from.
    Pull,
    /// A repository got a blob that the registry had.
    Mount,
    /// A repository lost a blob, a manifest or a tag.
    Delete,
}

/// A text that is no action.
#[derive(Debug, Error)]
#[error("{0:?} is no action; there are push, pull, mount, delete")]
pub struct InvalidAction(String);

impl Action {
    /// Its name in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

impl FromStr for Action {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, InvalidAction> {
        let all = [Self::Push, Self::Pull, Self::Mount, Self::Delete];
        let found = all.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| InvalidAction(text.to_owned()))
    }
}

/// Something that happened to content.
#[derive(Clone, Debug)]
pub struct Event {
    /// Unlike that of any other event.
    pub id: Uuid,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What was done.
    pub action: Action,
    /// To what.
    pub target: Target,
    /// By which request.
    pub request: Request,
    /// By whom: a user's name, or empty when nobody said one.
    pub actor: String,
}

impl Event {
    /// An event that happens now.
    pub fn new(action: Action, target: Target, request: Request, actor: String) -> Self {
        Self {
            id: Uuid::new_v4(),
            timestamp: Timestamp::now(),
            action,
            target,
            request,
            actor,
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// The content's media type; empty when something is deleted.
    pub media_type: Arc<str>,
    /// The content's digest; none when a tag is deleted.
    pub digest: Option<Digest>,
    /// The content's size in bytes; 0 when something is deleted.
    pub size: u64,
    /// The repository.
    pub repository: RepositoryName,
    /// The repository that a blob was mounted from, when the client named it.
    pub from_repository: Option<RepositoryName>,
    /// Where the content can be had; empty when something is deleted.
    pub url: String,
    /// The tag that was pushed, pulled or deleted.
    pub tag: Option<Tag>,
    /// What a manifest refers to, where receivers are told of it.
    pub references: Vec<Reference>,
}

impl Target {
    /// Something in a repository of which nothing more is known.
    pub fn in_repository(repository: RepositoryName) -> Self {
        Self {
            media_type: "".into(),
            digest: None,
            size: 0,
            repository,
            from_repository: None,
            url: String::new(),
            tag: None,
            references: Vec::new(),
        }
    }
}

/// The request that an event comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Its name in logs.
    pub id: String,
    /// The client's address, as the registry or a proxy before it sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// The host it was sent to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its method.
    pub method: String,
    /// What sent it.
    pub useragent: String,
}

/// The registry that events come from.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// The machine's name and the port that the registry listens on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// Names the running process.
    #[serde(rename = "instanceID")]
    pub instance_id: Uuid,
}

/// Which of Distribution's two forms events have. Their fields are the same; they differ in the
/// media type of the envelope, and in whether the media type, digest and size of a target are there
/// when they are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// That of Distribution 2.
    #[default]
    V1,
    /// That of Distribution 3.
    V2,
}

impl Format {
    /// The media type of an envelope.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::V1 => "application/vnd.docker.distribution.events.v1+json",
            Self::V2 => "application/vnd.docker.distribution.events.v2+json",
        }
    }
}

/// An envelope around one event. Distribution's receivers get one at a time.
pub(crate) fn envelope(event: &[u8]) -> Vec<u8> {
    const OPEN: &[u8] = b"{\"events\":[";
    const CLOSE: &[u8] = b"]}";
    [OPEN, event, CLOSE].concat()
}

#[derive(Serialize)]
struct Wire<'a> {
    id: Uuid,
    timestamp: Timestamp,
    action: &'static str,
    target: WireTarget<'a>,
    request: &'a Request,
    actor: WireActor<'a>,
    source: &'a Source,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTarget<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    length: u64,
    repository: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_repository: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    references: &'a [Reference],
}

#[derive(Serialize)]
struct WireActor<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An event as JSON.
pub(crate) fn to_json(event: &Event, source: &Source, format: Format) -> Vec<u8> {
    let target = &event.target;
    let always = format == Format::V2;
    let digest = target.digest.map(|digest| digest.to_string());
    let wire = Wire {
        id: event.id,
        timestamp: event.timestamp,
        action: event.action.as_str(),
        target: WireTarget {
            media_type: Some(&*target.media_type).filter(|text| always || !text.is_empty()),
            digest: digest.or_else(|| always.then(String::new)),
            size: Some(target.size).filter(|size| always || *size > 0),
            length: target.size,
            repository: target.repository.as_str(),
            from_repository: target.from_repository.as_ref().map(RepositoryName::as_str),
            url: &target.url,
            tag: target.tag.as_ref().map(Tag::as_str),
            references: &target.references,
        },
        request: &event.request,
        actor: WireActor { name: &event.actor },
        source,
    };
    serde_json::to_vec(&wire).expect("an event is plain data")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(action: Action, target: Target) -> Event {
        let request = Request {
            id: "r1".to_owned(),
            addr: "192.0.2.1:40000".to_owned(),
            host: "registry.example".to_owned(),
            method: "PUT".to_owned(),
            useragent: String::new(),
        };
        let mut event = Event::new(action, target, request, "ann".to_owned());
        event.id = Uuid::from_u128(1);
        event.timestamp = Timestamp::new(1_457_563_466, 402_973_900).unwrap();
        event
    }

    fn source() -> Source {
        Source {
            addr: "node:5000".to_owned(),
            instance_id: Uuid::from_u128(2),
        }
    }

    fn written(event: &Event, format: Format) -> Value {
        let body = envelope(&to_json(event, &source(), format));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["events"].as_array().unwrap().len(), 1);
        body["events"][0].clone()
    }

    #[test]
    fn a_push_is_written_as_distribution_writes_it() {
        let digest = Digest::canonical(b"x");
        let mut target = Target::in_repository("a/b".parse().unwrap());
        target.media_type = "application/vnd.oci.image.manifest.v1+json".into();
        target.digest = Some(digest);
        target.size = 708;
        target.url = format!("http://registry.example/v2/a/b/manifests/{digest}");
        target.tag = Some("latest".parse().unwrap());
        let event = event(Action::Push, target);
        let expected = json!({
            "id": "00000000-0000-0000-0000-000000000001",
            "timestamp": "2016-03-09T22:44:26.4029739Z",
            "action": "push",
            "target": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest.to_string(), "size": 708, "length": 708, "repository": "a/b",
                "url": format!("http://registry.example/v2/a/b/manifests/{digest}"),
                "tag": "latest",
            },
            "request": {
                "id": "r1", "addr": "192.0.2.1:40000", "host": "registry.example",
                "method": "PUT", "useragent": "",
            },
            "actor": {"name": "ann"},
            "source": {"addr": "node:5000", "instanceID": "00000000-0000-0000-0000-000000000002"},
        });
        assert_eq!(written(&event, Format::V1), expected);
        assert_eq!(written(&event, Format::V2), expected);
    }

    #[test]
    fn what_is_empty_is_written_as_each_distribution_does() {
        let mut target = Target::in_repository("a".parse().unwrap());
        target.tag = Some("old".parse().unwrap());
        let mut event = event(Action::Delete, target);
        event.actor.clear();
        event.request.addr.clear();
        let v1 = written(&event, Format::V1);
        assert_eq!(v1["target"], json!({"repository": "a", "tag": "old"}));
        assert_eq!(v1["actor"], json!({}));
        assert!(v1["request"].get("addr").is_none());
        let empty = json!({
            "mediaType": "", "digest": "", "size": 0, "repository": "a", "tag": "old",
        });
        assert_eq!(written(&event, Format::V2)["target"], empty);
    }

    #[test]
    fn actions_are_read_by_the_names_they_have_in_events() {
        for name in ["push", "pull", "mount", "delete"] {
            assert_eq!(name.parse::<Action>().unwrap().as_str(), name);
        }
        assert!("Push".parse::<Action>().is_err());
    }
}
