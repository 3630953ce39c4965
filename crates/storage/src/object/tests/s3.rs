//! Amazon's protocol, as Moto serves it.

use super::*;

use crate::testing::moto::Moto;

impl Server for Moto {
    async fn start() -> Self {
        Self::start().await
    }

    fn driver(&self) -> ObjectDriver {
        self.driver()
    }

    async fn open_uploads(&self) -> usize {
        let driver = self.driver();
        let open = driver.0.bucket.open_uploads("some/where/").await;
        open.unwrap().len()
    }
}

driver_tests!(Moto);

#[test]
fn leftovers_are_multipart_uploads_that_nobody_needs() {
    crate::testing::block_on(suite::leftovers_are_multipart_uploads_that_nobody_needs::<
        Moto,
    >());
}

#[test]
fn a_redirect_gives_the_content_without_credentials() {
    crate::testing::block_on(async {
        let driver = Moto::start().await.driver();
        let file = path("/file");
        driver
            .put(&file, "content".into(), Durability::Machine)
            .await
            .unwrap();
        let request = |method| RedirectRequest {
            path: &file,
            method,
            content_type: "application/octet-stream",
            client: None,
        };
        let url = driver.redirect_url(request("GET")).await.unwrap().unwrap();
        assert!(
            url.contains("X-Amz-Expires=1200") && url.contains("X-Amz-Signature="),
            "{url}"
        );
        let got = client().get(url).send().await.unwrap();
        assert_eq!(got.headers()["content-type"], "application/octet-stream");
        assert_eq!(got.bytes().await.unwrap(), "content");
        let url = driver.redirect_url(request("HEAD")).await.unwrap().unwrap();
        let got = client().head(url).send().await.unwrap();
        assert_eq!(got.headers()["content-length"], "7");
        assert_eq!(driver.redirect_url(request("PUT")).await.unwrap(), None);
    });
}

#[test]
fn what_each_object_is_to_have_is_told_to_the_store() {
    crate::testing::block_on(async {
        let server = Moto::start().await;
        let options = S3Options {
            encryption: Some(S3Encryption::Store),
            storage_class: Some("STANDARD_IA".to_owned()),
            acl: Some("public-read".to_owned()),
            ..server.options()
        };
        let driver = ObjectDriver::s3(&options, client()).unwrap();
        driver
            .put(&path("/small"), "x".into(), Durability::Machine)
            .await
            .unwrap();
        for size in [9 * MIB, 2] {
            write(&driver, WriteMode::Create, content(size))
                .await
                .commit()
                .await
                .unwrap();
            let to = path(&format!("/moved/{size}"));
            driver.rename(&path("/up/data"), &to).await.unwrap();
        }
        for name in ["small", "moved/2", &format!("moved/{}", 9 * MIB)] {
            // Nobody's request: the access list lets everybody read it.
            let url = format!(
                "http://{}/{}/some/where/{name}",
                server.address, server.bucket
            );
            let answer = client().head(url).send().await.unwrap();
            assert!(answer.status().is_success(), "{name}: {answer:?}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap();
            assert_eq!(header("x-amz-storage-class"), "STANDARD_IA", "{name}");
            assert_eq!(header("x-amz-server-side-encryption"), "AES256", "{name}");
            assert_eq!(header("content-type"), "application/octet-stream", "{name}");
        }
    });
}

#[test]
fn a_bucket_that_is_not_there_is_told() {
    crate::testing::block_on(async {
        let server = Moto::without_bucket();
        let driver = server.driver();
        let error = driver.check().await.unwrap_err().to_string();
        assert!(error.contains("NoSuchBucket"), "{error}");
        let error = driver.get(&path("/file")).await.unwrap_err();
        assert!(
            !error.is_not_found() && error.to_string().contains("NoSuchBucket"),
            "{error}"
        );
    });
}
