//! `middleware`.

use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::duration::GoDuration;

/// Where Amazon publishes its networks.
const AMAZONS_RANGES: &str = "https://ip-ranges.amazonaws.com/ip-ranges.json";

/// Shorter times are those written without a unit, which Distribution passes over.
const SHORTEST: GoDuration = GoDuration::from_secs(1);

/// Middlewares by what they are put around.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Middlewares {
    /// Around the registry.
    pub registry: Vec<Middleware<Parameters>>,
    /// Around each repository.
    pub repository: Vec<Middleware<Parameters>>,
    /// Around the storage driver, the first one nearest to it.
    pub storage: Vec<Middleware<StorageMiddleware>>,
}

impl Middlewares {
    /// Replaces old names by new ones, and what counts as "not set" by what is then used.
    pub(crate) fn settle(&mut self) {
        for middleware in &mut self.storage {
            if middleware.name == "cloudfront" {
                middleware.options.settle();
            }
        }
    }
}

/// A middleware, by its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "O: Default + Deserialize<'de>"))]
pub struct Middleware<O> {
    /// Its name.
    pub name: String,
    /// Whether it is left out.
    pub disabled: bool,
    /// What it is told.
    pub options: O,
}

/// `options` of the middlewares around the storage driver: each has some of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageMiddleware {
    /// Where clients are sent: `redirect`, `cloudfront`.
    pub baseurl: String,
    /// The scheme put in place of the store's: `rewrite`.
    pub scheme: String,
    /// The host, with a port or without, put in place of the store's: `rewrite`.
    pub host: String,
    /// What is left out where paths begin with it: `rewrite`.
    pub trimpathprefix: String,
    /// The file of the key that signs: `cloudfront`, as all that follow.
    pub privatekey: String,
    /// Its id.
    pub keypairid: String,
    /// How long addresses are good.
    #[serde(skip_serializing_if = "GoDuration::is_zero_ref")]
    pub duration: GoDuration,
    /// Who is sent to the store itself: nobody (`none`), clients within Amazon's networks (`aws`),
    /// or within those of some regions (`awsregion`).
    pub ipfilteredby: String,
    /// Those regions, with commas in between.
    pub awsregion: String,
    /// Where Amazon's networks are told.
    pub iprangesurl: String,
    /// How often they are asked for.
    #[serde(skip_serializing_if = "GoDuration::is_zero_ref")]
    pub updatefrequency: GoDuration,
    /// The same, as Distribution once spelt it.
    #[serde(skip_serializing_if = "GoDuration::is_zero_ref")]
    pub updatefrenquency: GoDuration,
}

impl StorageMiddleware {
    /// The regions of `awsregion`.
    pub fn regions(&self) -> Vec<String> {
        let names = self.awsregion.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty());
        names.map(ToOwned::to_owned).collect()
    }

    fn settle(&mut self) {
        let old = std::mem::take(&mut self.updatefrenquency);
        if !old.is_zero() {
            self.updatefrequency = old;
        }
        if self.updatefrequency < SHORTEST {
            self.updatefrequency = GoDuration::from_secs(12 * 3600);
        }
        if self.duration < SHORTEST {
            self.duration = GoDuration::from_secs(20 * 60);
        }
        self.ipfilteredby = match self.ipfilteredby.trim().to_lowercase().as_str() {
            "" => "none".to_owned(),
            filter => filter.to_owned(),
        };
        if self.iprangesurl.is_empty() {
            AMAZONS_RANGES.clone_into(&mut self.iprangesurl);
        }
    }
}
