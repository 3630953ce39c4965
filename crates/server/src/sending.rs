//! An answer's body on its way to the client, counted byte by byte as the connection takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use crate::body::Body;
use crate::exchange::Exchange;

/// A body, and the request that is over when it has been sent.
#[derive(Debug)]
pub(crate) struct Sending {
    body: Body,
    exchange: Holder,
}

/// Who waits for the end of a request. What is sent in one piece is handed from hand to hand; only
/// what is sent in many is shared.
#[derive(Debug)]
enum Holder {
    Nobody,
    Alone(Exchange),
    Shared(Arc<Exchange>),
}

impl Holder {
    /// For the next piece.
    fn hand_out(&mut self) -> Self {
        match self {
            Self::Nobody => Self::Nobody,
            Self::Shared(exchange) => Self::Shared(Arc::clone(exchange)),
            Self::Alone(_) => std::mem::replace(self, Self::Nobody),
        }
    }
}

impl Sending {
    pub(crate) fn new(body: Body, exchange: Exchange) -> Self {
        let exchange = match &body {
            _ if !exchange.is_watched() => Holder::Nobody,
            Body::Empty | Body::Full(_) => Holder::Alone(exchange),
            Body::File(_) | Body::Stream(_) => Holder::Shared(Arc::new(exchange)),
        };
        Self { body, exchange }
    }
}

impl http_body::Body for Sending {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let Self { body, exchange } = &mut *self;
        let polled = Pin::new(body).poll_frame(context);
        polled.map_ok(|frame| {
            frame.map_data(|bytes| Piece {
                bytes,
                exchange: exchange.hand_out(),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that the connection takes out one after the other.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    exchange: Holder,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        match &self.exchange {
            Holder::Nobody => {}
            Holder::Alone(exchange) => exchange.count_sent(count as u64),
            Holder::Shared(exchange) => exchange.count_sent(count as u64),
        }
    }
}
