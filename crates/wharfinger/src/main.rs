//! The command line of Wharfinger, a container registry. It wires the crates together and holds
//! no logic of its own.

mod bar;
mod check;
mod collect;
mod explain;
mod export;
mod images;
mod import;
mod manual;
mod reload;
mod running;
mod serve;
mod signals;
mod size;
mod sync;
mod systemd;
mod tool;
mod verify;
mod wiring;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use wharfinger_config::{Error, GoDuration, Loaded};
use wharfinger_oci::Digest;

use crate::collect::How;

/// A container registry: stores and serves container images and every other OCI artifact.
#[derive(Debug, Parser)]
#[command(name = "wharfinger", version, arg_required_else_help = true)]
#[command(disable_version_flag = true)]
struct Cli {
    /// Print the version.
    #[arg(long, short = 'v', visible_short_alias = 'V', action = ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the registry.
    Serve(Serve),
    /// Remove blobs that no manifest needs: at once where nobody writes to the store, and after a
    /// while where others do.
    #[command(mut_arg("dry_run", switch), mut_arg("delete_untagged", switch))]
    #[command(mut_arg("quiet", switch), mut_arg("stopped", switch))]
    GarbageCollect {
        #[command(flatten)]
        source: Source,
        /// Remove nothing, only tell what would be removed.
        #[arg(long, short = 'd')]
        dry_run: bool,
        /// Remove manifests too that no tag leads to.
        #[arg(long, short = 'm')]
        delete_untagged: bool,
        /// Print nothing.
        #[arg(long, short)]
        quiet: bool,
        /// Wait for at most this long, like 30s or 5m, until nobody writes to the store, and then
        /// have it alone.
        #[arg(long, value_name = "TIME", default_value = "0s")]
        wait: GoDuration,
        /// How long what is not needed stays where others write, like 10m; else what
        /// storage.maintenance.gc.grace says, or an hour.
        #[arg(long, value_name = "TIME")]
        grace: Option<GoDuration>,
        /// Nobody writes to the store, which cannot be seen of a bucket.
        #[arg(long)]
        stopped: bool,
        /// Remove nothing, but tell why this blob or manifest stays, or that it goes.
        #[arg(long, value_name = "DIGEST")]
        explain: Option<Digest>,
    },
    /// Read everything in the store, and tell what is damaged and what that affects.
    ///
    /// The exit status is 0 when nothing is damaged, 1 when it could not be found out, 3 when
    /// something is, and 4 when all that was has been repaired.
    Verify {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        how: verify::How,
    },
    /// Copy images of the registry, which may be in use, into an image layout (OCI).
    Export(export::Export),
    /// Copy images from an image layout, an archive of docker save, or another registry's store
    /// into the registry, which may be in use.
    Import(import::Import),
    /// Copy images from and to other registries, as sync.jobs of the configuration say. The
    /// registry may be in use.
    ///
    /// What is there already is not copied again. The exit status is 0 when all was copied.
    Sync(sync::Sync),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a script that lets a shell complete this command.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages, one for each command, into a folder.
    #[command(hide = true)]
    Man {
        /// The folder. It must be there.
        folder: PathBuf,
    },
}

/// Lets a flag be switched on and off by its value too, as Distribution's can: `--quiet=false`.
fn switch(flag: Arg) -> Arg {
    flag.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(BoolishValueParser::new())
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .value_name("BOOL")
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print what would be used, secrets hidden, and everything that is wrong.
    Check {
        #[command(flatten)]
        source: Source,
    },
}

/// What a registry is started with.
#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    source: Source,
    /// Listen on this address instead of the configured one; port 0 picks a free one, and the path
    /// of a file is a Unix socket.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Keep everything in this folder instead of the configured place.
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
}

impl Serve {
    fn load(&self) -> Result<Loaded, Error> {
        let mut loaded = self.source.load()?;
        if let Some(addr) = &self.addr {
            loaded.listen_on(addr.clone(), "--addr");
        }
        if let Some(folder) = &self.data {
            loaded.keep_in(folder.clone(), "--data");
        }
        Ok(loaded)
    }
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
struct Source {
    /// The configuration file, in the format of CNCF Distribution. Without it, the variable
    /// REGISTRY_CONFIGURATION_PATH names it, or else the defaults hold. Variables of the
    /// environment like REGISTRY_HTTP_ADDR override what it says.
    config: Option<PathBuf>,
}

impl Source {
    fn load(&self) -> Result<Loaded, Error> {
        let path = self
            .config
            .clone()
            .or_else(|| std::env::var_os("REGISTRY_CONFIGURATION_PATH").map(PathBuf::from));
        // A variable that is not UTF-8 cannot be a configuration's.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        match path.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => wharfinger_config::load(&path, environment),
            None => wharfinger_config::defaults(environment),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(start) => serve::run(move || start.load()),
        Command::GarbageCollect {
            source,
            dry_run,
            delete_untagged,
            quiet,
            wait,
            grace,
            stopped,
            explain,
        } => {
            if let Some(digest) = explain {
                let grace = grace.map(GoDuration::get);
                return explain::run(source.load(), digest, delete_untagged, grace);
            }
            let how = How {
                dry_run,
                delete_untagged,
                quiet,
                wait: wait.get(),
                grace: grace.map(GoDuration::get),
                stopped,
            };
            collect::run(source.load(), how)
        }
        Command::Verify { source, how } => verify::run(source.load(), how),
        Command::Export(export) => export.run(),
        Command::Import(import) => import.run(),
        Command::Sync(sync) => sync.run(),
        Command::Config {
            command: ConfigCommand::Check { source },
        } => check::run(source.load()),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "wharfinger", &mut io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { folder } => match manual::write(Cli::command(), &folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => serve::refuse(&[format!("{}: {error}", folder.display())]),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the flags of `garbage-collect` are: nothing removed, untagged ones too, quiet.
    fn flags(arguments: &str) -> Option<[bool; 3]> {
        let words = ["wharfinger", "garbage-collect"].into_iter();
        let parsed = Cli::try_parse_from(words.chain(arguments.split_whitespace()));
        match parsed.ok()?.command {
            Command::GarbageCollect {
                dry_run,
                delete_untagged,
                quiet,
                ..
            } => Some([dry_run, delete_untagged, quiet]),
            _ => None,
        }
    }

    #[test]
    fn flags_are_written_in_every_way_that_distribution_takes() {
        for (arguments, wanted) in [
            ("config.yml", Some([false, false, false])),
            ("-d -m -q config.yml", Some([true, true, true])),
            ("-dm config.yml", Some([true, true, false])),
            (
                "config.yml --dry-run --delete-untagged",
                Some([true, true, false]),
            ),
            ("--dry-run=true config.yml", Some([true, false, false])),
            (
                "--delete-untagged=false -q=1 config.yml",
                Some([false, false, true]),
            ),
            ("-m=true config.yml", Some([false, true, false])),
            ("--quiet=T config.yml", Some([false, false, true])),
            ("--quiet=maybe config.yml", None),
        ] {
            assert_eq!(flags(arguments), wanted, "{arguments}");
        }
    }
}
