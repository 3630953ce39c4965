//! What can go wrong while measuring.

use std::io;

/// A result of this tool.
pub type Result<T> = std::result::Result<T, Error>;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A server answered with something that is no HTTP this tool understands.
    #[error("an answer cannot be understood: {0}")]
    Answer(&'static str),
    /// A server refused.
    #[error("{request} was answered with {status}: {body}")]
    Status {
        /// Method and path.
        request: String,
        /// The status code.
        status: u16,
        /// The body.
        body: String,
    },
    /// A tool that makes the load failed, or its report cannot be read.
    #[error("{tool} failed: {report}")]
    Tool {
        /// The tool's name.
        tool: String,
        /// What it printed.
        report: String,
    },
    /// A server did not start.
    #[error("{0} did not start")]
    Start(&'static str),
    /// Requests cost more than is kept of them.
    #[error(
        "requests cost more than before:\n{0}\n\
         Make them cheaper, or accept it: `cargo xtask instructions --write` counts again"
    )]
    Dearer(String),
    /// The command line.
    #[error("{0}")]
    Usage(String),
}

/// Says what was tried when the machine failed.
pub trait Context<T> {
    /// Names it.
    ///
    /// # Errors
    /// The same one, named.
    fn context(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|error| Error::Io {
            what: what.into(),
            source: error.into(),
        })
    }
}
