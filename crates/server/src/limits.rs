//! What a client may take: how many requests, how many at once, and how large.
//!
//! Each limit is off unless an operator sets it, and costs nothing then. What must be kept in mind
//! of clients is bounded: of at most [`rate::MAX_CLIENTS`] for their rate, and else of those that
//! are being served.

mod client;
mod rate;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, header};
use tokio::time::timeout;
use tracing::info;
use wharfinger_auth::{Grant, Shown};

pub(crate) use client::origin;
use client::{Client, of_peer};
pub use client::{ForwardedHeader, Network, TrustedProxies, forwarded_for};
pub use rate::Rate;
use rate::Rates;
pub(crate) use turns::Turn;
use turns::Turns;

use crate::Options;
use crate::access::Refused;
use crate::call::Call;
use crate::error::{ApiError, Code, Result};
use crate::peer::Peer;

/// What clients are told when they have waited for their turn in vain.
const COME_BACK: Duration = Duration::from_secs(10);

/// What an operator allows (`http.limits`); `None` is no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How large a pushed manifest may be, in bytes; at most 4 MiB.
    pub manifest_size: usize,
    /// How large the body of one request with a part of a blob may be, in bytes.
    pub body_size: Option<u64>,
    /// How large a blob may be, in bytes, in however many requests it is pushed.
    pub blob_size: Option<u64>,
    /// How many connections there may be at once. While there are so many, no more are accepted.
    pub connections: Option<usize>,
    /// How many connections a client may have at once. More are closed on the spot.
    pub client_connections: Option<usize>,
    /// How many requests at once may bring parts of blobs. More wait for their turn.
    pub uploads: Option<usize>,
    /// The same for each client.
    pub client_uploads: Option<usize>,
    /// How long they wait before they are refused.
    pub upload_wait: Duration,
    /// How many requests a client may send. What comes earlier is held back.
    pub client_rate: Option<Rate>,
    /// How long it is held back at most. What comes so early that it would be longer is refused.
    pub client_delay: Duration,
    /// Whether users are told apart where they are known, and only else addresses.
    pub by_user: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_size: wharfinger_oci::manifest::MAX_SIZE,
            body_size: None,
            blob_size: None,
            connections: None,
            client_connections: None,
            uploads: None,
            client_uploads: None,
            upload_wait: Duration::from_secs(300),
            client_rate: None,
            client_delay: Duration::from_secs(10),
            by_user: false,
        }
    }
}

impl Limits {
    /// How much more an upload that has `received` bytes may get in one request.
    pub(crate) fn room(&self, received: u64) -> Room {
        let body = self.body_size.unwrap_or(u64::MAX);
        let blob = self.blob_size.unwrap_or(u64::MAX);
        let left = blob.saturating_sub(received);
        match left <= body {
            true => Room {
                bytes: left,
                limit: blob,
                of_blob: true,
            },
            false => Room {
                bytes: body,
                limit: body,
                of_blob: false,
            },
        }
    }
}

/// How much more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// In bytes.
    pub(crate) bytes: u64,
    /// The limit behind it.
    limit: u64,
    /// Whether that is the blob's and not the request's.
    pub(crate) of_blob: bool,
}

impl Room {
    pub(crate) fn error(self) -> ApiError {
        let what = if self.of_blob {
            "a blob"
        } else {
            "the body of a request"
        };
        // With another code Docker's client tries again and again.
        ApiError::too_large(Code::DENIED, what, self.limit)
    }
}

/// What is known of the clients that are limited.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    rates: Rates,
    uploads: Arc<Turns>,
    connections: Arc<Turns>,
}

impl Limiter {
    /// Ready when another connection may be accepted.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn room_for_connection(&self, options: &ArcSwap<Options>) {
        let most = || options.load().limits.connections;
        if most().is_some() {
            self.connections.room(most).await;
        }
    }

    /// Other options hold from now on.
    pub(crate) fn options_changed(&self) {
        self.connections.reconsider();
    }

    /// A connection's place among the others, for as long as it is kept.
    ///
    /// # Errors
    /// When its client has too many.
    pub(crate) fn connect(
        &self,
        options: &Options,
        peer: Peer,
    ) -> Result<Option<Turn>, TooManyConnections> {
        let limits = &options.limits;
        if limits.connections.is_none() && limits.client_connections.is_none() {
            return Ok(None);
        }
        // Many clients share the connections of a proxy.
        let each = match options.trusted_proxies.contain(peer) {
            true => None,
            false => limits.client_connections,
        };
        let client = Client::Address(of_peer(peer));
        let turn = self.connections.try_take(client.id(), None, each);
        if turn.is_none() && self.connections.may_tell() {
            info!(%client, "a client has as many connections as it may, and gets no more");
        }
        turn.map(Some).ok_or(TooManyConnections)
    }

    /// Counts a request by its client's address, before anything is done for it, and holds it back
    /// when it has come too early.
    ///
    /// # Errors
    /// `TOOMANYREQUESTS` when it has come much too early.
    ///
    /// # Cancel safety
    /// A request that is dropped while it is held back counts all the same.
    pub(crate) async fn count(&self, call: &Call) -> Result<()> {
        let limits = &call.options().limits;
        let Some(rate) = limits.client_rate else {
            return Ok(());
        };
        if limits.by_user && shows_credentials(call) {
            // A user is counted for itself, but guessing is not free: what was no good counts for
            // the address that it came from.
            let guesser = Client::Guesser(origin(call));
            let looked = self.rates.look(rate, guesser.id());
            return looked.map_err(|wait| self.refusal(&guesser, wait));
        }
        self.take(limits, rate, Client::Address(origin(call))).await
    }

    /// Counts a request by its user, once access has been checked, and passes on what came of that.
    /// What may have been a guess counts for where it came from: that request has its answer, but
    /// after many of them no credentials from there are looked at. Users who may not do what they
    /// ask for stay users, and what was no guess counts as if nothing had been shown.
    ///
    /// # Errors
    /// As [`count`](Self::count), besides what `checked` says.
    pub(crate) async fn count_checked(
        &self,
        call: &Call,
        checked: Result<Grant, Refused>,
    ) -> Result<Grant> {
        let limits = &call.options().limits;
        let (Some(rate), true, true) =
            (limits.client_rate, limits.by_user, shows_credentials(call))
        else {
            return checked.map_err(|refused| refused.error);
        };
        let shown = match &checked {
            Ok(grant) => Some(Shown::User(grant.user.clone())),
            Err(refused) => refused.shown.clone(),
        };
        let checked = checked.map_err(|refused| refused.error);
        let client = match shown {
            Some(Shown::User(user)) if !user.is_empty() => Client::User(user),
            Some(Shown::User(_) | Shown::Nothing | Shown::Unfit) => Client::Address(origin(call)),
            Some(Shown::Guess) => {
                let guesser = Client::Guesser(origin(call));
                let _ = self.rates.take(rate, guesser.id(), Duration::ZERO);
                return checked;
            }
            // Nobody can learn from it whether credentials are good.
            None => return checked,
        };
        self.take(limits, rate, client).await?;
        checked
    }

    async fn take(&self, limits: &Limits, rate: Rate, client: Client) -> Result<()> {
        match self.rates.take(rate, client.id(), limits.client_delay) {
            Ok(Duration::ZERO) => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(wait) => Err(self.refusal(&client, wait)),
        }
    }

    fn refusal(&self, client: &Client, wait: Duration) -> ApiError {
        if self.rates.may_tell(client.id()) {
            info!(%client, "a client sends more requests than it may, and is refused some");
        }
        too_many("the client sends too many requests", wait)
    }

    /// A turn for a request that brings a part of a blob, for as long as it is kept.
    ///
    /// # Errors
    /// `TOOMANYREQUESTS` when none became free in time.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn upload(&self, call: &Call) -> Result<Option<Turn>> {
        let limits = &call.options().limits;
        let each = limits.client_uploads;
        if limits.uploads.is_none() && each.is_none() {
            return Ok(None);
        }
        let client = match call.grant.user.as_str() {
            user if limits.by_user && !user.is_empty() => Client::User(user.to_owned()),
            _ => Client::Address(origin(call)),
        };
        let turn = self.uploads.take(client.id(), limits.uploads, each);
        match timeout(limits.upload_wait, turn).await {
            Ok(turn) => Ok(Some(turn)),
            Err(_) => {
                if self.uploads.may_tell() {
                    info!(%client, "an upload waited for its turn in vain, among too many");
                }
                Err(too_many("too many uploads are under way", COME_BACK))
            }
        }
    }
}

/// A client has as many connections as it may.
#[derive(Debug)]
pub(crate) struct TooManyConnections;

fn shows_credentials(call: &Call) -> bool {
    call.request.headers.contains_key(header::AUTHORIZATION)
}

/// RFC 6585, section 4.
fn too_many(what: &str, wait: Duration) -> ApiError {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    let message = format!("{what}; come back in {seconds} seconds");
    ApiError::says(Code::TOOMANYREQUESTS, message)
        .header(header::RETRY_AFTER, HeaderValue::from(seconds))
}
