//! `cargo xtask package`: the release build, or another, as a Debian package and as a container
//! image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{RELEASE, cargo, output, root, run, target_folder};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where packages are put together, and where they are to be found afterwards.
fn folder() -> PathBuf {
    target_folder().join("package")
}

/// The program to package: the one that was named, or the release build.
fn program(named: Option<PathBuf>) -> Result<PathBuf, String> {
    if let Some(program) = named {
        return Ok(program);
    }
    run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "wharfinger",
    ]))?;
    Ok(target_folder().join(RELEASE).join("wharfinger"))
}

/// Makes a Debian package with debhelper, and prints where it is.
///
/// # Errors
/// When the build fails, or a program is missing.
pub(crate) fn deb(binary: Option<PathBuf>) -> Result<(), String> {
    let binary = program(binary)?;
    let source = fresh(&folder().join(format!("wharfinger-{VERSION}")))?;
    let packaging = root().join("packaging");
    copy(&binary, &source.join("wharfinger"))?;
    copy(&packaging.join("config.yml"), &source.join("config.yml"))?;
    copy(&root().join("README.md"), &source.join("README.md"))?;
    copy_all(&packaging.join("debian"), &source.join("debian"))?;
    copy_all(&root().join("docs"), &source.join("docs"))?;
    copy_all(&root().join("examples/config"), &source.join("examples"))?;
    completions(&binary, &source)?;
    let pages = fresh(&source.join("man"))?;
    run(Command::new(&binary).arg("man").arg(pages))?;
    write(
        &source.join("debian/changelog"),
        &format!(
            "wharfinger ({VERSION}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n \
             -- Wharfinger maintainers <maintainers@wharfinger.example>  {}\n",
            date()?.trim()
        ),
    )?;
    let mut build = Command::new("dpkg-buildpackage");
    build.args([
        "--build=binary",
        "--unsigned-changes",
        "--no-check-builddeps",
    ]);
    output(build.current_dir(&source))?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let made = folder().join(format!("wharfinger_{VERSION}_{}.deb", architecture.trim()));
    println!("{}", made.display());
    Ok(())
}

/// The scripts for shells, each where its shell looks for it by name.
fn completions(binary: &Path, source: &Path) -> Result<(), String> {
    let scripts = [
        ("bash", "wharfinger"),
        ("fish", "wharfinger.fish"),
        ("zsh", "_wharfinger"),
    ];
    for (shell, name) in scripts {
        let script = output(Command::new(binary).args(["completions", shell]))?;
        write(&fresh(&source.join(shell))?.join(name), &script)?;
    }
    Ok(())
}

/// When the last commit was made: the same commit makes the same package.
fn date() -> Result<String, String> {
    output(
        Command::new("git")
            .args(["log", "-1", "--format=%cD"])
            .current_dir(root()),
    )
}

/// Makes a container image with buildah, from nothing, and copies it to `destination`, which is a
/// name as skopeo takes it: `docker://registry/wharfinger:latest`, `oci:folder:tag`.
///
/// # Errors
/// When the build fails, or a program is missing.
pub(crate) fn image(
    binary: Option<PathBuf>,
    destination: &str,
    insecure: bool,
) -> Result<(), String> {
    let binary = program(binary)?;
    let files = fresh(&folder().join("image"))?;
    for (file, at) in libraries(&binary)? {
        copy(&file, &files.join(at.trim_start_matches('/')))?;
    }
    copy(&binary, &files.join("usr/bin/wharfinger"))?;
    // For what the registry asks: receivers of events, health checks, a certificate authority.
    copy(
        Path::new(AUTHORITIES),
        &files.join(AUTHORITIES.trim_start_matches('/')),
    )?;
    let configuration = root().join("packaging/container/config.yml");
    copy(&configuration, &files.join("etc/wharfinger/config.yml"))?;
    write(
        &files.join("etc/passwd"),
        &format!("wharfinger:x:{USER}:{USER}::/var/lib/registry:/sbin/nologin\n"),
    )?;
    write(&files.join("etc/group"), &format!("wharfinger:x:{USER}:\n"))?;
    // What is mounted and called by Distribution's names works.
    link("/usr/bin/wharfinger", &files.join("bin/registry"))?;
    for old in ["etc/distribution", "etc/docker/registry"] {
        link(
            "/etc/wharfinger/config.yml",
            &files.join(old).join("config.yml"),
        )?;
    }
    build_image(&files, destination, insecure)
}

/// The certificate authorities that Debian trusts, of its package `ca-certificates`.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The user whom the image runs as: one that no other image has.
const USER: u32 = 65532;

fn build_image(files: &Path, destination: &str, insecure: bool) -> Result<(), String> {
    let storage = fresh(&folder().join("containers"))?;
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(storage.join("root"));
        command
            .arg("--runroot")
            .arg(storage.join("run"))
            .args(arguments);
        output(&mut command).map(|said| said.trim().to_owned())
    };
    let container = buildah(&["from", "scratch"])?;
    let files = files
        .to_str()
        .ok_or("the target folder's name is no UTF-8")?;
    buildah(&["add", "--quiet", &container, files, "/"])?;
    // Data and temporary files are its user's.
    let data = fresh(&folder().join("data"))?;
    let data = data
        .to_str()
        .ok_or("the target folder's name is no UTF-8")?;
    let owner = format!("{USER}:{USER}");
    for place in ["/var/lib/registry", "/tmp"] {
        buildah(&["add", "--quiet", "--chown", &owner, &container, data, place])?;
    }
    let version = format!("org.opencontainers.image.version={VERSION}");
    let mut config = vec!["config", "--user", &owner, "--port", "5000"];
    config.extend([
        "--volume",
        "/var/lib/registry",
        "--workingdir",
        "/var/lib/registry",
    ]);
    config.extend(["--entrypoint", r#"["/usr/bin/wharfinger"]"#]);
    config.extend(["--cmd", "serve /etc/wharfinger/config.yml"]);
    config.extend(["--label", "org.opencontainers.image.title=wharfinger"]);
    config.extend(["--label", "org.opencontainers.image.licenses=Apache-2.0"]);
    config.extend(["--label", &version, &container]);
    buildah(&config)?;
    buildah(&[
        "commit",
        "--quiet",
        "--rm",
        "--format",
        "oci",
        &container,
        "wharfinger",
    ])?;
    let mut push = vec!["push", "--quiet"];
    if insecure {
        push.push("--tls-verify=false");
    }
    push.extend(["wharfinger", destination]);
    buildah(&push)?;
    fs::remove_dir_all(&storage).map_err(|error| format!("{}: {error}", storage.display()))?;
    println!("{destination}");
    Ok(())
}

/// The shared libraries that a program needs, by ldd(1), and where it looks for each.
fn libraries(program: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let listed = output(Command::new("ldd").arg(program))?;
    let mut found = Vec::new();
    for line in listed.lines() {
        let at = line.split("=>").last().unwrap_or_default();
        let at = at.split_whitespace().next().unwrap_or_default();
        if at.starts_with('/') {
            let file = fs::canonicalize(at).map_err(|error| format!("{at}: {error}"))?;
            found.push((file, at.to_owned()));
        }
    }
    Ok(found)
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<PathBuf, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).map_err(failed)?;
    Ok(folder.to_owned())
}

/// Makes the folders above a file.
fn above(file: &Path) -> Result<(), String> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    above(to)?;
    let copied = fs::copy(from, to);
    copied
        .map(drop)
        .map_err(|error| format!("{}: {error}", from.display()))
}

fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    above(file)?;
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn link(target: &str, at: &Path) -> Result<(), String> {
    above(at)?;
    let made = std::os::unix::fs::symlink(target, at);
    made.map_err(|error| format!("{}: {error}", at.display()))
}
