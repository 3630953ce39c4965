//! Each part of the protocol is needed: left out, something that was acknowledged is lost.

use super::checker::{Step, explore};
use super::world::{Image, Kind};
use super::{Next, PLAIN, Protocol, Scenario, WHOLE};

const PUSH: Scenario = Scenario {
    requests: &[(Kind::PushImage, 0)],
    runs: 1,
    ..PLAIN
};

const RACE: Scenario = Scenario {
    lock: false,
    ..PUSH
};

/// Finds what is lost without a part, after steps that have all of these in this order.
pub fn loses(protocol: Protocol, scenario: Scenario, order: &[&str]) {
    let explored = explore(&Scenario {
        protocol,
        ..scenario
    });
    let states = explored.states.len();
    let Some(wrong) = explored.wrong else {
        panic!("nothing is lost in {states} states");
    };
    println!("{wrong}    ({states} states)");
    let mut steps = wrong.steps.iter().map(Step::to_string);
    for step in order {
        assert!(
            steps.any(|taken| taken.contains(step)),
            "no {step:?} in {wrong}"
        );
    }
}

#[test]
fn without_the_wait_after_condemn() {
    let protocol = Protocol {
        wait_after_condemn: false,
        ..WHOLE
    };
    loses(
        protocol,
        PUSH,
        &["condemn", "mark_again: walks a", "acknowledged", "remove"],
    );
}

#[test]
fn without_mark_again() {
    let protocol = Protocol {
        mark_again: false,
        ..WHOLE
    };
    loses(protocol, PUSH, &["mark: walks a", "acknowledged", "remove"]);
}

#[test]
fn without_mark_again_for_what_is_tagged_anew() {
    let protocol = Protocol {
        mark_again_sees_tags: false,
        ..WHOLE
    };
    let scenario = Scenario {
        image: Image::Untagged,
        ..PUSH
    };
    loses(
        protocol,
        scenario,
        &[
            "mark: walks a",
            "acknowledged",
            "mark_again",
            "remove: the image",
        ],
    );
}

#[test]
fn without_the_wait_after_execute() {
    let protocol = Protocol {
        wait_after_execute: false,
        ..WHOLE
    };
    loses(
        protocol,
        PUSH,
        &[
            "execute",
            "spare",
            "pardon counts",
            "acknowledged",
            "remove",
        ],
    );
}

#[test]
fn without_pardons() {
    let protocol = Protocol {
        pardons: false,
        ..WHOLE
    };
    loses(
        protocol,
        PUSH,
        &["reads condemned", "acknowledged", "remove"],
    );
}

#[test]
fn without_a_view_that_holds_when_the_pardon_is_written() {
    let protocol = Protocol {
        pardon_needs_view: false,
        ..WHOLE
    };
    loses(
        protocol,
        PUSH,
        &["spare", "writes pardons", "acknowledged", "remove"],
    );
}

#[test]
fn without_what_mentioned_manifests_mention() {
    let protocol = Protocol {
        rely_on_takes_nested: false,
        ..WHOLE
    };
    let requests = &[(Kind::PushImage, 0), (Kind::PushIndex, 1)];
    let order = &[
        "mark_again: walks a",
        "1 image: writes the image",
        "2 index: confirm",
        "remove",
    ];
    loses(protocol, Scenario { requests, ..PUSH }, order);
}

/// Where untagged manifests go, the new ones need not be read if whoever mentions them takes what
/// they mention.
#[test]
fn new_untagged_manifests_need_not_be_read() {
    let protocol = Protocol {
        mark_again_reads_untagged: false,
        ..WHOLE
    };
    let requests = &[(Kind::PushImage, 0), (Kind::PushIndex, 1)];
    super::holds(
        Scenario {
            protocol,
            requests,
            ..PUSH
        },
        10_000,
    );
}

#[test]
fn without_reading_new_untagged_manifests_in_either_way() {
    let protocol = Protocol {
        mark_again_reads_untagged: false,
        rely_on_takes_nested: false,
        ..WHOLE
    };
    let requests = &[(Kind::PushImage, 0), (Kind::PushIndex, 1)];
    let order = &[
        "1 image: writes the image",
        "mark_again: walks a",
        "2 index: confirm",
        "remove",
    ];
    loses(protocol, Scenario { requests, ..PUSH }, order);
}

#[test]
fn without_the_look_at_what_pardoned_manifests_mention() {
    let protocol = Protocol {
        spare_reads_manifests: false,
        rely_on_takes_nested: false,
        ..WHOLE
    };
    let requests = &[(Kind::PushIndex, 0)];
    let scenario = Scenario {
        requests,
        image: Image::Untagged,
        ..PUSH
    };
    loses(
        protocol,
        scenario,
        &["writes pardons", "acknowledged", "spare", "remove"],
    );
}

/// Where `rely_on` takes what mentioned manifests mention, `spare` has nothing to read.
#[test]
fn the_look_at_pardoned_manifests_is_one_of_two_ways() {
    let protocol = Protocol {
        spare_reads_manifests: false,
        ..WHOLE
    };
    let requests = &[(Kind::PushImage, 0), (Kind::PushIndex, 1)];
    let scenario = Scenario {
        protocol,
        requests,
        image: Image::Untagged,
        ..PUSH
    };
    super::holds(scenario, 10_000);
}

#[test]
fn without_confirm() {
    let protocol = Protocol {
        confirm: false,
        ..WHOLE
    };
    loses(protocol, PUSH, &["condemn", "acknowledged", "remove"]);
}

#[test]
fn without_another_look_where_confirm_finds_the_next_run() {
    let protocol = Protocol {
        confirm_next: Next::ReliesOn,
        ..WHOLE
    };
    loses(
        protocol,
        PUSH,
        &["remove", "confirm: finds the next run", "acknowledged"],
    );
}

#[test]
fn without_forgetting_descriptors() {
    let protocol = Protocol {
        forget: false,
        ..WHOLE
    };
    let requests = &[(Kind::Pull, 0), (Kind::PushImage, 0)];
    let order = &[
        "puts the descriptor",
        "remove",
        "reads over",
        "in the cache",
        "acknowledged",
    ];
    loses(protocol, Scenario { requests, ..PUSH }, order);
}

#[test]
fn with_descriptors_that_come_into_the_cache_late() {
    let protocol = Protocol {
        fill_by_one_view: false,
        ..WHOLE
    };
    let requests = &[(Kind::Pull, 0), (Kind::PushImage, 0)];
    let order = &[
        "GET: finds",
        "remove",
        "reads over",
        "puts the descriptor",
        "acknowledged",
    ];
    loses(protocol, Scenario { requests, ..PUSH }, order);
}

#[test]
fn with_nothing_struck_where_another_goes_on_removing() {
    let protocol = Protocol {
        strike: false,
        ..WHOLE
    };
    loses(
        protocol,
        PUSH,
        &[
            "acknowledged",
            "mark_again",
            "execute",
            "take_over",
            "remove",
        ],
    );
}

#[test]
fn without_waiting_after_a_take_over() {
    let protocol = Protocol {
        wait_after_take_over: false,
        ..WHOLE
    };
    loses(protocol, PUSH, &["execute", "take_over", "spare", "remove"]);
}

#[test]
fn with_two_that_take_over_at_once() {
    let protocol = Protocol {
        settle: false,
        ..WHOLE
    };
    loses(
        protocol,
        RACE,
        &["take_over", "take_over", "spare", "acknowledged", "remove"],
    );
}

#[test]
fn with_a_collector_that_goes_on_after_a_silence() {
    let protocol = Protocol {
        silence_is_death: false,
        ..WHOLE
    };
    let order = &[
        "take_over",
        "wakes up and reads its own",
        "writes its name",
        "acknowledged",
    ];
    loses(protocol, RACE, order);
}

#[test]
fn with_removals_that_take_effect_too_late() {
    let protocol = Protocol {
        removals_in_time: false,
        ..WHOLE
    };
    loses(
        protocol,
        RACE,
        &["take_over", "writes its name", "acknowledged", "remove"],
    );
}

#[test]
fn with_writes_of_the_state_that_take_effect_too_late() {
    let protocol = Protocol {
        state_in_time: false,
        ..WHOLE
    };
    loses(protocol, RACE, &["take_over", "acknowledged", "remove"]);
}

/// What is promised of an upload is the grace period, not that a whole run passes it by.
#[test]
fn an_upload_that_no_manifest_mentions_is_promised_for_the_grace_period_alone() {
    let protocol = Protocol {
        mark_ends_promises: true,
        ..WHOLE
    };
    let requests = &[(Kind::Upload, 0)];
    let order = &["mark: walks a", "acknowledged", "condemn", "wait", "remove"];
    loses(protocol, Scenario { requests, ..PUSH }, order);
}
