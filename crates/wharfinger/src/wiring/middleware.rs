//! Middlewares around the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;
use wharfinger_config::{Config, StorageMiddleware};
use wharfinger_storage::{
    AmazonRanges, CloudFront, Driver, MiddlewareDriver, ObjectDriver, Redirect, Rewrite,
};

use super::{Store, Unusable, unusable};

/// How long a list of networks may take.
const LIST: Duration = Duration::from_secs(60);

/// How long the start waits for one.
const FIRST_LIST: Duration = Duration::from_secs(15);

/// The driver with the middlewares around it.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) driver: Arc<dyn Driver>,
    /// The networks that one of them wants to know, and how often they are asked for.
    pub(crate) ranges: Option<(Arc<AmazonRanges>, Duration)>,
}

impl Around {
    /// Asks for the networks the first time, which may fail.
    pub(crate) async fn ask(&self) {
        if let Some((ranges, _)) = &self.ranges
            && timeout(FIRST_LIST, ranges.update()).await.is_err()
        {
            warn!("Amazon's networks are not told yet: everybody is sent to CloudFront");
        }
    }
}

/// Puts the middlewares around the store, in their order.
///
/// # Errors
/// The option that cannot be used.
pub(crate) fn middlewares(config: &Config, store: &Store) -> Result<Around, Unusable> {
    let mut around = Around {
        driver: store.driver(),
        ranges: None,
    };
    let middlewares = config.middleware.storage.iter().enumerate();
    let used = middlewares.filter(|(_, middleware)| !middleware.disabled);
    for (place, (index, middleware)) in used.enumerate() {
        let key = format!("middleware.storage[{index}].options");
        let options = &middleware.options;
        let below = Arc::clone(&around.driver);
        around.driver = match middleware.name.as_str() {
            "redirect" => {
                let redirect = Redirect::new(&options.baseurl);
                let redirect =
                    redirect.map_err(|error| unusable(format!("{key}.baseurl"))(&error))?;
                Arc::new(MiddlewareDriver::new(below, redirect))
            }
            "rewrite" => {
                let rewrite = Rewrite::new(&options.scheme, &options.host, &options.trimpathprefix);
                Arc::new(MiddlewareDriver::new(below, rewrite))
            }
            // The configuration's checks have warned of one that is not the first, and let no other
            // name through, nor another store.
            _ => match store.objects().filter(|_| place == 0) {
                Some(objects) => {
                    let mut cloudfront = cloudfront(&key, options, objects)?;
                    around.ranges = ranges(&key, options)?;
                    if let Some((ranges, _)) = &around.ranges {
                        cloudfront = cloudfront.with_store_for(Arc::clone(ranges));
                    }
                    Arc::new(MiddlewareDriver::new(below, cloudfront))
                }
                None => below,
            },
        };
    }
    Ok(around)
}

fn cloudfront(
    key: &str,
    options: &StorageMiddleware,
    objects: &ObjectDriver,
) -> Result<CloudFront, Unusable> {
    let file = &options.privatekey;
    let wrong = |reason: String| unusable(format!("{key}.privatekey"))(&reason);
    let pem = std::fs::read_to_string(file).map_err(|error| wrong(format!("{file}: {error}")))?;
    let private = CloudFront::key(&pem).map_err(|error| wrong(format!("{file}: {error}")))?;
    CloudFront::new(
        objects.clone(),
        &options.baseurl,
        private,
        &options.keypairid,
        options.duration.get(),
    )
    .map_err(|error| unusable(format!("{key}.baseurl"))(&error))
}

/// The networks whose clients are sent to the store itself.
fn ranges(
    key: &str,
    options: &StorageMiddleware,
) -> Result<Option<(Arc<AmazonRanges>, Duration)>, Unusable> {
    let regions = match options.ipfilteredby.as_str() {
        "aws" => Vec::new(),
        "awsregion" => options.regions(),
        _ => return Ok(None),
    };
    let wrong = unusable(format!("{key}.iprangesurl"));
    let client = wharfinger_client::builder(wharfinger_client::authorities());
    let client = client
        .timeout(LIST)
        .build()
        .map_err(|error| wrong(&wharfinger_client::cause(&error)))?;
    let ranges = AmazonRanges::new(client, &options.iprangesurl, regions);
    let ranges = ranges.map_err(|error| wrong(&error))?;
    Ok(Some((Arc::new(ranges), options.updatefrequency.get())))
}
