//! `storage.azure`.

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::secret::Secret;
use crate::size::ByteSize;

/// `storage.azure`: a container of Azure Blob Storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Azure {
    /// The account.
    pub accountname: String,
    /// One of the account's two keys.
    pub accountkey: Secret,
    /// A shared access signature, in place of a key.
    pub sastoken: Secret,
    /// Account, key or signature, and where the account is, in one.
    pub connectionstring: Secret,
    /// Who asks.
    pub credentials: AzureCredentials,
    /// The container.
    pub container: String,
    /// The folder in the container below which everything is kept.
    pub rootdirectory: String,
    /// What the names of Azure's servers end in.
    pub realm: String,
    /// Where the account's blobs are, where that does not follow from account and realm.
    pub serviceurl: String,
    /// Whether the server's certificate is not looked at.
    pub skipverify: bool,
    /// The size of the parts of large files.
    pub chunksize: ByteSize,
    /// How often it is looked whether a copy is done that is not done at once; -1 for never.
    pub max_retries: i64,
    /// How long is waited before the first look.
    pub retry_delay: GoDuration,
}

/// `storage.azure.credentials`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AzureCredentials {
    /// Their form; without one, what is there tells.
    #[serde(rename = "type")]
    pub form: String,
    /// The application.
    pub clientid: String,
    /// The directory that knows it.
    pub tenantid: String,
    /// Its secret.
    pub secret: Secret,
}

impl Default for Azure {
    fn default() -> Self {
        Self {
            accountname: String::new(),
            accountkey: Secret::default(),
            sastoken: Secret::default(),
            connectionstring: Secret::default(),
            credentials: AzureCredentials::default(),
            container: String::new(),
            rootdirectory: String::new(),
            realm: "core.windows.net".to_owned(),
            serviceurl: String::new(),
            skipverify: false,
            chunksize: ByteSize::mebibytes(10),
            max_retries: 5,
            retry_delay: GoDuration::from_millis(100),
        }
    }
}

/// An account, by whichever keys it is told.
#[derive(Clone, Debug, Default)]
pub struct AzureAccount {
    /// Its name.
    pub name: String,
    /// Where its blobs are.
    pub service: String,
    /// One of its keys, if there is one.
    pub key: Secret,
    /// A shared access signature, if there is one.
    pub signature: Secret,
}

/// The forms of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureForm {
    /// A key of the account.
    SharedKey,
    /// A shared access signature.
    SasToken,
    /// An application's secret.
    ClientSecret,
    /// What the process's surroundings give.
    Default,
}

impl AzureForm {
    pub(crate) const ALL: [(&str, Self); 4] = [
        ("shared_key", Self::SharedKey),
        ("client_secret", Self::ClientSecret),
        ("default_credentials", Self::Default),
        ("sas_token", Self::SasToken),
    ];
}

impl Azure {
    /// The account.
    ///
    /// # Errors
    /// What is wrong with the connection string; never a part of it.
    pub fn account(&self) -> Result<AzureAccount, &'static str> {
        if !self.connectionstring.is_empty() {
            return account(self.connectionstring.expose());
        }
        Ok(AzureAccount {
            name: self.accountname.clone(),
            service: match self.serviceurl.as_str() {
                "" => format!("https://{}.blob.{}", self.accountname, self.realm),
                url => url.trim_end_matches('/').to_owned(),
            },
            key: self.accountkey.clone(),
            signature: self.sastoken.clone(),
        })
    }

    /// The form of the credentials; `None` when there is none of that name.
    pub fn form(&self, account: &AzureAccount) -> Option<AzureForm> {
        match self.credentials.form.as_str() {
            "" if !account.key.is_empty() => Some(AzureForm::SharedKey),
            "" if !account.signature.is_empty() => Some(AzureForm::SasToken),
            "" => Some(AzureForm::Default),
            named => {
                let mut all = AzureForm::ALL.iter();
                all.find(|(name, _)| *name == named).map(|(_, form)| *form)
            }
        }
    }
}

/// The account that a connection string tells of, as Azure's own pages give it:
/// `AccountName=…;AccountKey=…;EndpointSuffix=…`.
fn account(text: &str) -> Result<AzureAccount, &'static str> {
    let mut account = AzureAccount::default();
    let (mut scheme, mut suffix) = ("https", "core.windows.net");
    for part in text
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let pair = part.split_once('=');
        let (name, value) = pair.ok_or("it is no list of NAME=VALUE with semicolons between")?;
        match name.to_lowercase().as_str() {
            "accountname" => value.clone_into(&mut account.name),
            "accountkey" => account.key = Secret::new(value),
            "sharedaccesssignature" => account.signature = Secret::new(value),
            "blobendpoint" => value.trim_end_matches('/').clone_into(&mut account.service),
            "endpointsuffix" => suffix = value,
            "defaultendpointsprotocol" => scheme = value,
            _ => {}
        }
    }
    if account.name.is_empty() {
        // With a signature, Azure's pages name the account in the endpoint alone.
        let (_, host) = account.service.split_once("://").unwrap_or_default();
        let name = host.split_once(".blob.").map(|(name, _)| name);
        name.ok_or("it has no AccountName")?
            .clone_into(&mut account.name);
    }
    if account.key.is_empty() && account.signature.is_empty() {
        return Err("it has neither an AccountKey nor a SharedAccessSignature");
    }
    if account.service.is_empty() {
        account.service = format!("{scheme}://{}.blob.{suffix}", account.name);
    }
    Ok(account)
}
