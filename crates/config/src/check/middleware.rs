//! `middleware`.

use std::collections::BTreeSet;

use super::{Checker, is_url};
use crate::Config;
use crate::section::{Middleware, StorageMiddleware};

/// The middlewares around the storage driver, each with its options.
const STORAGE: [(&str, &[&str]); 3] = [
    (
        "cloudfront",
        &[
            "baseurl",
            "privatekey",
            "keypairid",
            "duration",
            "ipfilteredby",
            "awsregion",
            "iprangesurl",
            "updatefrequency",
            "updatefrenquency",
        ],
    ),
    ("redirect", &["baseurl"]),
    ("rewrite", &["scheme", "host", "trimpathprefix"]),
];

impl Checker<'_> {
    pub(super) fn middleware(&mut self, config: &Config) {
        let middleware = &config.middleware;
        for (kind, middlewares) in [
            ("registry", &middleware.registry),
            ("repository", &middleware.repository),
        ] {
            for (index, middleware) in middlewares.iter().enumerate() {
                if !middleware.disabled {
                    let name = &middleware.name;
                    let message = format!(
                        "{name:?} is no middleware of a {kind}: there is none, as in Distribution, \
                         where whoever wants one builds it in"
                    );
                    self.wrong(&format!("middleware.{kind}[{index}].name"), message);
                }
            }
        }
        let used = middleware.storage.iter().enumerate();
        let used: Vec<_> = used.filter(|(_, one)| !one.disabled).collect();
        for (place, (index, middleware)) in used.iter().enumerate() {
            let key = format!("middleware.storage[{index}]");
            let before: Vec<_> = used[..place]
                .iter()
                .map(|(_, one)| one.name.as_str())
                .collect();
            self.storage_middleware(&key, middleware, &before, config);
        }
    }

    /// Looks at a middleware with those before it, which stand between it and the driver.
    fn storage_middleware(
        &mut self,
        key: &str,
        middleware: &Middleware<StorageMiddleware>,
        before: &[&str],
        config: &Config,
    ) {
        let Middleware { name, options, .. } = middleware;
        let Some((_, known)) = STORAGE.iter().find(|(known, _)| known == name) else {
            let names = STORAGE.map(|(name, _)| name).join(", ");
            let message = format!("{name:?} is no middleware of the store; there are {names}");
            self.wrong(&format!("{key}.name"), message);
            return;
        };
        let path: Vec<&str> = key
            .split(['.', '[', ']'])
            .filter(|p| !p.is_empty())
            .collect();
        let others = STORAGE.iter().flat_map(|(_, options)| *options);
        let others: BTreeSet<_> = others.filter(|option| !known.contains(option)).collect();
        for option in others {
            let written = [&path[..], &["options", option]].concat();
            if self.tree.at(&written).is_some() {
                let message = format!("it has no effect: {name} has no such option");
                self.warn(&format!("{key}.options.{option}"), message);
            }
        }
        if config.storage.redirect.disable {
            let message = "it has no effect while storage.redirect.disable is true: it decides where \
                           clients are sent, and they are sent nowhere";
            self.warn(key, message);
        }
        let option = |name: &str| format!("{key}.options.{name}");
        match name.as_str() {
            "redirect" => self.url_of_files(&option("baseurl"), &options.baseurl),
            "rewrite" => self.rewrite(key, options, before, config),
            _ => self.cloudfront(key, options, before, config),
        }
    }

    fn url_of_files(&mut self, key: &str, url: &str) {
        // It is not repeated: there may be a password in it.
        if url.is_empty() {
            let message =
                "it is missing: where clients are sent, like https://store.example/folder";
            self.wrong(key, message);
        } else if !is_url(&lower_scheme(url)) || !printable(url) {
            let message = "this is no URL of http or https, like https://store.example/folder";
            self.wrong(key, message);
        } else if url.contains(['?', '#', '@']) {
            let message =
                "only scheme, host, port and path of it have an effect, as in Distribution";
            self.warn(key, message);
        }
    }

    fn rewrite(
        &mut self,
        key: &str,
        options: &StorageMiddleware,
        before: &[&str],
        config: &Config,
    ) {
        let sane = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !matches!(options.scheme.as_str(), "" | "http" | "https") {
            let message = format!("{:?} is not one of http, https", options.scheme);
            self.wrong(&format!("{key}.options.scheme"), message);
        }
        if !options.host.chars().all(sane) {
            let message = format!(
                "{:?} is no host; write it like store.example or store.example:9000",
                options.host
            );
            self.wrong(&format!("{key}.options.host"), message);
        }
        let redirected = before.contains(&"redirect");
        if config.storage.s3.is_none() && !redirected {
            let message = "it has no effect: it changes the addresses that the driver gives, and only \
                           s3 gives some";
            self.warn(key, message);
        }
    }

    fn cloudfront(
        &mut self,
        key: &str,
        options: &StorageMiddleware,
        before: &[&str],
        config: &Config,
    ) {
        let option = |name: &str| format!("{key}.options.{name}");
        match &config.storage.s3 {
            None => {
                let message = "cloudfront needs the driver s3: what it sends clients to has the \
                               objects of a bucket of Amazon's";
                self.wrong(&format!("{key}.name"), message);
            }
            Some(s3) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
                if !s3.rootdirectory.chars().all(plain) {
                    let message = "the middleware cloudfront signs addresses with this folder in \
                                   them, so it can have letters, digits and any of -._~ only";
                    self.wrong("storage.s3.rootdirectory", message);
                }
            }
        }
        if let Some(before) = before.last() {
            let message = format!(
                "it has no effect: only the one directly around the driver knows the objects' keys, \
                 and {before} is in between; put it first (Distribution passes it over too)"
            );
            self.warn(key, message);
        }
        let base = &options.baseurl;
        let whole = if base.contains("://") {
            lower_scheme(base)
        } else {
            format!("https://{base}")
        };
        if base.is_empty() {
            let message = "it is missing: where CloudFront is, like https://d111.cloudfront.net/";
            self.wrong(&option("baseurl"), message);
        } else if !is_url(&whole) || !printable(base) || base.contains(['?', '#', '@', '"', '\\']) {
            let message = "this is no URL of http or https that ends with its path, like \
                           https://d111.cloudfront.net/";
            self.wrong(&option("baseurl"), message);
        }
        if options.privatekey.is_empty() {
            let message = "it is missing: the PEM file of the RSA key that signs";
            self.wrong(&option("privatekey"), message);
        } else if options.privatekey.contains("-----BEGIN") {
            let message = "this is a key itself; name the file that it is in";
            self.wrong(&option("privatekey"), message);
        }
        if options.keypairid.is_empty() {
            let message = "it is missing: the id that CloudFront has given to the key";
            self.wrong(&option("keypairid"), message);
        } else if !options.keypairid.bytes().all(|c| c.is_ascii_alphanumeric()) {
            let message = format!(
                "{:?} cannot be the id of a key, like K2JCJMDEHXQW5F",
                options.keypairid
            );
            self.wrong(&option("keypairid"), message);
        }
        match options.ipfilteredby.as_str() {
            "none" | "aws" => {
                if !options.awsregion.is_empty() {
                    let message = "it has no effect without ipfilteredby: awsregion";
                    self.warn(&option("awsregion"), message);
                }
            }
            "awsregion" => {
                if options.regions().is_empty() {
                    let message = "it is missing: the regions whose clients are sent to the store \
                                   itself, like us-east-1, eu-central-1";
                    self.wrong(&option("awsregion"), message);
                }
            }
            other => {
                let message = format!("{other:?} is not one of none, aws, awsregion");
                self.wrong(&option("ipfilteredby"), message);
            }
        }
        if !is_url(&options.iprangesurl) || !printable(&options.iprangesurl) {
            let message = "this is no URL of http or https";
            self.wrong(&option("iprangesurl"), message);
        }
    }
}

fn printable(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_graphic())
}

/// A URL with its scheme in small letters.
fn lower_scheme(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => url.to_owned(),
    }
}
