//! What can go wrong with another registry.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

/// Why an upstream did not give what it was asked for. The texts are for operators: they name the
/// upstream, and never what it was shown to let anybody in.
#[derive(Clone, Debug, Error)]
pub enum UpstreamError {
    /// It answered that it will not, or cannot.
    #[error("the upstream {upstream} refuses: {refusal}")]
    Refused {
        /// The upstream's host.
        upstream: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// It could not be asked, or its answer did not come.
    #[error("the upstream {upstream} cannot be reached: {reason}")]
    Unreachable {
        /// The upstream's host.
        upstream: String,
        /// The cause.
        reason: String,
    },
    /// Its answer cannot be right.
    #[error("the upstream {upstream} gives a wrong answer: {reason}")]
    Wrong {
        /// The upstream's host.
        upstream: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An upstream's answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The code of the first error in the body (OCI distribution specification, "Error Codes").
    pub code: Option<String>,
    /// The message that goes with it.
    pub message: String,
    /// How long it wants to be left alone (`Retry-After`, RFC 9110, section 10.2.3).
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, ", {code}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl UpstreamError {
    /// Whether it says that there is no such thing.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.status == StatusCode::NOT_FOUND)
    }

    /// Whether it is about the upstream as a whole, and not about what was asked for: then other
    /// questions would fare no better now.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { refusal, .. } => matches!(
                refusal.status,
                // A proxy before it says so.
                StatusCode::PROXY_AUTHENTICATION_REQUIRED
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::Wrong { .. } => false,
        }
    }

    /// How long the upstream wants to be left alone, where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { refusal, .. } => refusal.retry_after,
            _ => None,
        }
    }
}
