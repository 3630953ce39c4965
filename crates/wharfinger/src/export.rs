//! `wharfinger export`: images of the registry into an image layout.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use thiserror::Error;
use wharfinger_config::Config;
use wharfinger_transfer::{Choice, Destination, ExportOptions, Pattern, Report, Step};

use crate::bar::{Bar, Unit};
use crate::size::size;
use crate::tool::{self, OpenError};

/// Why nothing, or not everything, was exported.
#[derive(Debug, Error)]
enum ExportError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("an archive is nothing for a terminal; send standard output to a file or a program")]
    Terminal,
    #[error(transparent)]
    Transfer(#[from] wharfinger_transfer::Error),
}

/// What is exported, and where to.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Export this only, NAME or NAME:TAG; * stands for any characters. Can be given again. By a
    /// tag come the manifests that have it as their subject too, without it all of the repository.
    #[arg(long, value_name = "NAME[:TAG]")]
    repository: Vec<Pattern>,
    /// Remove blobs from the folder that this export does not need.
    #[arg(long)]
    prune: bool,
    /// The registry's configuration file.
    config: PathBuf,
    /// A folder, to which only what is new is written if it was exported to before; a tar archive,
    /// with .tar at its end; or - for a tar archive on standard output.
    destination: PathBuf,
}

impl Export {
    pub(crate) fn run(self) -> ExitCode {
        tool::run(tool::load(&self.config), "export", async |config| {
            self.export(config).await
        })
    }

    async fn export(&self, config: &Config) -> Result<ExitCode, ExportError> {
        let destination = Destination::of(&self.destination);
        if destination == Destination::Stdout && io::stdout().is_terminal() {
            return Err(ExportError::Terminal);
        }
        let registry = tool::registry_to_read(config).await?;
        let options = ExportOptions {
            choice: Choice::of(self.repository.clone()),
            prune: self.prune,
            host: host(&config.http.host),
        };
        let bar = Bar::new("exporting", Unit::Bytes);
        let told = |step: Step<'_>| match step {
            Step::Bytes(bytes) => bar.advance(bytes),
            Step::Failed(failure) => bar.beside(|| eprintln!("error: {failure}")),
            _ => {}
        };
        let export = wharfinger_transfer::export(&registry, &destination, &options, &told);
        let report = export.await?;
        drop(bar);
        // Standard output may be the archive.
        eprintln!("{}", summary(&report));
        if self.prune {
            match report.failures.is_empty() {
                true => eprintln!("{} blobs removed that nothing needs", report.pruned),
                false => eprintln!("nothing removed: it may be the last that is whole"),
            }
        }
        Ok(exit_code(&report))
    }
}

/// Host and port of the registry's address, as names of images begin.
fn host(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

/// What was done, for people.
pub(crate) fn summary(report: &Report) -> String {
    let Report {
        tags,
        untagged,
        blobs,
        present,
        ..
    } = report;
    let bytes = size(report.bytes);
    format!(
        "{tags} tags and {untagged} manifests without one; {blobs} blobs copied ({bytes}), \
         {present} were there"
    )
}

/// Whether all of it was copied.
pub(crate) fn exit_code(report: &Report) -> ExitCode {
    match report.failures.len() {
        0 => ExitCode::SUCCESS,
        failed => {
            eprintln!("{failed} images could not be copied");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_host_is_that_of_the_address() {
        for (address, wanted) in [
            ("", None),
            ("https://registry.example.org", Some("registry.example.org")),
            ("http://localhost:5000/prefix", Some("localhost:5000")),
        ] {
            assert_eq!(host(address).as_deref(), wanted);
        }
    }
}
