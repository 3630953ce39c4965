//! A container of Azure Blob Storage.

use wharfinger_config::{Azure, AzureForm};
use wharfinger_storage::{AzureCredentials, AzureOptions, ObjectDriver, Retries};

use super::super::{Unusable, unusable};
use super::Bucket;

/// # Errors
/// The key that is wrong.
pub(super) fn container(azure: &Azure) -> Result<Bucket, Unusable> {
    let account = azure.account();
    let account = account.map_err(|reason| unusable("storage.azure.connectionstring")(&reason))?;
    let authority = authority(&azure.realm);
    let application = &azure.credentials;
    let credentials = match azure.form(&account) {
        Some(AzureForm::SharedKey) => AzureCredentials::SharedKey(account.key.expose().to_owned()),
        Some(AzureForm::SasToken) => AzureCredentials::Sas(account.signature.expose().to_owned()),
        Some(AzureForm::ClientSecret) => AzureCredentials::ClientSecret {
            tenant: application.tenantid.clone(),
            client: application.clientid.clone(),
            secret: application.secret.expose().to_owned(),
            authority: std::env::var("AZURE_AUTHORITY_HOST")
                .ok()
                .or(authority.map(str::to_owned)),
        },
        Some(AzureForm::Default) | None => AzureCredentials::found(authority)
            .map_err(|error| unusable("storage.azure.credentials.type")(&error))?,
    };
    let options = AzureOptions {
        account: account.name,
        service: account.service,
        container: azure.container.clone(),
        root: azure.rootdirectory.clone(),
        credentials,
        part: azure.chunksize.get(),
        // Less than none is never to look.
        copy_polls: u32::try_from(azure.max_retries).unwrap_or(0),
        copy_delay: azure.retry_delay.get(),
        retries: Retries::default(),
    };
    let client = super::client("storage.azure", azure.skipverify, "", options.part)?;
    let driver = ObjectDriver::azure(&options, client);
    Ok(Bucket {
        driver: driver.map_err(|error| unusable("storage.azure")(&error))?,
        name: azure.container.clone(),
        kind: "container",
        key: "storage.azure.container",
    })
}

/// The server that gives tokens for one of Azure's clouds, where it is not that of the public one.
fn authority(realm: &str) -> Option<&'static str> {
    match realm {
        "core.chinacloudapi.cn" => Some("https://login.chinacloudapi.cn"),
        "core.usgovcloudapi.net" => Some("https://login.microsoftonline.us"),
        _ => None,
    }
}
