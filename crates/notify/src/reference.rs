//! What a manifest refers to, as events tell it (`notifications.events.includereferences`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::is_zero;

/// The media type that Distribution gives the layers of schema 1, which has none.
const SCHEMA1_LAYER: &str = "application/vnd.docker.container.image.rootfs.diff+x-gtar";

/// A descriptor in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    /// The content's media type.
    pub media_type: String,
    /// The content's digest.
    pub digest: String,
    /// The content's size in bytes; 0 where the manifest does not tell it.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Where else the content can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Arbitrary facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The content itself, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform that an index names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Value>,
    /// The type of an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Reference {
    /// What a manifest refers to: its config and layers, or its manifests, in order; of a manifest
    /// that cannot be read nothing. The subject is none of them, as in Distribution.
    pub fn all_of(manifest: &[u8]) -> Vec<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            config: Option<Reference>,
            layers: Option<Vec<Reference>>,
            manifests: Option<Vec<Reference>>,
            fs_layers: Option<Vec<Layer>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layer {
            blob_sum: String,
        }
        let Ok(shape) = serde_json::from_slice::<Shape>(manifest) else {
            return Vec::new();
        };
        let schema1 = shape.fs_layers.unwrap_or_default().into_iter();
        let schema1 = schema1.map(|layer| Self {
            media_type: SCHEMA1_LAYER.to_owned(),
            digest: layer.blob_sum,
            ..Self::default()
        });
        shape
            .config
            .into_iter()
            .chain(shape.layers.unwrap_or_default())
            .chain(shape.manifests.unwrap_or_default())
            .chain(schema1)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(manifest: &Value) -> Value {
        serde_json::to_value(Reference::all_of(manifest.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn references_are_told_with_all_that_descriptors_say() {
        let config = json!({"mediaType": "c", "digest": "sha256:1", "size": 2, "data": "e30="});
        let layer = json!({
            "mediaType": "l", "digest": "sha256:2", "size": 3, "urls": ["https://x"],
            "annotations": {"a": "b"},
        });
        let image = json!({
            "schemaVersion": 2, "config": config, "layers": [layer],
            "subject": {"mediaType": "m", "digest": "sha256:9", "size": 1},
        });
        assert_eq!(told(&image), json!([config, layer]));
        let entry = json!({
            "mediaType": "m", "digest": "sha256:3", "size": 4, "artifactType": "t",
            "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        });
        assert_eq!(told(&json!({"manifests": [entry]})), json!([entry]));
        let schema1 = json!({"schemaVersion": 1, "fsLayers": [{"blobSum": "sha256:4"}]});
        let layer = json!({"mediaType": SCHEMA1_LAYER, "digest": "sha256:4"});
        assert_eq!(told(&schema1), json!([layer]));
        let null = json!({"config": config, "layers": null});
        assert_eq!(told(&null), json!([config]));
        assert_eq!(Reference::all_of(b"{"), []);
    }
}
