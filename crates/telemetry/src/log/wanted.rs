//! Which lines are wanted. Every request's span asks, several times: so nothing here waits for a
//! lock, unless somebody asked for lines by the spans that they are in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber, callsite, span};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::{EnvFilter, Layer};

/// A filter that can be changed while the process runs. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Wanted(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    filter: ArcSwap<EnvFilter>,
    /// Whether it tells lines apart by the spans around them. Then it must hear of each, for which it
    /// takes locks that all threads share.
    is_by_spans: AtomicBool,
}

/// As in `module[span{field=value}]=level`: the filter itself does not tell.
fn is_by_spans(filter: &EnvFilter) -> bool {
    filter.to_string().contains('[')
}

impl Wanted {
    pub(super) fn new(filter: EnvFilter) -> Self {
        Self(Arc::new(Shared {
            is_by_spans: is_by_spans(&filter).into(),
            filter: ArcSwap::from_pointee(filter),
        }))
    }

    pub(super) fn change(&self, filter: EnvFilter) {
        self.0.is_by_spans.store(is_by_spans(&filter), Relaxed);
        self.0.filter.store(Arc::new(filter));
        // What places in the code were told is remembered there.
        callsite::rebuild_interest_cache();
    }

    /// Has the filter told of a span, where it wants to hear of spans.
    fn tell(&self, told: impl FnOnce(&EnvFilter)) {
        if self.0.is_by_spans.load(Relaxed) {
            told(&self.0.filter.load());
        }
    }
}

/// What a filter does alike for one layer and for all.
macro_rules! as_the_filter_says {
    () => {
        fn max_level_hint(&self) -> Option<LevelFilter> {
            self.0.filter.load().max_level_hint()
        }

        fn on_new_span(
            &self,
            attributes: &span::Attributes<'_>,
            id: &span::Id,
            context: Context<'_, S>,
        ) {
            self.tell(|filter| filter.on_new_span(attributes, id, context));
        }

        fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
            self.tell(|filter| filter.on_record(id, values, context));
        }

        fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
            self.tell(|filter| filter.on_enter(id, context));
        }

        fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
            self.tell(|filter| filter.on_exit(id, context));
        }

        fn on_close(&self, id: span::Id, context: Context<'_, S>) {
            self.tell(|filter| filter.on_close(id, context));
        }
    };
}

/// For lines alone, where others want to hear of other things.
impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.0.filter.load().enabled(metadata, context.clone())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        Filter::<S>::callsite_enabled(&**self.0.filter.load(), metadata)
    }

    as_the_filter_says!();
}

/// For all that listens.
impl<S: Subscriber> Layer<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.0.filter.load().enabled(metadata, context)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&**self.0.filter.load(), metadata)
    }

    as_the_filter_says!();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tracing::{Dispatch, Event, debug, info, info_span};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    use super::*;

    /// Counts lines.
    #[derive(Clone, Debug, Default)]
    struct Lines(Arc<AtomicU32>);

    impl Lines {
        /// Whether `said` is a line.
        fn have(&self, said: impl FnOnce()) -> bool {
            let before = self.0.load(Relaxed);
            said();
            self.0.load(Relaxed) > before
        }
    }

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn are_told_apart_by_their_spans(lines: &Lines, wanted: &Wanted, subscriber: Dispatch) {
        tracing::dispatcher::with_default(&subscriber, || {
            let put = info_span!("request", method = "PUT");
            let get = info_span!("request", method = "GET");
            assert!(put.in_scope(|| lines.have(|| debug!("of a PUT"))));
            assert!(!get.in_scope(|| lines.have(|| debug!("of a GET"))));
            assert!(!lines.have(|| debug!("of nothing")));

            wanted.change(EnvFilter::new("info"));
            assert!(!put.in_scope(|| lines.have(|| debug!("of a PUT"))));
            assert!(put.in_scope(|| lines.have(|| info!("of a PUT"))));

            wanted.change(EnvFilter::new("warn,[upload]=debug"));
            let upload = info_span!("upload");
            assert!(upload.in_scope(|| lines.have(|| debug!("of an upload"))));
            assert!(!put.in_scope(|| lines.have(|| info!("of a PUT"))));
        });
    }

    #[test]
    fn lines_can_be_wanted_by_the_spans_that_they_are_in() {
        let by_spans = || Wanted::new(EnvFilter::new("warn,[request{method=PUT}]=debug"));
        let (lines, wanted) = (Lines::default(), by_spans());
        let alone = wanted.clone().and_then(lines.clone());
        are_told_apart_by_their_spans(&lines, &wanted, registry().with(alone).into());
        let (lines, wanted) = (Lines::default(), by_spans());
        let among_others = lines.clone().with_filter(wanted.clone());
        are_told_apart_by_their_spans(&lines, &wanted, registry().with(among_others).into());
    }
}
