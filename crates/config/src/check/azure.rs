//! `storage.azure`.

use super::Checker;
use crate::section::{Azure, AzureAccount, AzureForm, UploadPurging};
use crate::size::ByteSize;

/// As with every store: what a file is cut into must be no smaller.
const SMALLEST_PART: ByteSize = ByteSize::mebibytes(5);

/// The largest block there can be.
const LARGEST_PART: ByteSize = ByteSize::mebibytes(4000);

/// How long Azure keeps blocks that belong to no blob yet, in hours.
const BLOCKS_LAST: u64 = 168;

const CONNECTION: &str = "storage.azure.connectionstring";

impl Checker<'_> {
    pub(super) fn azure(&mut self, azure: &Azure, purging: &UploadPurging) {
        match azure.account() {
            Ok(account) => {
                self.azure_account(azure, &account);
                self.azure_credentials(azure, &account);
            }
            Err(reason) => {
                let message = format!(
                    "{reason}; write it as Azure shows it, like \
                     AccountName=NAME;AccountKey=KEY;EndpointSuffix=core.windows.net"
                );
                self.wrong(CONNECTION, message);
            }
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if azure.container.is_empty() {
            self.wrong("storage.azure.container", "the container is missing");
        } else if !azure.container.chars().all(is_name) {
            let message = format!(
                "{:?} cannot be the name of a container: it has small letters, digits and dashes",
                azure.container
            );
            self.wrong("storage.azure.container", message);
        }
        if !super::is_folder_of_a_bucket(&azure.rootdirectory) {
            let message = format!(
                "{:?} cannot be a folder in a container",
                azure.rootdirectory
            );
            self.wrong("storage.azure.rootdirectory", message);
        }
        let size = azure.chunksize;
        if size < SMALLEST_PART || size > LARGEST_PART {
            let message = format!("{size} is not from {SMALLEST_PART} to {LARGEST_PART}");
            self.wrong("storage.azure.chunksize", message);
        }
        if !(-1..=1000).contains(&azure.max_retries) {
            let message = format!(
                "{} is not from -1, which is never, to 1000",
                azure.max_retries
            );
            self.wrong("storage.azure.max_retries", message);
        }
        let longest = std::time::Duration::from_secs(BLOCKS_LAST * 3600);
        if purging.enabled && purging.age.get() > longest {
            let message = "Azure drops what was sent of an upload a week after the last of it came; \
                           168h is the longest that has an effect";
            self.warn("storage.maintenance.uploadpurging.age", message);
        }
    }

    fn azure_account(&mut self, azure: &Azure, account: &AzureAccount) {
        let told = !azure.connectionstring.is_empty();
        let others = [
            ("accountname", azure.accountname.is_empty()),
            ("accountkey", azure.accountkey.is_empty()),
            ("sastoken", azure.sastoken.is_empty()),
            ("serviceurl", azure.serviceurl.is_empty()),
        ];
        for (key, _) in others.iter().filter(|(_, is_empty)| told && !is_empty) {
            let message = "storage.azure.connectionstring says this too; there must be one of them";
            self.wrong(&format!("storage.azure.{key}"), message);
        }
        let key = match told {
            true => CONNECTION,
            false => "storage.azure.accountname",
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if account.name.is_empty() {
            self.wrong(key, "the account is missing");
        } else if !account.name.chars().all(is_name) {
            let message = format!("{:?} cannot be the name of an account", account.name);
            self.wrong(key, message);
        }
        let sane = |c: char| c.is_ascii_alphanumeric() || "-._:[]/".contains(c);
        let realm = azure.realm.as_str();
        if realm.is_empty() || !realm.chars().all(|c| sane(c) && c != '/') {
            let message = format!("{realm:?} is no domain; write it like core.windows.net");
            self.wrong("storage.azure.realm", message);
            return;
        }
        let schemes = ["http://", "https://"];
        let host = schemes.iter().find_map(|s| account.service.strip_prefix(s));
        if !host.is_some_and(|host| !host.is_empty() && host.chars().all(sane)) {
            let key = match told {
                true => CONNECTION,
                false => "storage.azure.serviceurl",
            };
            let message = format!(
                "{:?} is no server; write it like https://account.blob.core.windows.net",
                account.service
            );
            self.wrong(key, message);
        }
    }

    fn azure_credentials(&mut self, azure: &Azure, account: &AzureAccount) {
        let Some(form) = azure.form(account) else {
            let forms = AzureForm::ALL.map(|(name, _)| name).join(", ");
            let message = format!("{:?} is not one of {forms}", azure.credentials.form);
            self.wrong("storage.azure.credentials.type", message);
            return;
        };
        let secret = &azure.credentials;
        let parts = [
            ("accountkey", AzureForm::SharedKey, account.key.is_empty()),
            (
                "sastoken",
                AzureForm::SasToken,
                account.signature.is_empty(),
            ),
            (
                "credentials.clientid",
                AzureForm::ClientSecret,
                secret.clientid.is_empty(),
            ),
            (
                "credentials.tenantid",
                AzureForm::ClientSecret,
                secret.tenantid.is_empty(),
            ),
            (
                "credentials.secret",
                AzureForm::ClientSecret,
                secret.secret.is_empty(),
            ),
        ];
        let name = AzureForm::ALL.iter().find(|(_, known)| *known == form);
        let name = name.map_or("", |(name, _)| name);
        for (key, needed_by, is_empty) in parts {
            let key = format!("storage.azure.{key}");
            if needed_by == form && is_empty {
                let message = format!("it is missing, which credentials of the type {name} need");
                self.wrong(&key, message);
            } else if needed_by != form && !is_empty && azure.connectionstring.is_empty() {
                let message = format!("it has no effect with credentials of the type {name}");
                self.warn(&key, message);
            }
        }
        let told_by = |key| match azure.connectionstring.is_empty() {
            true => key,
            false => CONNECTION,
        };
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let key = account.key.expose();
        if form == AzureForm::SharedKey
            && !(key.len().is_multiple_of(4) && key.chars().all(is_base64))
        {
            let message = "this is no key of an account: those are base64, and end in == mostly";
            self.wrong(told_by("storage.azure.accountkey"), message);
        }
        let signature = account.signature.expose();
        if form == AzureForm::SasToken && !signature.is_empty() && !signature.contains("sig=") {
            let message = "this is no shared access signature, which has sig= in it; write it as \
                           Azure shows it, like sv=...&sp=...&sig=...";
            self.wrong(told_by("storage.azure.sastoken"), message);
        }
    }
}
