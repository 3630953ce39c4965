//! The listing of multipart uploads that are under way, as Amazon's and Google's stores have it
//! alike.

use serde::Deserialize;

use super::requests::generic;
use super::store::OpenUpload;

type Result<T> = object_store::Result<T>;

/// Names and values in an address, to be escaped.
pub(super) type Query = Vec<(&'static str, String)>;

/// A page of the listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadList {
    #[serde(default, rename = "Upload")]
    uploads: Vec<UploadEntry>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadEntry {
    key: String,
    upload_id: String,
    initiated: String,
}

impl UploadList {
    /// The page in a body, unless it is something else.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        quick_xml::de::from_reader(body).ok()
    }
}

/// All multipart uploads below `prefix`, asked for page by page.
pub(super) async fn all<F>(
    store: &'static str,
    prefix: &str,
    ask: impl Fn(Query) -> F,
) -> Result<Vec<OpenUpload>>
where
    F: Future<Output = Result<UploadList>>,
{
    let mut uploads = Vec::new();
    let mut after: Option<(String, String)> = None;
    loop {
        let mut query = vec![("uploads", String::new()), ("prefix", prefix.to_owned())];
        if let Some((key, id)) = after {
            query.push(("key-marker", key));
            query.push(("upload-id-marker", id));
        }
        let list = ask(query).await?;
        for entry in list.uploads {
            let begun = entry.initiated.parse::<jiff::Timestamp>();
            uploads.push(OpenUpload {
                begun: begun.map_err(|error| generic(store, error))?.into(),
                key: entry.key,
                id: entry.upload_id,
            });
        }
        after = match (list.is_truncated, list.next_key_marker) {
            (true, Some(key)) => Some((key, list.next_upload_id_marker.unwrap_or_default())),
            _ => return Ok(uploads),
        };
    }
}
