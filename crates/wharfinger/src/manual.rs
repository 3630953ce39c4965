//! The manual pages.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::roff::{Roff, bold, roman};

/// What the command line's own help does not tell: the parts of the main page behind it.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "FILES",
        &[
            (
                "/etc/wharfinger/config.yml",
                "The configuration that the packaged service starts with.",
            ),
            (
                "/var/lib/wharfinger",
                "Where the packaged service keeps everything, as its configuration says.",
            ),
            (
                "wharfinger-data",
                "Where everything is kept without a configuration: below the current folder.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "REGISTRY_CONFIGURATION_PATH",
                "The configuration file, where the command line names none.",
            ),
            (
                "REGISTRY_...",
                "Overrides a key of the configuration: REGISTRY_HTTP_ADDR overrides http.addr. \
                 Values are YAML.",
            ),
            (
                "RUST_LOG",
                "Overrides log.level, by module where it says so.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Accept no more connections, let the requests under way finish for at most \
                 http.draintimeout, and end. A second one ends at once.",
            ),
            (
                "SIGHUP",
                "Read the configuration again, and tell in the log what was taken on and what needs \
                 a restart.",
            ),
            (
                "SIGUSR1, SIGUSR2",
                "Be read-only whatever the configuration says, and no longer.",
            ),
        ],
    ),
];

/// Writes `wharfinger.1`, and a page for each command.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(command: Command, folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)?;
    let main = folder.join("wharfinger.1");
    let mut page = OpenOptions::new().append(true).open(main)?;
    sections().to_writer(&mut page)
}

fn sections() -> Roff {
    let mut roff = Roff::new();
    for (title, entries) in SECTIONS {
        roff.control("SH", [title]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
    }
    roff
}
