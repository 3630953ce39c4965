//! Notifications.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;
use wharfinger_config::{Config, Endpoint, EventFormat};
use wharfinger_notify::{
    Action, EndpointOptions, Format, InvalidReceiver, Notifier, Receiver, Source, UnusableReason,
};
use wharfinger_server::Notifications;

use super::{Unusable, unusable};

/// Sends events to the endpoints of the configuration.
pub(crate) async fn notifier(config: &Config) -> Result<Arc<Notifier>, Unusable> {
    let notifier = Notifier::new(Source {
        addr: source_address(&config.http.addr),
        instance_id: Uuid::new_v4(),
    });
    use_endpoints(&notifier, config).await?;
    Ok(Arc::new(notifier))
}

/// Sends events to the endpoints of `config` from now on.
pub(crate) async fn use_endpoints(notifier: &Notifier, config: &Config) -> Result<(), Unusable> {
    let endpoints = &config.notifications.endpoints;
    let used = endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| !endpoint.disabled);
    let options = used.map(|(index, endpoint)| options(&key(index), endpoint));
    let options = options.collect::<Result<_, _>>()?;
    notifier.replace(options).await.map_err(|wrong| {
        let mut names = endpoints.iter();
        let index = names.position(|endpoint| !endpoint.disabled && endpoint.name == wrong.name);
        let key = key(index.unwrap_or_default());
        let key = match wrong.reason {
            UnusableReason::Folder(_) => format!("{key}.queue.folder"),
            UnusableReason::Receiver(_) => format!("{key}.url"),
        };
        unusable(key)(&wrong.reason)
    })
}

/// What the server tells events to.
pub(crate) fn server_notifications(config: &Config, notifier: &Arc<Notifier>) -> Notifications {
    Notifications {
        sink: Arc::clone(notifier) as _,
        include_references: config.notifications.events.includereferences,
    }
}

fn key(index: usize) -> String {
    format!("notifications.endpoints[{index}]")
}

fn options(key: &str, endpoint: &Endpoint) -> Result<EndpointOptions, Unusable> {
    let headers = endpoint.headers.iter().flat_map(|(name, values)| {
        values
            .iter()
            .map(move |value| (name.as_str(), value.expose()))
    });
    let receiver = Receiver::new(endpoint.url.expose(), headers).map_err(|error| {
        let key = match &error {
            InvalidReceiver::Url(_) => format!("{key}.url"),
            InvalidReceiver::Header(name, _) => format!("{key}.headers.{name}"),
        };
        unusable(key)(&error)
    })?;
    let actions = endpoint.ignore.actions.iter().map(|action| action.parse());
    let actions: Result<Vec<Action>, _> = actions.collect();
    let folder = &endpoint.queue.folder;
    Ok(EndpointOptions {
        name: endpoint.name.clone(),
        receiver,
        format: match endpoint.format {
            EventFormat::V1 => Format::V1,
            EventFormat::V2 => Format::V2,
        },
        timeout: endpoint.timeout.get(),
        threshold: endpoint.threshold,
        backoff: endpoint.backoff.get(),
        ignored_media_types: endpoint.ignore.mediatypes.clone(),
        ignored_actions: actions
            .map_err(|error| unusable(format!("{key}.ignore.actions"))(&error))?,
        queue_size: endpoint.queue.size.get(),
        queue_folder: (!folder.is_empty()).then(|| PathBuf::from(folder)),
    })
}

/// The machine's name and the port, as Distribution tells where events come from.
fn source_address(addr: &str) -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    match addr.rsplit_once(':') {
        Some((_, port)) => format!("{host}:{port}"),
        None => host.into_owned(),
    }
}
