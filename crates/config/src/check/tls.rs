//! `http.tls`.

use super::{Checker, is_url};
use crate::{Config, LetsEncrypt, Tls};

/// The cipher suites that can be chosen: those of TLS 1.2 that are good.
const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
];

/// Those of TLS 1.3, which are always there.
const SUITES_OF_TLS13: [&str; 3] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Those that Distribution knows besides, in any of its releases: broken ciphers, or a key exchange
/// that lets whoever gets the key read what was recorded before.
const UNSAFE_SUITES: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

impl Checker<'_> {
    pub(super) fn tls(&mut self, config: &Config) {
        let tls = &config.http.tls;
        let named = !tls.certificate.is_empty() || !tls.key.is_empty();
        let obtained = tls.letsencrypt.is_used();
        if named && obtained {
            let message = "there can be a certificate, or http.tls.letsencrypt, not both";
            self.wrong("http.tls.certificate", message);
        } else if named && tls.key.is_empty() {
            self.wrong(
                "http.tls.key",
                "it is missing: the file of the certificate's key",
            );
        } else if named && tls.certificate.is_empty() {
            let message = "it is missing: the file of the key's certificate";
            self.wrong("http.tls.certificate", message);
        }
        if obtained {
            self.lets_encrypt(&tls.letsencrypt);
        }
        if !named && !obtained && (tls.clientauth.is_some() || !tls.clientcas.is_empty()) {
            let message = "it has no effect without http.tls.certificate: no client is asked for a \
                           certificate";
            self.warn("http.tls", message);
        } else if tls.clientauth.is_some() && tls.clientcas.is_empty() {
            let message = "it has no effect without http.tls.clientcas, as in Distribution: no \
                           client is asked for a certificate";
            self.warn("http.tls.clientauth", message);
        }
        self.minimum_version(tls);
        self.cipher_suites(tls);
    }

    fn minimum_version(&mut self, tls: &Tls) {
        let key = "http.tls.minimumtls";
        match tls.minimumtls.as_str() {
            "" | "tls1.2" | "tls1.3" => {}
            old @ ("tls1.0" | "tls1.1") => {
                self.warn(
                    key,
                    format!("{old} is not spoken, as it is not safe; tls1.2 is"),
                );
            }
            other => {
                let message = format!("{other:?} is no version; there are tls1.2 and tls1.3");
                self.wrong(key, message);
            }
        }
    }

    fn cipher_suites(&mut self, tls: &Tls) {
        let suites = &tls.ciphersuites;
        if tls.minimumtls == "tls1.3" {
            if !suites.is_empty() {
                let message = "it has no effect with minimumtls: tls1.3, whose cipher suites \
                               cannot be chosen";
                self.warn("http.tls.ciphersuites", message);
            }
            return;
        }
        let can_be_chosen = SUITES.join(", ");
        for (index, name) in suites.iter().enumerate() {
            let key = format!("http.tls.ciphersuites[{index}]");
            if is_one_of(&UNSAFE_SUITES, name) {
                self.warn(&key, format!("{name} is not offered, as it is not safe"));
            } else if !is_one_of(&SUITES, name) && !is_one_of(&SUITES_OF_TLS13, name) {
                let message = format!("{name:?} is no cipher suite; there are {can_be_chosen}");
                self.wrong(&key, message);
            }
        }
        let any = |known| suites.iter().any(|name| is_one_of(known, name));
        if any(&UNSAFE_SUITES) && !any(&SUITES) {
            let message = format!("none of these is offered; name one of {can_be_chosen}");
            self.wrong("http.tls.ciphersuites", message);
        }
    }

    fn lets_encrypt(&mut self, lets_encrypt: &LetsEncrypt) {
        if lets_encrypt.cachefile.is_empty() {
            let message = "it is missing: the folder where certificates and keys are kept";
            self.wrong("http.tls.letsencrypt.cachefile", message);
        }
        if lets_encrypt.hosts.is_empty() {
            let message = "it is missing: the names to get certificates for";
            self.wrong("http.tls.letsencrypt.hosts", message);
        }
        for (index, host) in lets_encrypt.hosts.iter().enumerate() {
            if !is_host_name(host) {
                let message = format!(
                    "{host:?} is no name to get a certificate for: write it like \
                     registry.example.org, without port or wildcard, and other letters as xn--"
                );
                self.wrong(&format!("http.tls.letsencrypt.hosts[{index}]"), message);
            }
        }
        let url = &lets_encrypt.directoryurl;
        if !url.is_empty() && (!is_url(url) || !url.starts_with("https://")) {
            let message = "this is no URL with https://";
            self.wrong("http.tls.letsencrypt.directoryurl", message);
        }
        let email = &lets_encrypt.email;
        if !email.is_empty() && !email.contains('@') {
            let message = format!("{email:?} is no address like admin@example.org");
            self.wrong("http.tls.letsencrypt.email", message);
        }
    }
}

fn is_one_of(suites: &[&str], name: &str) -> bool {
    suites.contains(&name)
}

/// Whether this is the name of a host, as it can stand in a certificate. Addresses are none: their
/// last label is a number.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use crate::parse;

    /// What is wrong with `http.tls`, and what is odd.
    fn check(tls: &str) -> (Vec<String>, Vec<String>) {
        let text = format!("version: 0.1\nstorage: inmemory\nhttp: {{tls: {{{tls}}}}}");
        let loaded = parse("c", &text, []).unwrap();
        let lines = |problems: &[crate::Problem]| {
            let lines = problems.iter().map(|p| format!("{}: {}", p.key, p.message));
            lines.collect()
        };
        (lines(&loaded.problems), lines(&loaded.warnings))
    }

    fn wrong(tls: &str, message: &str) {
        let (wrong, odd) = check(tls);
        assert_eq!((wrong.len(), odd.len()), (1, 0), "{tls}: {wrong:?} {odd:?}");
        assert!(wrong[0].starts_with(message), "{tls}: {wrong:?}");
    }

    fn odd(tls: &str, message: &str) {
        let (wrong, odd) = check(tls);
        assert_eq!((wrong.len(), odd.len()), (0, 1), "{tls}: {wrong:?} {odd:?}");
        assert!(odd[0].starts_with(message), "{tls}: {odd:?}");
    }

    const PAIR: &str = "certificate: /c, key: /k";

    #[test]
    fn what_distribution_takes_is_good() {
        for tls in [
            PAIR.to_owned(),
            format!("{PAIR}, minimumtls: tls1.3, clientcas: [/a, /b]"),
            format!("{PAIR}, clientcas: /a, clientauth: verify-client-cert-if-given"),
            format!(
                "{PAIR}, minimumtls: tls1.2, ciphersuites: \
                 [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]"
            ),
            format!("{PAIR}, ciphersuites: [TLS_AES_128_GCM_SHA256]"),
            "letsencrypt: {cachefile: /d, email: a@b.example, hosts: [R.example, xn--a-0.b], \
             directoryurl: 'https://localhost:14000/dir'}"
                .to_owned(),
        ] {
            assert_eq!(check(&tls), (vec![], vec![]), "{tls}");
        }
    }

    #[test]
    fn halves_and_contradictions_are_wrong() {
        wrong("certificate: /c", "http.tls.key: it is missing");
        wrong("key: /k", "http.tls.certificate: it is missing");
        wrong(
            &format!("{PAIR}, letsencrypt: {{cachefile: /d, hosts: [a.b]}}"),
            "http.tls.certificate: there can be a certificate, or http.tls.letsencrypt, not both",
        );
        let lets_encrypt = |rest: &str| format!("letsencrypt: {{{rest}}}");
        wrong(
            &lets_encrypt("cachefile: /d"),
            "http.tls.letsencrypt.hosts: it is missing",
        );
        wrong(
            &lets_encrypt("hosts: [a.b]"),
            "http.tls.letsencrypt.cachefile: it is missing",
        );
        for host in [
            "'*.a.b'",
            "'a.b:443'",
            "10.0.0.1",
            "a/b",
            "''",
            "é.fr",
            "-a.b",
        ] {
            wrong(
                &lets_encrypt(&format!("cachefile: /d, hosts: [c.d, {host}]")),
                "http.tls.letsencrypt.hosts[1]: ",
            );
        }
        wrong(
            &lets_encrypt("cachefile: /d, hosts: [a.b], directoryurl: 'http://a/dir'"),
            "http.tls.letsencrypt.directoryurl: ",
        );
        wrong(
            &lets_encrypt("cachefile: /d, hosts: [a.b], email: nobody"),
            "http.tls.letsencrypt.email: ",
        );
    }

    #[test]
    fn versions_and_suites_that_are_not_safe_are_told() {
        odd(
            &format!("{PAIR}, minimumtls: tls1.0"),
            "http.tls.minimumtls: tls1.0 is not spoken",
        );
        wrong(
            &format!("{PAIR}, minimumtls: ssl3"),
            "http.tls.minimumtls: \"ssl3\" is no version; there are tls1.2 and tls1.3",
        );
        odd(
            &format!("{PAIR}, minimumtls: tls1.3, ciphersuites: [whatever]"),
            "http.tls.ciphersuites: it has no effect with minimumtls: tls1.3",
        );
        wrong(
            &format!("{PAIR}, ciphersuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, AES]"),
            "http.tls.ciphersuites[1]: \"AES\" is no cipher suite; there are TLS_ECDHE_",
        );
        odd(
            &format!(
                "{PAIR}, ciphersuites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, \
                 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"
            ),
            "http.tls.ciphersuites[0]: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not offered",
        );
        let (wrong, odd) = check(&format!(
            "{PAIR}, ciphersuites: [TLS_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]"
        ));
        assert_eq!((wrong.len(), odd.len()), (1, 1), "{wrong:?} {odd:?}");
        assert!(wrong[0].starts_with("http.tls.ciphersuites: none of these is offered"));
    }

    #[test]
    fn asking_nobody_for_a_certificate_is_told() {
        odd(
            &format!("{PAIR}, clientauth: require-and-verify-client-cert"),
            "http.tls.clientauth: it has no effect without http.tls.clientcas",
        );
        odd(
            "clientcas: [/a]",
            "http.tls: it has no effect without http.tls.certificate",
        );
    }
}
