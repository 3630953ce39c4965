//! The bodies of requests.

mod feeder;
mod source;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::request::Parts;
use hyper::body::Incoming;
use thiserror::Error;

use crate::intake::Intake;
use feeder::Fed;
pub(crate) use feeder::Feeder;
use source::Source;
pub(crate) use source::{Counted, Rest};

/// Of a body of up to this many bytes, which a handler keeps in memory anyway, all is waited for
/// before the handler begins.
const SHORT: usize = 64 * 1024;

/// Why a body ended before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The connection broke, or what came over it was not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The connection is no more.
    #[error("the connection ended before all of it had come")]
    Gone,
    /// Nothing came for too long.
    #[error("nothing came for {} seconds", .0.as_secs_f32())]
    Timeout(Duration),
    /// More came than was let come.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
}

/// A body on its way to a handler.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// What has come and was not taken yet.
    front: VecDeque<Result<Bytes, BodyError>>,
    more: More,
    /// Where in a file it begins, in bytes.
    at: u64,
    most: u64,
    received: u64,
}

/// From where the rest of a body comes.
#[derive(Debug)]
enum More {
    Source(Source),
    Fed(Fed),
}

impl RequestBody {
    /// The body of a request whose client may not pause for longer than `patience`.
    pub(crate) fn new(
        body: Incoming,
        request: &Parts,
        patience: Duration,
        counted: Option<Counted>,
    ) -> (Self, Rest) {
        let (source, rest) = Source::new(body, request, patience, counted);
        let body = Self {
            front: VecDeque::new(),
            more: More::Source(source),
            at: 0,
            most: u64::MAX,
            received: 0,
        };
        (body, rest)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty() && matches!(&self.more, More::Source(source) if source.is_over())
    }

    /// Waits until a short body has come; gives whether there is nothing more to come. One that is
    /// announced to be longer is not waited for: it may be refused for that.
    pub(crate) async fn come(&mut self) -> bool {
        let More::Source(source) = &mut self.more else {
            return false;
        };
        if source.left().is_some_and(|left| left > SHORT as u64) {
            return false;
        }
        let mut length = 0;
        while length <= SHORT
            && let Some(bytes) = poll_fn(|context| source.poll_next(context)).await
        {
            length += bytes.as_ref().map_or(0, Bytes::len);
            self.front.push_back(bytes);
        }
        source.is_over()
    }

    /// What passes the rest on from now on, when there is one: the handler may run elsewhere.
    /// `intake` is what the connection knows of.
    pub(crate) fn feed(self, intake: Option<Intake>) -> (Self, Option<Feeder>) {
        match self.more {
            More::Source(source) if !source.is_over() => {
                let (feeder, fed) = Feeder::new(source, intake);
                let more = More::Fed(fed);
                (Self { more, ..self }, Some(feeder))
            }
            more => (Self { more, ..self }, None),
        }
    }

    /// Breaks off with [`BodyError::TooLarge`] when more than this comes, in bytes.
    pub(crate) fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// Says where in a file it begins, in bytes, so that it comes as it can be written there.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.at = offset;
        self
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.front.pop_front() {
            Some(next) => Some(next),
            None => {
                let at = self.at + self.received;
                ready!(match &mut self.more {
                    More::Source(source) => source.poll_next(context),
                    More::Fed(fed) => fed.poll_next(context, at),
                })
            }
        };
        let Some(Ok(bytes)) = next else {
            return Poll::Ready(next);
        };
        self.received += bytes.len() as u64;
        Poll::Ready(Some(if self.received > self.most {
            Err(BodyError::TooLarge(self.most))
        } else {
            Ok(bytes)
        }))
    }
}
