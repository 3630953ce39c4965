//! Evictions: runs whose list is given. The image in `a`, a cache's repository, goes although a tag
//! stands for it, with the link to its layer; `b` is pushed to, and may mount the layer at any time.
//! There is no grace period.

use super::checker::explore;
use super::without::loses;
use super::world::{At, Does, Image, Kind, World};
use super::{PLAIN, Protocol, Scenario, WHOLE};

const CACHED: Scenario = Scenario {
    requests: &[(Kind::Mount, 0)],
    image: Image::Tagged,
    runs: 1,
    evicts: true,
    ..PLAIN
};

/// `choose` removes the tag. Whoever has written it before is no longer promised what it stood for.
pub fn untag(scenario: &Scenario, world: &mut World) {
    if world.image == Image::Tagged {
        world.image = Image::Untagged;
    }
    world.release(Kind::PushImage);
    for ((kind, _), request) in scenario.requests.iter().zip(&mut world.requests) {
        let has_written = request.at == At::Confirm || request.again;
        request.undone |= *kind == Kind::PushImage && request.at != At::Done && has_written;
    }
}

/// Nothing is lost that was acknowledged, all of it happens, and things are evicted meanwhile.
fn evicts(scenario: Scenario, at_least: usize) {
    let explored = explore(&scenario);
    let states = &explored.states;
    println!("{:?}: {} states", scenario.requests, states.len());
    if let Some(wrong) = explored.wrong {
        panic!("{wrong}");
    }
    assert!(states.len() >= at_least, "{} states", states.len());
    for (kind, _) in scenario.requests {
        let acknowledged = states.iter().any(|world| world.is_promised(*kind));
        assert!(acknowledged, "{kind:?} is never acknowledged");
    }
    let finishes = |world: &&World| world.collectors[0].does == Does::Finish;
    let gone = |world: &World| !world.has_image() && !world.layer;
    assert!(
        states.iter().filter(finishes).any(gone),
        "nothing ever goes"
    );
    let spared = |world: &World| world.has_image() && world.layer;
    assert!(
        states.iter().filter(finishes).any(spared),
        "nothing is ever spared"
    );
}

#[test]
fn what_is_mounted_and_pushed_elsewhere_stays() {
    let requests = &[(Kind::Mount, 0), (Kind::PushOther, 1)];
    evicts(Scenario { requests, ..CACHED }, 1_000);
}

#[test]
fn what_is_pulled_again_stays() {
    let requests = &[(Kind::PushImage, 0), (Kind::Mount, 1)];
    evicts(Scenario { requests, ..CACHED }, 1_000);
}

#[test]
fn evictions_in_a_row_lose_nothing() {
    let requests = &[(Kind::PushImage, 0)];
    evicts(
        Scenario {
            requests,
            runs: 2,
            ..CACHED
        },
        1_000,
    );
}

#[test]
fn evictions_without_a_lock_lose_nothing() {
    let requests = &[(Kind::Mount, 0)];
    evicts(
        Scenario {
            requests,
            lock: false,
            ..CACHED
        },
        1_000,
    );
}

#[test]
fn without_the_second_look_for_links() {
    let protocol = Protocol {
        spare_linked: false,
        ..WHOLE
    };
    let order = &[
        "mark: walks b",
        "mount: confirm",
        "mark_again: walks b",
        "remove",
    ];
    loses(protocol, CACHED, order);
}

#[test]
fn without_the_second_look_for_tags() {
    let protocol = Protocol {
        mark_again_sees_tags: false,
        ..WHOLE
    };
    let requests = &[(Kind::PushImage, 0)];
    let order = &[
        "mark: walks a",
        "writes the tag",
        "acknowledged",
        "mark_again: walks a",
        "remove",
    ];
    loses(protocol, Scenario { requests, ..CACHED }, order);
}

#[test]
fn without_the_wait_for_who_mounts() {
    let protocol = Protocol {
        wait_after_condemn: false,
        ..WHOLE
    };
    loses(
        protocol,
        CACHED,
        &["condemn", "mark_again: walks b", "mount: confirm", "remove"],
    );
}

#[test]
fn without_the_pardons_of_who_mounts() {
    let protocol = Protocol {
        pardons: false,
        ..WHOLE
    };
    loses(
        protocol,
        CACHED,
        &["reads condemned", "acknowledged", "remove"],
    );
}
