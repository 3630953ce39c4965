//! The licence and source of every dependency, held against `deny.toml`.
//!
//! `cargo deny` reads the same file and knows more, such as advisories; but it has to be built and
//! to fetch its database first. What it says about advisories is asked for where it is installed.

use std::fs;

use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::command::{cargo, output, root, run};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// Where it comes from; nothing for our own.
    source: Option<String>,
}

/// Checks all packages that `Cargo.lock` names.
///
/// # Errors
/// What is not allowed, a package a line.
pub(crate) fn check() -> Result<(), String> {
    let file = root().join("deny.toml");
    let text = fs::read_to_string(&file).map_err(|error| format!("deny.toml: {error}"))?;
    let deny: Deny = toml::from_str(&text).map_err(|error| format!("deny.toml: {error}"))?;
    let metadata = output(&mut cargo(&["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let problems: Vec<_> = metadata
        .packages
        .iter()
        .filter_map(|package| problem(package, &deny.licenses.allow))
        .collect();
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    println!("{} packages have allowed licences", metadata.packages.len());
    advisories()
}

fn problem(package: &Package, allowed: &[String]) -> Option<String> {
    let Package { name, version, .. } = package;
    let foreign = package
        .source
        .as_deref()
        .is_some_and(|source| !source.starts_with("registry+"));
    if foreign {
        return Some(format!(
            "{name} {version} does not come from the registry of crates"
        ));
    }
    let Some(license) = &package.license else {
        return Some(format!("{name} {version} names no licence"));
    };
    match Expression::parse_mode(license, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(|licence| is_allowed(licence, allowed)) => None,
        Ok(_) => Some(format!(
            "{name} {version}: {license} is not allowed by deny.toml"
        )),
        Err(error) => Some(format!("{name} {version}: {license}: {}", error.reason)),
    }
}

fn is_allowed(licence: &LicenseReq, allowed: &[String]) -> bool {
    allowed.contains(&licence.to_string())
}

fn advisories() -> Result<(), String> {
    if output(&mut cargo(&["deny", "--version"])).is_err() {
        println!("advisories are not checked: cargo-deny is not installed");
        return Ok(());
    }
    run(&mut cargo(&["deny", "check", "advisories"]))
}
