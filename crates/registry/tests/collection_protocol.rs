//! The protocol of `docs/collection.md` in a model checker: all interleavings of requests on two
//! nodes, of users who delete, and of collectors that crash, pause and take over, within the
//! bounds of each scenario. The steps have the names of the functions in `src/gc/`.
//!
//! The checker is our own, a hundred lines, and not the crate `stateright`: that one brings a web
//! server that no feature switches off, and has no property of the form "from every state that
//! can be reached, garbage can still go".
//!
//! There are no clocks. A `wait` ends when all views that were read before it began have expired.
//! Whoever holds such a view may be anywhere then, and go on, but finds that it does not hold.
//! A crash is a step that is never done, and the liveness check looks at each state as if all who
//! act in it had crashed.

#[path = "collection_protocol/checker.rs"]
mod checker;
#[path = "collection_protocol/collectors.rs"]
mod collectors;
#[path = "collection_protocol/evictions.rs"]
mod evictions;
#[path = "collection_protocol/requests.rs"]
mod requests;
#[path = "collection_protocol/without.rs"]
mod without;
#[path = "collection_protocol/world.rs"]
mod world;

use std::collections::HashSet;

use checker::{Explored, Model, Step, explore};
use world::{
    At, Collector, DELETE_IMAGE, DELETE_INDEX, DELETE_OTHER, Does, Image, Kind, Lists, Node, Phase,
    Request, Seen, UNTAG_IMAGE, World,
};

/// The parts of the protocol, each of which can be left out.
#[derive(Clone, Copy)]
struct Protocol {
    wait_after_condemn: bool,
    mark_again: bool,
    /// `mark_again` strikes what has been tagged anew, not only what is new.
    mark_again_sees_tags: bool,
    /// It reads new manifests also where no tag leads to them.
    mark_again_reads_untagged: bool,
    wait_after_execute: bool,
    pardons: bool,
    pardon_needs_view: bool,
    /// `rely_on` takes what the manifests mention that a pushed manifest mentions.
    rely_on_takes_nested: bool,
    confirm: bool,
    confirm_next: Next,
    forget: bool,
    /// What has been looked up before a node forgets does not get into its cache after that.
    fill_by_one_view: bool,
    spare_reads_manifests: bool,
    /// What a collector has found to be needed is written down before it begins to remove.
    strike: bool,
    wait_after_take_over: bool,
    /// A run is its collector's only when no other write of `state` can follow.
    settle: bool,
    /// Who has been silent for a minute never acts again.
    silence_is_death: bool,
    /// The demands on the store, for removals and for writes of `state`.
    removals_in_time: bool,
    state_in_time: bool,
    /// Uploads and mounts are promised until a `mark` that begins later, and not only for the
    /// grace period.
    mark_ends_promises: bool,
    /// `mark_again` of an eviction looks for links in other repositories.
    spare_linked: bool,
}

/// What a request does where `confirm` finds the next run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// `rely_on`, and looks again for what it depends on.
    LooksAgain,
    /// `rely_on`; but the client is told to try again unless both runs are in the right phase and
    /// whatever is on the list could be pardoned.
    Pardons,
    /// `rely_on`, and nothing else.
    ReliesOn,
}

const WHOLE: Protocol = Protocol {
    wait_after_condemn: true,
    mark_again: true,
    mark_again_sees_tags: true,
    mark_again_reads_untagged: true,
    wait_after_execute: true,
    pardons: true,
    pardon_needs_view: true,
    rely_on_takes_nested: true,
    confirm: true,
    confirm_next: Next::LooksAgain,
    forget: true,
    fill_by_one_view: true,
    spare_reads_manifests: true,
    strike: true,
    wait_after_take_over: true,
    settle: true,
    silence_is_death: true,
    removals_in_time: true,
    state_in_time: true,
    mark_ends_promises: false,
    spare_linked: true,
};

/// What there is in the beginning, and who may do something.
#[derive(Clone, Copy)]
struct Scenario {
    protocol: Protocol,
    /// Each is made once, at any time, to one of two nodes.
    requests: &'static [(Kind, usize)],
    layer: bool,
    links: [bool; 2],
    image: Image,
    index: bool,
    other: bool,
    deletions: u8,
    /// How many runs begin.
    runs: u8,
    /// Whether collectors have a lock, as on a file system.
    lock: bool,
    /// Whether the runs are evictions, of the image in `a` and the link to its layer.
    evicts: bool,
}

const PLAIN: Scenario = Scenario {
    protocol: WHOLE,
    requests: &[],
    layer: true,
    links: [true, false],
    image: Image::Absent,
    index: false,
    other: false,
    deletions: 0,
    runs: 2,
    lock: true,
    evicts: false,
};

const NEW: Request = Request {
    at: At::Begin,
    view: None,
    again: false,
    fills: 0,
    undone: false,
};

impl Model for Scenario {
    type State = World;

    fn initial(&self) -> World {
        World {
            layer: self.layer,
            links: self.links,
            image: self.image,
            index: self.index,
            other: self.other,
            state: Seen {
                run: 0,
                phase: Phase::Over,
            },
            previous: Lists::default(),
            owner: 0,
            last_run: 0,
            condemned: Lists::default(),
            pardoned: Lists::default(),
            nodes: [Node {
                view: None,
                cached: 0,
            }; 2],
            requests: [NEW; 3],
            collectors: [Collector::new(0), Collector::new(1)],
            deletions: self.deletions,
            promised: 0,
        }
    }

    fn steps(&self, from: &World, to: &mut dyn FnMut(Step, World)) {
        let mut to = |step, mut next: World| {
            next.forget_what_is_past(|request| Some(self.requests.get(request)?.1));
            to(step, next);
        };
        requests::steps(self, from, &mut to);
        collectors::steps(self, from, &mut to);
    }

    fn wrong(&self, world: &World) -> Option<&'static str> {
        world.lost(self.evicts)
    }
}

/// Explores all of a scenario, finds nothing wrong, and sees that what it is about happens in it.
fn holds(scenario: Scenario, at_least: usize) {
    let explored = explore(&scenario);
    let (states, depth) = (explored.states.len(), explored.depth);
    println!("{:?}: {states} states, depth {depth}", scenario.requests);
    if let Some(wrong) = explored.wrong {
        panic!("{wrong}");
    }
    assert!(
        states >= at_least && depth > 20,
        "{states} states, depth {depth}"
    );
    for (kind, _) in scenario.requests {
        let acknowledged = explored.states.iter().any(|world| world.is_promised(*kind));
        assert!(
            acknowledged || *kind == Kind::Pull,
            "{kind:?} is never acknowledged"
        );
    }
    let removed = |world: &World| world.collectors[0].does == Does::Finish && !world.layer;
    assert!(
        explored.states.iter().any(removed),
        "nothing is ever removed"
    );
    garbage_goes(&scenario, &explored);
}

/// From every state: when no request does anything any more, collection carried through removes
/// all that is garbage, and nothing else.
fn garbage_goes(scenario: &Scenario, explored: &Explored<World>) {
    let scenario = Scenario {
        runs: u8::MAX,
        ..*scenario
    };
    let mut known = HashSet::new();
    for world in &explored.states {
        let mut quiet = *world;
        for request in &mut quiet.requests {
            *request = Request {
                at: At::Done,
                ..NEW
            };
        }
        quiet.nodes = [Node {
            view: None,
            cached: 0,
        }; 2];
        quiet.collectors[1] = Collector::new((world.collectors[1].name + 2) % 4);
        if !known.insert(quiet) {
            continue;
        }
        let mut left = 100;
        while quiet.has_garbage() || quiet.collectors[0].does != Does::Nothing || left == 100 {
            left -= 1;
            assert!(left > 0, "garbage stays from {world:?}");
            let mut then = None;
            collectors::steps(&scenario, &quiet, &mut |step, next| {
                if step.who == "collector 1" && !step.does.starts_with("crashes") {
                    then = Some(next);
                }
            });
            quiet = then.expect("a collector can always go on");
            assert_eq!(quiet.lost(false), None, "from {world:?}");
        }
    }
    println!(
        "    garbage goes from {} states of the store and its collector",
        known.len()
    );
}

#[test]
fn an_upload_and_a_push_lose_nothing() {
    let requests = &[(Kind::Upload, 0), (Kind::PushImage, 1)];
    holds(Scenario { requests, ..PLAIN }, 200_000);
}

#[test]
fn a_mount_and_a_push_lose_nothing() {
    let requests = &[(Kind::Mount, 0), (Kind::PushOther, 1)];
    let scenario = Scenario {
        requests,
        links: [true, true],
        other: true,
        deletions: DELETE_OTHER,
        runs: 1,
        ..PLAIN
    };
    holds(scenario, 10_000);
}

#[test]
fn an_upload_and_a_mount_lose_nothing() {
    let scenario = Scenario {
        requests: &[(Kind::Upload, 0), (Kind::Mount, 1)],
        layer: false,
        runs: 1,
        ..PLAIN
    };
    holds(scenario, 10_000);
}

/// The other way to go on where `confirm` finds the next run.
#[test]
fn requests_that_look_no_second_time_lose_nothing() {
    let protocol = Protocol {
        confirm_next: Next::Pardons,
        ..WHOLE
    };
    let requests = &[(Kind::Upload, 0), (Kind::PushImage, 1)];
    let scenario = Scenario {
        protocol,
        requests,
        runs: 1,
        ..PLAIN
    };
    holds(scenario, 10_000);
}

#[test]
fn an_image_and_its_index_lose_nothing() {
    let requests = &[(Kind::PushImage, 0), (Kind::PushIndex, 1)];
    let scenario = Scenario {
        requests,
        runs: 1,
        ..PLAIN
    };
    holds(scenario, 10_000);
}

#[test]
fn untagged_images_that_are_tagged_or_mentioned_anew_stay() {
    let scenario = Scenario {
        requests: &[(Kind::PushImage, 0), (Kind::PushIndex, 1)],
        image: Image::Tagged,
        deletions: UNTAG_IMAGE | DELETE_INDEX,
        runs: 1,
        ..PLAIN
    };
    holds(scenario, 10_000);
}

#[test]
fn what_users_delete_and_push_again_stays() {
    let scenario = Scenario {
        requests: &[(Kind::PushImage, 0)],
        image: Image::Tagged,
        other: true,
        links: [true, true],
        deletions: UNTAG_IMAGE | DELETE_IMAGE | DELETE_OTHER,
        ..PLAIN
    };
    holds(scenario, 10_000);
}

#[test]
fn cached_descriptors_mislead_nobody() {
    let requests = &[(Kind::Pull, 0), (Kind::PushImage, 0), (Kind::Head, 0)];
    holds(
        Scenario {
            requests,
            runs: 1,
            ..PLAIN
        },
        10_000,
    );
}

#[test]
fn collectors_without_a_lock_lose_nothing() {
    let requests = &[(Kind::PushImage, 0)];
    holds(
        Scenario {
            requests,
            lock: false,
            runs: 1,
            ..PLAIN
        },
        50_000,
    );
}

/// More at once: some gigabytes and, optimized, a minute.
#[test]
#[ignore = "takes gigabytes of memory; run it with --release"]
fn more_at_once_loses_nothing() {
    let three = Scenario { runs: 1, ..PLAIN };
    let requests = &[
        (Kind::Upload, 0),
        (Kind::PushImage, 1),
        (Kind::PushIndex, 0),
    ];
    holds(Scenario { requests, ..three }, 1_000_000);
    let requests = &[(Kind::Mount, 0), (Kind::PushImage, 1), (Kind::PushOther, 0)];
    holds(Scenario { requests, ..three }, 1_000_000);
    let scenario = Scenario {
        requests: &[(Kind::PushImage, 0), (Kind::PushImage, 1)],
        image: Image::Tagged,
        deletions: UNTAG_IMAGE | DELETE_IMAGE,
        ..three
    };
    holds(scenario, 100_000);
    for requests in [
        &[(Kind::PushImage, 0), (Kind::PushIndex, 1)],
        &[(Kind::Mount, 0), (Kind::PushOther, 1)],
        &[(Kind::Upload, 0), (Kind::Mount, 1)],
    ] {
        holds(Scenario { requests, ..PLAIN }, 100_000);
    }
    let requests = &[(Kind::PushImage, 0)];
    holds(
        Scenario {
            requests,
            lock: false,
            ..PLAIN
        },
        100_000,
    );
    let requests = &[(Kind::Upload, 0), (Kind::PushImage, 1)];
    holds(
        Scenario {
            requests,
            lock: false,
            ..three
        },
        1_000_000,
    );
}
