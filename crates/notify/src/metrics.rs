//! Counters, under the names that Distribution gives them.

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is counted of all endpoints.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    events: Family<EventLabels, Counter>,
    pending: Family<EndpointLabels, Gauge>,
    status: Family<StatusLabels, Counter>,
    dropped: Family<EndpointLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: &'static str,
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    code: String,
    endpoint: String,
}

impl Metrics {
    /// Lets `registry` tell them, under names that begin with `notifications_`.
    pub fn register(&self, registry: &mut Registry) {
        // The encoder ends the names of counters in `_total`, but not those of gauges.
        registry.register(
            "notifications_events",
            "Events for an endpoint (Events), and attempts to deliver them: accepted (Successes), \
             answered with an error (Failures), not answered (Errors)",
            self.events.clone(),
        );
        registry.register(
            "notifications_pending_total",
            "Events that wait for an endpoint",
            self.pending.clone(),
        );
        registry.register(
            "notifications_status",
            "Answers of an endpoint by status",
            self.status.clone(),
        );
        registry.register(
            "notifications_dropped",
            "Events that an endpoint will never get",
            self.dropped.clone(),
        );
    }

    /// Those of one endpoint.
    pub(crate) fn of(&self, endpoint: &str) -> EndpointMetrics {
        let labels = EndpointLabels {
            endpoint: endpoint.to_owned(),
        };
        let events = |r#type| {
            let endpoint = endpoint.to_owned();
            let labels = EventLabels { r#type, endpoint };
            self.events.get_or_create(&labels).clone()
        };
        EndpointMetrics {
            events: events("Events"),
            successes: events("Successes"),
            failures: events("Failures"),
            errors: events("Errors"),
            pending: self.pending.get_or_create(&labels).clone(),
            dropped: self.dropped.get_or_create(&labels).clone(),
            status: self.status.clone(),
            endpoint: endpoint.to_owned(),
        }
    }

    /// Tells no more how much waits for an endpoint that is gone. What it has counted stays.
    pub(crate) fn forget(&self, endpoint: &str) {
        let endpoint = endpoint.to_owned();
        self.pending.remove(&EndpointLabels { endpoint });
    }
}

/// What is counted of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct EndpointMetrics {
    pub(crate) events: Counter,
    pub(crate) successes: Counter,
    pub(crate) failures: Counter,
    pub(crate) errors: Counter,
    pub(crate) pending: Gauge,
    pub(crate) dropped: Counter,
    status: Family<StatusLabels, Counter>,
    endpoint: String,
}

impl EndpointMetrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        let code = match status.canonical_reason() {
            Some(reason) => format!("{} {reason}", status.as_u16()),
            None => status.as_u16().to_string(),
        };
        let endpoint = self.endpoint.clone();
        self.status
            .get_or_create(&StatusLabels { code, endpoint })
            .inc();
    }
}
