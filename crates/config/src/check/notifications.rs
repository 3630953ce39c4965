//! `notifications`.

use std::collections::HashMap;
use std::time::Duration;

use super::{Checker, is_url};
use crate::{ByteSize, Config, Endpoint, GoDuration};

/// What can happen to content.
const ACTIONS: [&str; 4] = ["push", "pull", "mount", "delete"];

/// Headers by which HTTP frames requests: setting them would break every request.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

/// Shorter times are slips: a number without a unit counts nanoseconds.
const SHORTEST: Duration = Duration::from_millis(1);

const SMALLEST_QUEUE: ByteSize = ByteSize::mebibytes(1);

impl Checker<'_> {
    pub(super) fn notifications(&mut self, config: &Config) {
        let mut names = HashMap::new();
        let mut folders = HashMap::new();
        for (index, endpoint) in config.notifications.endpoints.iter().enumerate() {
            if endpoint.disabled {
                continue;
            }
            let key = format!("notifications.endpoints[{index}]");
            self.endpoint(&key, endpoint);
            if let Some(other) = names.insert(&endpoint.name, index)
                && !endpoint.name.is_empty()
            {
                let message = format!(
                    "notifications.endpoints[{other}] is called {:?} too; each needs a name of \
                     its own, for logs and metrics",
                    endpoint.name
                );
                self.wrong(&format!("{key}.name"), message);
            }
            let folder = endpoint.queue.folder.trim_end_matches('/');
            if let Some(other) = folders.insert(folder, index)
                && !folder.is_empty()
            {
                let message = format!(
                    "notifications.endpoints[{other}] keeps its queue there too; each needs a \
                     folder of its own"
                );
                self.wrong(&format!("{key}.queue.folder"), message);
            }
        }
    }

    fn endpoint(&mut self, key: &str, endpoint: &Endpoint) {
        if endpoint.name.is_empty() {
            let message = "it is missing: what the endpoint is called in logs and metrics";
            self.wrong(&format!("{key}.name"), message);
        }
        // The URL is not repeated: it may hold a password.
        if endpoint.url.is_empty() {
            let message = "it is missing: where events are sent, like https://example.org/events";
            self.wrong(&format!("{key}.url"), message);
        } else if !is_url(endpoint.url.expose()) {
            let message = "this is no URL of http or https, like https://example.org/events";
            self.wrong(&format!("{key}.url"), message);
        }
        self.secret_headers(&format!("{key}.headers"), &endpoint.headers);
        for name in endpoint.headers.keys() {
            let key = format!("{key}.headers.{name}");
            if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
                self.wrong(
                    &key,
                    "this header cannot be set: it says where a request ends",
                );
            }
        }
        self.not_too_short(&format!("{key}.timeout"), endpoint.timeout);
        self.not_too_short(&format!("{key}.backoff"), endpoint.backoff);
        for (index, action) in endpoint.ignore.actions.iter().enumerate() {
            if !ACTIONS.contains(&action.as_str()) {
                let all = ACTIONS.join(", ");
                self.wrong(
                    &format!("{key}.ignore.actions[{index}]"),
                    format!("{action:?} is no action; there are {all}"),
                );
            }
        }
        if endpoint.queue.size < SMALLEST_QUEUE {
            let size = endpoint.queue.size;
            self.wrong(
                &format!("{key}.queue.size"),
                format!("{size} is too little; the least is {SMALLEST_QUEUE}"),
            );
        }
    }

    fn not_too_short(&mut self, key: &str, duration: GoDuration) {
        if duration.get() < SHORTEST {
            let message = format!(
                "{duration} is too short; write it with a unit, like 5s (without one it counts \
                 nanoseconds)"
            );
            self.wrong(key, message);
        }
    }
}
