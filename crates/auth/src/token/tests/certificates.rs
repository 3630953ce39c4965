//! Keys that come with certificates.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

/// The key of [`ES256`], as certificates take it.
fn es256_pair() -> KeyPair {
    KeyPair::from_pem(ES256).unwrap()
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

#[tokio::test]
async fn keys_of_certificates_are_found_by_every_id() {
    let certificate = params("self", true).self_signed(&es256_pair()).unwrap();
    let controller = Fixture::new()
        .bundle(&certificate.pem())
        .controller()
        .unwrap();
    let public = PublicKey::from_certificate(certificate.der()).unwrap();
    let der = STANDARD.encode(certificate.der());
    let [thumbprint, _] = public.thumbprints();
    let headers = [
        json!({"alg": "ES256", "kid": public.id()}),
        json!({"alg": "ES256", "kid": thumbprint}),
        json!({"alg": "ES256", "jwk": public.to_jwk(&Jwk::new())}),
        json!({"alg": "ES256", "x5c": [der]}),
        json!({"alg": "ES256", "jwk": {"kty": "EC", "x5c": [der]}}),
    ];
    for header in headers {
        assert!(
            shown(&controller, &token(&header, &claims()), &[])
                .await
                .is_ok(),
            "{header}"
        );
    }
    let stranger = key("RS256");
    let headers = [
        json!({"alg": "RS256", "jwk": stranger}),
        json!({"alg": "ES256", "kid": "x"}),
        json!({"alg": "ES256"}),
    ];
    for header in headers {
        reason(&controller, &token(&header, &claims())).await;
    }
}

#[tokio::test]
async fn a_chain_must_lead_to_a_trusted_certificate_and_be_good_now() {
    let [root_key, middle_key, other_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root_params = params("root", true);
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, &root_key);
    let middle_params = params("middle", true);
    let middle = middle_params.signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(middle_params, &middle_key);
    let leaf = params("leaf", false)
        .signed_by(&es256_pair(), &middle_issuer)
        .unwrap();
    let mut expired = params("expired", false);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_before = rcgen::date_time_ymd(2019, 1, 1);
    let expired = expired.signed_by(&es256_pair(), &middle_issuer).unwrap();
    let stranger_params = params("root", true);
    let stranger_issuer = Issuer::new(stranger_params, &other_key);
    let strange = params("leaf", false)
        .signed_by(&es256_pair(), &stranger_issuer)
        .unwrap();
    // A certificate that may not vouch for others.
    let no_ca = params("middle", false)
        .signed_by(&middle_key, &root_issuer)
        .unwrap();
    let under_no_ca = Issuer::new(params("middle", false), &middle_key);
    let under_no_ca = params("leaf", false)
        .signed_by(&es256_pair(), &under_no_ca)
        .unwrap();

    let controller = Fixture::new().bundle(&root.pem()).controller().unwrap();
    let of = |chain: &[&rcgen::Certificate]| {
        let chain: Vec<String> = chain.iter().map(|c| STANDARD.encode(c.der())).collect();
        token(&json!({"alg": "ES256", "x5c": chain}), &claims())
    };
    assert!(
        shown(&controller, &of(&[&leaf, &middle]), &[])
            .await
            .is_ok()
    );
    for chain in [
        &[&leaf][..],
        &[&expired, &middle],
        &[&strange, &middle],
        &[&under_no_ca, &no_ca],
        &[],
    ] {
        reason(&controller, &of(chain)).await;
    }
    // Another key than the chain's signed it.
    let chain = [STANDARD.encode(middle.der())];
    let header = json!({"alg": "ES256", "x5c": chain});
    reason(&controller, &token(&header, &claims())).await;
}

#[tokio::test]
async fn a_chain_has_a_bound_wherever_it_stands() {
    let root = params("root", true).self_signed(&es256_pair()).unwrap();
    let controller = Fixture::new().bundle(&root.pem()).controller().unwrap();
    let chain = |length| vec![STANDARD.encode(root.der()); length];
    let headers = |length| {
        [
            json!({"alg": "ES256", "x5c": chain(length)}),
            json!({"alg": "ES256", "jwk": {"kty": "EC", "x5c": chain(length)}}),
        ]
    };
    for header in headers(10) {
        let good = token(&header, &claims());
        assert!(shown(&controller, &good, &[]).await.is_ok());
    }
    for header in headers(11) {
        let reason = reason(&controller, &token(&header, &claims())).await;
        assert!(reason.contains("more than 10 certificates"), "{reason}");
    }
}

/// Whichever certificate of the chain expires first, the one at its end or one between.
#[tokio::test]
async fn a_remembered_token_is_good_no_longer_than_its_certificates() {
    let [root_key, middle_key] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let root_params = params("root", true);
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, &root_key);
    let controller = Fixture::new().bundle(&root.pem()).controller().unwrap();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(4);
    let later = soon + std::time::Duration::from_secs(3600);
    let mut tokens = Vec::new();
    for (of_leaf, of_middle) in [(soon, later), (later, soon), (later, later)] {
        let mut middle_params = params("middle", true);
        middle_params.not_after = of_middle.into();
        let middle = middle_params.signed_by(&middle_key, &root_issuer).unwrap();
        let mut leaf = params("leaf", false);
        leaf.not_after = of_leaf.into();
        let leaf = leaf
            .signed_by(&es256_pair(), &Issuer::new(middle_params, &middle_key))
            .unwrap();
        let chain = [&leaf, &middle].map(|one| STANDARD.encode(one.der()));
        let token = token(&json!({"alg": "ES256", "x5c": chain}), &claims());
        assert!(shown(&controller, &token, &[]).await.is_ok());
        tokens.push(token);
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    for token in &tokens[..2] {
        while shown(&controller, token, &[]).await.is_ok() {
            assert!(std::time::Instant::now() < deadline, "it is still good");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let reason = reason(&controller, token).await;
        assert!(reason.contains("its certificate expired"), "{reason}");
    }
    assert!(shown(&controller, &tokens[2], &[]).await.is_ok());
}
