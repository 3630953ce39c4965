//! Versions, cipher suites and protocols: what is offered to clients.

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];
const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// ring's cryptography with the cipher suites of TLS 1.2 that are named; none is all. Those of
/// TLS 1.3 are all good and cannot be chosen, as in Go.
pub(super) fn provider(names: &[String]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| {
        names.is_empty()
            || suite.tls13().is_some()
            || names
                .iter()
                .any(|name| Some(name.as_str()) == suite.suite().as_str())
    });
    provider
}

/// The versions that are spoken: no TLS 1.2 where no cipher suite is left for it.
pub(super) fn versions(
    tls13_only: bool,
    provider: &CryptoProvider,
) -> &'static [&'static SupportedProtocolVersion] {
    let for_tls12 = |suite: &SupportedCipherSuite| suite.tls13().is_none();
    if tls13_only || !provider.cipher_suites.iter().any(for_tls12) {
        ONLY_TLS13
    } else {
        BOTH
    }
}

/// What is spoken over TLS, by the names of ALPN.
pub(super) fn application_protocols(http2: bool) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = if http2 {
        &[b"h2", b"http/1.1"]
    } else {
        &[b"http/1.1"]
    };
    names.iter().map(|name| name.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(provider: &CryptoProvider) -> Vec<&str> {
        let suites = provider.cipher_suites.iter();
        suites.filter_map(|suite| suite.suite().as_str()).collect()
    }

    #[test]
    fn suites_of_tls_1_2_are_chosen_by_name_and_those_of_1_3_stay() {
        let all = provider(&[]);
        assert_eq!(
            names(&all),
            [
                "TLS13_AES_256_GCM_SHA384",
                "TLS13_AES_128_GCM_SHA256",
                "TLS13_CHACHA20_POLY1305_SHA256",
                // The configuration knows these names too: crates/config/src/check/tls.rs.
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            ]
        );
        assert_eq!(versions(false, &all), BOTH);
        assert_eq!(versions(true, &all), ONLY_TLS13);
        let one = provider(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()]);
        assert_eq!(names(&one)[3..], ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
        let none = provider(&["TLS_AES_128_GCM_SHA256".to_owned()]);
        assert_eq!(names(&none).len(), 3);
        assert_eq!(versions(false, &none), ONLY_TLS13);
    }
}
