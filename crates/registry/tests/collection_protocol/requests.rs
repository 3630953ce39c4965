//! The steps of requests: `begin`, `rely_on`, the work, `confirm`.

use super::checker::Step;
use super::world::{
    A, At, B, DELETE_IMAGE, DELETE_INDEX, DELETE_OTHER, IMAGE, Image, Kind, LAYER, Phase,
    UNTAG_IMAGE, View, World,
};
use super::{Next, Protocol, Scenario};

type To<'a> = &'a mut dyn FnMut(Step, World);

/// All that requests and users can do next.
pub fn steps(scenario: &Scenario, world: &World, to: To) {
    for (index, (kind, _)) in scenario.requests.iter().enumerate() {
        let who = WHO[index][*kind as usize];
        Steps {
            scenario,
            protocol: &scenario.protocol,
            kind: *kind,
            index,
        }
        .next(world, &mut |does, next| to(Step { who, does }, next));
    }
    delete(scenario, world, to);
}

const WHO: [[&str; 7]; 3] = [
    [
        "1 HEAD",
        "1 GET",
        "1 upload",
        "1 mount",
        "1 image",
        "1 index",
        "1 image in b",
    ],
    [
        "2 HEAD",
        "2 GET",
        "2 upload",
        "2 mount",
        "2 image",
        "2 index",
        "2 image in b",
    ],
    [
        "3 HEAD",
        "3 GET",
        "3 upload",
        "3 mount",
        "3 image",
        "3 index",
        "3 image in b",
    ],
];

struct Steps<'a> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    kind: Kind,
    index: usize,
}

type Does<'a> = &'a mut dyn FnMut(&'static str, World);

impl Steps<'_> {
    fn next(&self, world: &World, to: Does) {
        let request = &world.requests[self.index];
        if request.fills != 0 {
            let mut next = *world;
            let node = self.scenario.requests[self.index].1;
            next.nodes[node].cached |= request.fills;
            next.requests[self.index].fills = 0;
            to("puts the descriptor into the cache", next);
        }
        match request.at {
            At::Begin if self.kind == Kind::Pull => {
                if world.linked(A) {
                    let mut next = *world;
                    next.requests[self.index].fills = 1 << A;
                    self.done(next, "finds the layer", to);
                }
            }
            At::Begin => self.begin(world, to),
            At::RelyOn => self.rely_on(world, to),
            At::Pardoned => self.pardoned(world, to),
            At::Check => self.check(world, to),
            At::WriteBytes => {
                let mut next = *world;
                next.layer = true;
                self.go(next, At::Write, "writes the layer", to);
            }
            At::Write => self.write(world, to),
            At::WriteTag => {
                let mut next = *world;
                next.image = match next.image {
                    Image::Absent | Image::Dangling => Image::Dangling,
                    Image::Untagged | Image::Tagged => Image::Tagged,
                };
                self.go(next, At::Confirm, "writes the tag", to);
            }
            At::Confirm => self.confirm(world, to),
            At::Done => {}
        }
    }

    fn go(&self, mut next: World, at: At, does: &'static str, to: Does) {
        next.requests[self.index].at = at;
        to(does, next);
    }

    fn done(&self, mut next: World, does: &'static str, to: Does) {
        let request = &mut next.requests[self.index];
        (request.view, request.again, request.undone) = (None, false, false);
        self.go(next, At::Done, does, to);
    }

    /// What the request needs and does not write itself.
    fn needs(&self) -> u8 {
        match self.kind {
            Kind::PushImage => IMAGE | LAYER,
            Kind::PushIndex if self.protocol.rely_on_takes_nested => IMAGE | LAYER,
            Kind::PushIndex => IMAGE,
            _ => LAYER,
        }
    }

    fn view(&self, world: &World) -> View {
        let view = world.requests[self.index].view;
        view.expect("a request that has begun has a view")
    }

    /// The world after the request's node has read `state` for it.
    fn read(&self, world: &World) -> World {
        let mut next = *world;
        let view = View {
            seen: world.state,
            holds: true,
            old: 0,
        };
        let at = self.scenario.requests[self.index].1;
        let node = &mut next.nodes[at];
        let news = node.view.is_none_or(|before| before.seen != view.seen);
        node.view = Some(view);
        if news && self.protocol.forget {
            node.cached = 0;
            if self.protocol.fill_by_one_view {
                let requests = self.scenario.requests.iter().zip(&mut next.requests);
                for (_, request) in requests.filter(|((_, node), _)| *node == at) {
                    request.fills = 0;
                }
            }
        }
        next.requests[self.index].view = Some(view);
        next
    }

    fn begin(&self, world: &World, to: Does) {
        let node = world.nodes[self.scenario.requests[self.index].1];
        if let Some(view) = node.view.filter(|view| view.holds) {
            let mut next = *world;
            next.requests[self.index].view = Some(view);
            self.go(next, At::RelyOn, "begin, with the view of its node", to);
        }
        self.go(self.read(world), At::RelyOn, began(world), to);
    }

    fn rely_on(&self, world: &World, to: Does) {
        let seen = self.view(world).seen;
        let listed = self.needs() & world.condemned.of(seen.run);
        match seen.phase {
            Phase::Condemned if listed != 0 && self.protocol.pardons => {
                let mut next = *world;
                next.pardoned.add(seen.run, listed);
                self.go(next, At::Pardoned, "rely_on: writes pardons", to);
            }
            Phase::Executing if listed != 0 => {
                if self.trusts_pardons(world) {
                    self.done(*world, "rely_on: is to try again", to);
                } else if world.state != seen {
                    let next = self.read(world);
                    self.go(next, At::RelyOn, "rely_on: has waited", to);
                }
            }
            _ => self.relies(*world, "rely_on: nothing to do", to),
        }
    }

    fn pardoned(&self, world: &World, to: Does) {
        let view = self.view(world);
        if view.holds || !self.protocol.pardon_needs_view {
            self.relies(*world, "rely_on: the pardon counts", to);
        }
        if self.protocol.pardon_needs_view {
            let next = self.read(world);
            if world.state == view.seen {
                self.relies(next, "rely_on: the pardon counts by a new view", to);
            } else if self.trusts_pardons(world) {
                self.done(next, "rely_on: is to try again", to);
            } else {
                self.go(next, At::RelyOn, "rely_on: the pardon came late", to);
            }
        }
    }

    /// Has done its work, and does not look again whether something was removed meanwhile.
    fn trusts_pardons(&self, world: &World) -> bool {
        world.requests[self.index].again && self.protocol.confirm_next == Next::Pardons
    }

    fn relies(&self, next: World, does: &'static str, to: Does) {
        match self.protocol.confirm_next {
            _ if !next.requests[self.index].again => self.go(next, At::Check, does, to),
            Next::LooksAgain => self.go(next, At::Check, does, to),
            Next::Pardons => self.acknowledge(next, "rely_on: well, and is acknowledged", to),
            Next::ReliesOn => self.go(next, At::Confirm, does, to),
        }
    }

    fn check(&self, world: &World, to: Does) {
        let request = &world.requests[self.index];
        // The repository where the layer must be linked, and what else must be there.
        let (repository, other) = match self.kind {
            Kind::Head | Kind::Pull => (A, true),
            Kind::Upload if !request.again => {
                let (at, does) = if world.layer {
                    (At::Write, "finds the same bytes")
                } else {
                    (At::WriteBytes, "does not find the same bytes")
                };
                return self.go(*world, at, does, to);
            }
            Kind::Upload => (A, true),
            Kind::Mount => (if request.again { B } else { A }, true),
            Kind::PushImage => (A, !request.again || world.image == Image::Tagged),
            Kind::PushIndex => {
                let image = world.has_image();
                let other = image && (!request.again || world.index);
                if !self.protocol.rely_on_takes_nested {
                    return self.checked(*world, other, "finds the image", to);
                }
                (A, other)
            }
            Kind::PushOther => (B, !request.again || world.other),
        };
        let node = world.nodes[self.scenario.requests[self.index].1];
        if node.cached & (1 << repository) != 0 {
            self.checked(*world, other, "has the layer's descriptor in the cache", to);
        }
        let mut next = *world;
        let there = other && world.linked(repository);
        if there && node.cached & (1 << repository) == 0 {
            next.requests[self.index].fills |= 1 << repository;
        }
        self.checked(next, there, "finds the layer", to);
    }

    fn checked(&self, next: World, there: bool, does: &'static str, to: Does) {
        if !there {
            return self.done(next, "is refused", to);
        }
        let again = next.requests[self.index].again || self.kind == Kind::Head;
        let at = if again { At::Confirm } else { At::Write };
        self.go(next, at, does, to);
    }

    fn write(&self, world: &World, to: Does) {
        let mut next = *world;
        let (does, at) = match self.kind {
            Kind::Upload => {
                next.links[A] = true;
                ("links the layer in a", At::Confirm)
            }
            Kind::Mount => {
                next.links[B] = true;
                ("links the layer in b", At::Confirm)
            }
            Kind::PushImage => {
                next.image = match next.image {
                    Image::Absent | Image::Untagged => Image::Untagged,
                    Image::Dangling | Image::Tagged => Image::Tagged,
                };
                ("writes the image", At::WriteTag)
            }
            Kind::PushIndex => {
                next.index = true;
                ("writes the index and its tag", At::Confirm)
            }
            Kind::PushOther => {
                next.other = true;
                ("writes the image and its tag", At::Confirm)
            }
            Kind::Head | Kind::Pull => unreachable!("they write nothing"),
        };
        self.go(next, at, does, to);
    }

    fn confirm(&self, world: &World, to: Does) {
        let view = self.view(world);
        if view.holds || !self.protocol.confirm {
            self.acknowledge(*world, "confirm: is acknowledged", to);
        }
        if !self.protocol.confirm {
            return;
        }
        let mut next = self.read(world);
        if world.state.run == view.seen.run {
            self.acknowledge(next, "confirm: is acknowledged in the same run", to);
        } else if world.previous.of(world.state.run) == view.seen.run
            && (self.protocol.confirm_next != Next::Pardons
                || view.seen.phase == Phase::Over && world.state.phase != Phase::Over)
        {
            next.requests[self.index].again = true;
            self.go(next, At::RelyOn, "confirm: finds the next run", to);
        } else {
            self.done(next, "confirm: is to try again", to);
        }
    }

    fn acknowledge(&self, mut next: World, does: &'static str, to: Does) {
        if !next.requests[self.index].undone {
            next.promise(self.kind);
        }
        self.done(next, does, to);
    }
}

fn began(world: &World) -> &'static str {
    match world.state.phase {
        Phase::Condemned => "begin, reads condemned",
        Phase::Executing => "begin, reads executing",
        Phase::Over => "begin, reads over",
    }
}

/// What users delete, each thing once. What a request has written and they delete is no longer
/// promised when it is acknowledged after that.
fn delete(scenario: &Scenario, world: &World, to: To) {
    let mut deletes = |which: u8, there: bool, does: &'static str| {
        if world.deletions & which == 0 || !there {
            return;
        }
        let mut next = *world;
        next.deletions &= !which;
        let ends: &[Kind] = match which {
            UNTAG_IMAGE => &[Kind::PushImage],
            DELETE_IMAGE => &[Kind::PushImage, Kind::PushIndex],
            DELETE_INDEX => &[Kind::PushIndex],
            _ => &[Kind::PushOther],
        };
        match which {
            UNTAG_IMAGE => next.image = Image::Untagged,
            DELETE_IMAGE => next.image = Image::Absent,
            DELETE_INDEX => next.index = false,
            _ => next.other = false,
        }
        for kind in ends {
            next.release(*kind);
        }
        for ((kind, _), request) in scenario.requests.iter().zip(&mut next.requests) {
            let written = request.again || matches!(request.at, At::WriteTag | At::Confirm);
            let mentions = *kind == Kind::PushIndex && which == DELETE_IMAGE;
            let begun = !matches!(request.at, At::Begin | At::Done);
            request.undone |= ends.contains(kind) && begun && (written || mentions);
        }
        to(Step { who: "user", does }, next);
    };
    let image = world.image;
    deletes(
        UNTAG_IMAGE,
        image == Image::Tagged,
        "moves the image's tag away",
    );
    deletes(DELETE_IMAGE, world.has_image(), "deletes the image");
    deletes(DELETE_INDEX, world.index, "deletes the index");
    deletes(DELETE_OTHER, world.other, "deletes the image in b");
}
