//! A network of its own, with an address that is not one of the loopback interface's usual ones:
//! the Docker Engine does not check certificates of registries at those.

use std::path::Path;
use std::process::Command;

use crate::process::Service;

/// The address in it: one that stands for nobody (RFC 5737).
pub const ADDRESS: &str = "192.0.2.1";

/// A network namespace, which ends when this is dropped and all that was started in it has ended.
#[derive(Debug)]
pub struct Network {
    holder: Service,
}

impl Network {
    /// Makes one; what goes wrong is logged in `home`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(home: &Path) -> Self {
        let set_up = format!(
            "ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo done && exec sleep 1d"
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &set_up]);
        let mut holder = Service::start(&mut command, &home.join("network.log"));
        holder.wait_until(|holder| holder.log().contains("done").then_some(()));
        Self { holder }
    }

    /// What runs a program in it: the program and its arguments are to follow.
    pub fn launcher(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid()));
        command
    }

    /// A program that runs in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.launcher();
        command.arg(program);
        command
    }
}
