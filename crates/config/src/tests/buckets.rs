//! `storage.s3`, `storage.azure` and `storage.gcs`.

use super::*;

#[test]
fn buckets_are_read() {
    let s3 = |text: &str| {
        let file = format!("version: 0.1\nstorage:\n  s3: {{{text}}}\n");
        let config = good(&file, &[]);
        config.storage.s3.unwrap()
    };
    let least = s3("region: eu-central-1, bucket: b");
    assert!(least.secure && least.v4auth && !least.forcepathstyle && !least.logs_requests());
    assert_eq!(least.chunksize, ByteSize::new(10_485_760));
    assert_eq!(least.multipartcopychunksize, ByteSize::new(33_554_432));
    assert_eq!(least.multipartcopymaxconcurrency, 100);
    // As people have it in files for Distribution.
    let usual = s3(
        "accesskey: a, secretkey: b, regionendpoint: 'http://minio:9000', bucket: b, \
                    chunksize: '5242880', secure: no, forcepathstyle: true, encrypt: true, keyid: \
                    k, storageclass: reduced_redundancy, loglevel: debug, rootdirectory: /a/b/",
    );
    assert_eq!(usual.accesskey.expose(), "a");
    assert_eq!(usual.chunksize, ByteSize::mebibytes(5));
    assert!(!usual.secure && usual.forcepathstyle && usual.logs_requests());
    assert!(!s3("region: r, bucket: b, loglevel: off").logs_requests());
    let other_name = "version: 0.1\nstorage: {s3aws: {region: r, bucket: c}}\n";
    assert_eq!(good(other_name, &[]).storage.s3.unwrap().bucket, "c");
}

#[test]
fn buckets_that_cannot_be_are_refused() {
    let cases = [
        ("region: r", "storage.s3.bucket: the bucket is missing"),
        ("bucket: b", "storage.s3.region: the region is missing"),
        (
            "bucket: a/b, region: r",
            "storage.s3.bucket: \"a/b\" cannot be",
        ),
        (
            "bucket: b, region: r/s",
            "storage.s3.region: \"r/s\" cannot be",
        ),
        (
            "bucket: b, region: r, accesskey: a",
            "storage.s3.accesskey: storage.s3.secretkey is",
        ),
        (
            "bucket: b, region: r, secretkey: a",
            "storage.s3.secretkey: storage.s3.accesskey is",
        ),
        (
            "bucket: b, region: r, sessiontoken: a",
            "storage.s3.sessiontoken: storage.s3.accesskey",
        ),
        (
            "bucket: b, region: r, v4auth: false",
            "storage.s3.v4auth: requests are signed by",
        ),
        (
            "bucket: b, region: r, chunksize: 1000",
            "storage.s3.chunksize: 1000 is not from 5MiB to",
        ),
        (
            "bucket: b, region: r, chunksize: ten",
            "storage.s3.chunksize: \"ten\" is not a number of",
        ),
        (
            "bucket: b, region: r, multipartcopychunksize: 6GiB",
            "storage.s3.multipartcopychunksize: 6GiB is not",
        ),
        (
            "bucket: b, region: r, multipartcopythresholdsize: 6GiB",
            "storage.s3.multipartcopythresholdsize: 6GiB is more",
        ),
        (
            "bucket: b, region: r, multipartcopymaxconcurrency: 0",
            "storage.s3.multipartcopymaxconcurrency: there must",
        ),
        (
            "bucket: b, region: r, storageclass: cold",
            "storage.s3.storageclass: \"cold\" is not one",
        ),
        (
            "bucket: b, region: r, storageclass: outposts",
            "storage.s3.storageclass: buckets of the",
        ),
        (
            "bucket: b, region: r, objectacl: mine",
            "storage.s3.objectacl: \"mine\" is not one of",
        ),
        (
            "bucket: b, regionendpoint: 'http://h/x'",
            "storage.s3.regionendpoint: \"http://h/x\" is no",
        ),
        (
            "bucket: b, regionendpoint: h, accelerate: true",
            "storage.s3.accelerate: only Amazon's",
        ),
        (
            "bucket: b.c, region: r, accelerate: true",
            "storage.s3.accelerate: Amazon's servers at",
        ),
        (
            "bucket: b, region: r, rootdirectory: a//b",
            "storage.s3.rootdirectory: \"a//b\" cannot",
        ),
        (
            "bucket: b, region: r, loglevel: loud",
            "storage.s3.loglevel: \"loud\" is not one of off,",
        ),
        (
            "bucket: b, region: r, encrypt: maybe",
            "storage.s3.encrypt: \"maybe\" is not true or",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(&format!("version: 0.1\nstorage:\n  s3: {{{text}}}\n"), &[]);
        assert!(found.contains(&format!(": {message}")), "{text}: {found}");
        assert!(found.starts_with("config.yml:3:"), "{found}");
    }
}

#[test]
fn containers_are_read() {
    let azure = |text: &str| {
        let file = format!("version: 0.1\nstorage:\n  azure: {{{text}}}\n");
        good(&file, &[]).storage.azure.unwrap()
    };
    // As Distribution's page has it.
    let usual = azure(
        "accountname: a, accountkey: a2V5, container: c, rootdirectory: /x/, realm: \
         core.chinacloudapi.cn, max_retries: 7, retry_delay: 1s, credentials: {type: shared_key}",
    );
    let account = usual.account().unwrap();
    assert_eq!(account.service, "https://a.blob.core.chinacloudapi.cn");
    assert_eq!(usual.form(&account), Some(AzureForm::SharedKey));
    assert_eq!(
        (usual.max_retries, usual.retry_delay),
        (7, GoDuration::from_secs(1))
    );
    let application = azure(
        "accountname: a, container: c, credentials: {type: client_secret, clientid: i, tenantid: \
         t, secret: s}",
    );
    let account = application.account().unwrap();
    assert_eq!(application.form(&account), Some(AzureForm::ClientSecret));
    assert_eq!(application.credentials.secret.expose(), "s");
    // What is there tells the form.
    for (text, form) in [
        ("accountname: a, container: c", AzureForm::Default),
        (
            "accountname: a, container: c, accountkey: a2V5",
            AzureForm::SharedKey,
        ),
        (
            "accountname: a, container: c, sastoken: '?sv=1&sig=x'",
            AzureForm::SasToken,
        ),
    ] {
        let azure = azure(text);
        assert_eq!(azure.form(&azure.account().unwrap()), Some(form), "{text}");
    }
}

#[test]
fn connection_strings_tell_of_an_account() {
    let cases = [
        (
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5;EndpointSuffix=core.x",
            ("a", "https://a.blob.core.x", "a2V5", ""),
        ),
        (
            "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:10000/a/;QueueEndpoint=q",
            ("a", "http://127.0.0.1:10000/a", "a2V5", ""),
        ),
        (
            "BlobEndpoint=https://b.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x",
            ("b", "https://b.blob.core.windows.net", "", "sv=1&sig=x"),
        ),
    ];
    for (text, expected) in cases {
        let file = format!(
            "version: 0.1\nstorage:\n  azure: {{container: c, connectionstring: '{text}'}}\n"
        );
        let azure = good(&file, &[]).storage.azure.unwrap();
        let account = azure.account().unwrap();
        let (key, signature) = (account.key.expose(), account.signature.expose());
        let found = (
            account.name.as_str(),
            account.service.as_str(),
            key,
            signature,
        );
        assert_eq!(found, expected);
    }
}

#[test]
fn containers_that_cannot_be_are_refused() {
    let cases = [
        ("accountname: a", "container: the container is missing"),
        ("container: c", "accountname: the account is missing"),
        (
            "accountname: a, container: C",
            "container: \"C\" cannot be the name of",
        ),
        (
            "accountname: a.b, container: c",
            "accountname: \"a.b\" cannot be the",
        ),
        (
            "accountname: a, container: c, credentials: {type: default}",
            "credentials.type: \"default\" is not one of shared_key, client_secret, \
             default_credentials, sas_token",
        ),
        (
            "accountname: a, container: c, credentials: {type: shared_key}",
            "accountkey: it is missing, which credentials of the type shared_key need",
        ),
        (
            "accountname: a, container: c, credentials: {type: client_secret, clientid: i, \
             tenantid: t}",
            "credentials.secret: it is missing",
        ),
        (
            "accountname: a, container: c, accountkey: hunter2",
            "accountkey: this is no key",
        ),
        (
            "accountname: a, container: c, sastoken: hunter2",
            "sastoken: this is no shared",
        ),
        (
            "container: c, connectionstring: hunter2",
            "connectionstring: it is no list of NAME=VALUE",
        ),
        (
            "container: c, connectionstring: AccountName=a;AccountKey=hunter2",
            "connectionstring: this is no key of",
        ),
        (
            "container: c, connectionstring: AccountName=a",
            "connectionstring: it has neither an",
        ),
        (
            "container: c, accountname: a, connectionstring: AccountName=a;AccountKey=a2V5",
            "accountname: storage.azure.connectionstring says this",
        ),
        (
            "accountname: a, container: c, realm: 'a/b'",
            "realm: \"a/b\" is no domain",
        ),
        (
            "accountname: a, container: c, serviceurl: x.y",
            "serviceurl: \"x.y\" is no server",
        ),
        (
            "accountname: a, container: c, rootdirectory: 'a//b'",
            "rootdirectory: \"a//b\" cannot be a folder in a container",
        ),
        (
            "accountname: a, container: c, chunksize: 1MiB",
            "chunksize: 1MiB is not from 5MiB",
        ),
        (
            "accountname: a, container: c, max_retries: -2",
            "max_retries: -2 is not from -1",
        ),
        (
            "accountname: a, container: c, retry_delay: soon",
            "retry_delay: \"soon\" is not a",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(
            &format!("version: 0.1\nstorage:\n  azure: {{{text}}}\n"),
            &[],
        );
        let expected = format!(": storage.azure.{message}");
        assert!(found.contains(&expected), "{text}: {found}");
        assert!(found.starts_with("config.yml:3:"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn buckets_of_google_are_read() {
    let gcs = |text: &str| {
        let file = format!("version: 0.1\nstorage:\n  gcs: {{{text}}}\n");
        read(&file, &[]).unwrap()
    };
    let least = gcs("bucket: b");
    assert_eq!(lines(&least.warnings), Vec::<String>::new());
    assert_eq!(least.problems, []);
    let least = least.config.storage.gcs.unwrap();
    assert_eq!((least.part(), least.concurrency()), (16 << 20, 50));
    // As people have it in files for Distribution, whose page names a default of 5 MiB.
    let key = "{type: service_account, project_id: p, private_key_id: 12e3, private_key: s-e-cret, \
               client_email: a@b}";
    let usual = gcs(&format!(
        "bucket: b, credentials: {key}, rootdirectory: /a/b, chunksize: 5242880, \
         maxconcurrency: '60', useragent: x"
    ));
    assert_eq!(lines(&usual.warnings), Vec::<String>::new());
    assert_eq!(usual.problems, []);
    assert!(!usual.config.to_yaml().contains("s-e-cret"));
    let usual = usual.config.storage.gcs.unwrap();
    assert!(!format!("{usual:?}").contains("s-e-cret"));
    assert_eq!(usual.credentials["private_key"].expose(), "s-e-cret");
    assert_eq!(usual.credentials["private_key_id"].expose(), "12e3");
    assert_eq!((usual.part(), usual.concurrency()), (5 << 20, 60));
    let small = gcs("bucket: b, chunksize: 256KiB, maxconcurrency: -1");
    assert_eq!(
        lines(&small.warnings),
        [
            "config.yml:3:31: storage.gcs.chunksize: 256KiB is less than a part can be, so that \
             parts have 5MiB",
            "config.yml:3:55: storage.gcs.maxconcurrency: -1 is less than there can be, and counts \
             as 25",
        ]
    );
    let small = small.config.storage.gcs.unwrap();
    assert_eq!((small.part(), small.concurrency()), (5 << 20, 25));
    let both = gcs(&format!("bucket: b, keyfile: k, credentials: {key}"));
    assert!(lines(&both.warnings)[0].contains("storage.gcs.keyfile is there too"));
}

#[test]
fn buckets_of_google_that_cannot_be_are_refused() {
    let cases = [
        ("keyfile: k", "storage.gcs.bucket: the bucket is missing"),
        ("bucket: a/b", "storage.gcs.bucket: \"a/b\" cannot be"),
        (
            "bucket: b, credentials: {type: service_account, private_key: x}",
            "storage.gcs.credentials: client_email is missing",
        ),
        (
            "bucket: b, credentials: {type: external_account, private_key: x, client_email: y}",
            "storage.gcs.credentials.type: only the key",
        ),
        (
            "bucket: b, chunksize: 300000",
            "storage.gcs.chunksize: 300000 is no multiple",
        ),
        (
            "bucket: b, chunksize: 0",
            "storage.gcs.chunksize: 0 is no multiple",
        ),
        (
            "bucket: b, chunksize: 6GiB",
            "storage.gcs.chunksize: 6GiB is no multiple",
        ),
        (
            "bucket: b, maxconcurrency: many",
            "storage.gcs.maxconcurrency: \"many\" is",
        ),
        (
            "bucket: b, rootdirectory: 'a#b'",
            "storage.gcs.rootdirectory: \"a#b\" cannot",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(&format!("version: 0.1\nstorage:\n  gcs: {{{text}}}\n"), &[]);
        assert!(found.contains(&format!(": {message}")), "{text}: {found}");
        assert!(found.starts_with("config.yml:3:"), "{found}");
    }
}
