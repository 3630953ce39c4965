//! The packages: a Debian package on a machine with systemd, the move from Distribution by the
//! page that describes it, and a container image that Wharfinger serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use wharfinger_e2e::clients::{ContainersStorage, copy};
use wharfinger_e2e::distribution::free_address;
use wharfinger_e2e::image::small_image;
use wharfinger_e2e::machine::Machine;
use wharfinger_e2e::process::Service;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Http, Wharfinger, folder, run};

fn xtask(arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["xtask", "package", "--binary"]).arg(binary());
    // A package that goes no further need not be small: dpkg-deb(1).
    command.env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    run(command.args(arguments))
}

/// The Debian package, made once.
fn deb() -> &'static Path {
    static DEB: OnceLock<PathBuf> = OnceLock::new();
    DEB.get_or_init(|| PathBuf::from(xtask(&["deb"]).trim()))
}

/// Puts the package where the machine's administrator finds it.
fn hand_over(machine: &Machine) {
    let name = deb().file_name().unwrap().to_str().unwrap();
    fs::copy(deb(), machine.file("/root").join(name)).unwrap();
}

const REGISTRY: &str = "docker://127.0.0.1:5000";

#[test]
fn the_debian_package_is_a_service_of_its_own() {
    let home = folder();
    let machine = Machine::boot(home.path());
    machine.run("systemctl disable --now docker-registry");
    hand_over(&machine);
    machine.run("cd /root && apt-get install -y ./wharfinger_*.deb");

    // It runs, as a user of its own who has only its folder, and by no other's secret.
    assert_eq!(
        machine.run("systemctl is-active wharfinger").trim(),
        "active"
    );
    let user = machine.run("stat -c %U /proc/$(pidof wharfinger)");
    assert_eq!(user.trim(), "wharfinger");
    let folder = machine.run("stat -c '%U %a' /var/lib/wharfinger");
    assert_eq!(folder.trim(), "wharfinger 750");
    let secret =
        machine.run("stat -c '%U %a' /etc/wharfinger/environment; cat /etc/wharfinger/environment");
    assert!(
        secret.starts_with("root 600\nREGISTRY_HTTP_SECRET="),
        "{secret}"
    );
    assert!(
        !machine
            .run("journalctl -u wharfinger")
            .contains("http.secret is not set")
    );
    let rating = machine.run("systemd-analyze security wharfinger --no-pager | tail -1");
    let rating = rating
        .split_whitespace()
        .find_map(|word| word.parse::<f64>().ok());
    assert!(rating.unwrap() < 2.0, "{rating:?}");

    // Everything an image needs works in spite of it.
    let pushed = format!("{REGISTRY}/team/app:1");
    run(&mut machine.beside(&copy(&small_image(home.path(), 1), &pushed)));
    machine.run("systemctl reload wharfinger");
    machine.run(
        "timeout 30 sh -c \"until journalctl -u wharfinger | grep -q 'configuration was read again'; \
         do sleep 0.1; done\"",
    );
    machine.run("systemctl restart wharfinger");
    let kept = format!("dir:{}", home.path().join("kept").display());
    run(&mut machine.beside(&copy(&pushed, &kept)));
    machine.run("systemctl stop wharfinger");
    assert_eq!(
        machine
            .run("systemctl show -p Result --value wharfinger")
            .trim(),
        "success"
    );
    let collected = "setpriv --reuid=wharfinger --regid=wharfinger --clear-groups \
                     wharfinger garbage-collect /etc/wharfinger/config.yml";
    assert!(machine.run(collected).contains("0 bytes freed"));
    machine.run("systemctl start wharfinger");

    // What comes with it.
    let pages = machine
        .run("zcat /usr/share/man/man1/wharfinger.1.gz /usr/share/man/man1/wharfinger-serve.1.gz");
    assert!(pages.contains("REGISTRY_CONFIGURATION_PATH") && pages.contains("\\-\\-addr"));
    let completed = machine.run(
        ". /usr/share/bash-completion/completions/wharfinger; COMP_WORDS=(wharfinger ga); \
         COMP_CWORD=1; _wharfinger wharfinger ga wharfinger; echo \"${COMPREPLY[@]}\"",
    );
    assert_eq!(completed.trim(), "garbage-collect");

    // Purging leaves what was stored.
    machine.run("apt-get purge -y wharfinger");
    let left = machine.run(
        "ls /etc/wharfinger 2>&1 || true; ls /var/lib/wharfinger; pidof wharfinger || echo none",
    );
    assert!(
        left.contains("No such file") && left.contains("docker") && left.ends_with("none\n"),
        "{left}"
    );
}

/// The scripts of the page's section with this title, in order.
fn scripts(page: &str, title: &str) -> Vec<String> {
    let (_, section) = page
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("the page has no section {title}"));
    let section = section
        .split_once("\n## ")
        .map_or(section, |(section, _)| section);
    let blocks = section.split("\n```sh\n").skip(1);
    blocks
        .map(|block| block.split_once("\n```").unwrap().0.to_owned())
        .collect()
}

#[test]
fn a_stranger_can_move_from_distribution_and_back_by_the_page() {
    let page = include_str!("../../docs/migrate-from-distribution.md");
    let home = folder();
    let machine = Machine::boot(home.path());
    hand_over(&machine);
    // Debian's own file lets nobody in; people who use it have removed this.
    machine.run(
        "sed -i '/^auth:/,/^health:/{/^health:/!d}' /etc/docker/registry/config.yml && \
         systemctl restart docker-registry && \
         until curl -s -o /dev/null http://127.0.0.1:5000/v2/; do sleep 0.1; done",
    );
    let push = |seed| {
        let name = format!("{REGISTRY}/team/app:{seed}");
        run(&mut machine.beside(&copy(&small_image(home.path(), seed), &name)));
    };
    let pull = |port: u16, seed: u64| {
        let name = format!("docker://127.0.0.1:{port}/team/app:{seed}");
        let kept = home.path().join("kept");
        run(&mut machine.beside(&copy(&name, &format!("dir:{}", kept.display()))));
    };
    let mut done = 0;
    let mut follow = |title: &str| {
        let mut said = String::new();
        for script in scripts(page, title) {
            said += &machine.run(&format!("cd /root\n{script}"));
            done += 1;
        }
        said
    };
    push(1);

    let said = follow("Look at what you have");
    assert!(said.contains("User=docker-registry"), "{said}");
    follow("Install it beside the old one");
    pull(5000, 1);
    let said = follow("Try the configuration");
    assert!(
        said.contains("rootdirectory: /var/lib/docker-registry"),
        "{said}"
    );

    let scripts_of_data = scripts(page, "Try the data");
    machine.run(&scripts_of_data[0]);
    pull(5001, 1);
    push(2);
    pull(5001, 2);
    machine.run(&scripts_of_data[1]);

    let said = follow("Switch");
    assert!(
        said.contains("active\n") && said.contains(" blobs marked"),
        "{said}"
    );
    let server = machine.run("curl -s -D - -o /dev/null http://127.0.0.1:5000/v2/");
    assert!(
        server.contains("x-request-id"),
        "it is not Wharfinger: {server}"
    );
    pull(5000, 1);
    pull(5000, 2);
    push(3);

    let said = follow("Go back");
    assert!(said.ends_with("active\n"), "{said}");
    machine.run("until curl -s -o /dev/null http://127.0.0.1:5000/v2/; do sleep 0.1; done");
    for seed in 1..=3 {
        pull(5000, seed);
    }
    push(4);
    let all = page.matches("\n```sh\n").count();
    assert_eq!(
        done + scripts_of_data.len(),
        all,
        "a script of the page was not run"
    );
}

#[test]
fn the_container_image_is_served_by_wharfinger_and_runs() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let name = server.image("wharfinger:latest");
    xtask(&["image", "--insecure", &format!("docker://{name}")]);

    let storage = ContainersStorage::buildah(home.path());
    let buildah = |arguments: &[&str]| run(storage.command().args(arguments)).trim().to_owned();
    let container = buildah(&["from", "--quiet", "--tls-verify=false", &name]);
    let config = buildah(&["inspect", "--format", "{{.OCIv1.Config}}", &container]);
    for told in [
        "65532:65532",
        "/usr/bin/wharfinger",
        "5000",
        "/var/lib/registry",
    ] {
        assert!(config.contains(told), "{told}: {config}");
    }
    let files = PathBuf::from(buildah(&["mount", &container]));
    let authorities = fs::read(files.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    let trusted = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
    assert!(!trusted.is_empty() && authorities == trusted);
    buildah(&["umount", &container]);

    // By Distribution's names, and nobody else's privileges.
    let inside = |environment: &[&str], command: &[&str]| {
        let mut run = storage.command();
        run.args(["run", "--isolation", "chroot"])
            .args(environment)
            .arg(&container)
            .arg("--");
        run.args(command);
        run
    };
    let version = run(&mut inside(&[], &["/bin/registry", "--version"]));
    assert!(version.starts_with("wharfinger "), "{version}");
    let addr = free_address();
    let listen = format!("REGISTRY_HTTP_ADDR={addr}");
    let command = [
        "/usr/bin/wharfinger",
        "serve",
        "/etc/docker/registry/config.yml",
    ];
    let mut start = inside(&["--env", &listen], &command);
    let mut again = Service::start(&mut start, &home.path().join("container.log"));
    again.wait_until(|_| Http(addr).try_send("GET", "/v2/", &[], b"").ok());
    // The image goes into the registry that it is.
    let kept = format!("docker://{addr}/itself:latest");
    run(&mut copy(&format!("docker://{name}"), &kept));
    assert_eq!(
        Http(addr).digest("itself", "latest"),
        server.http().digest("wharfinger", "latest")
    );
    let owner = run(Command::new("ps").args(["-o", "uid=", "-C", "wharfinger"]));
    assert!(owner.lines().any(|uid| uid.trim() == "65532"), "{owner}");
}
