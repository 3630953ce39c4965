//! The steps of collectors: `mark`, `condemn`, `wait`, `mark_again`, `strike`, `execute`, `wait`,
//! `spare`, `remove`, `finish`, and `take_over`. What is struck is written where pardons are, just
//! before the state is.
//!
//! With a lock there is one collector at a time, which crashes and comes back. Without one there
//! are two, each step that writes `state` is a request that the store carries out later, and
//! either may take over from the other at any time: five minutes without a sign of life can be
//! death or a long pause. What the demands on the store and the machines exclude has no step.

use super::checker::Step;
use super::world::{A, B, Collector, Does, IMAGE, Image, Kind, LAYER, Pending, Phase, Seen, World};
use super::{Protocol, Scenario, evictions};

type To<'a> = &'a mut dyn FnMut(Step, World);

/// All that collectors can do next.
pub fn steps(scenario: &Scenario, world: &World, to: To) {
    for (index, who) in ["collector 1", "collector 2"].into_iter().enumerate() {
        if index == 0 || !scenario.lock {
            let steps = Steps {
                scenario,
                protocol: &scenario.protocol,
                index,
            };
            steps.next(world, &mut |does, next| to(Step { who, does }, next));
        }
    }
}

struct Steps<'a> {
    scenario: &'a Scenario,
    protocol: &'a Protocol,
    index: usize,
}

type Tell<'a> = &'a mut dyn FnMut(&'static str, World);

impl Collector {
    pub fn new(name: u8) -> Self {
        Self {
            name,
            does: Does::Nothing,
            pending: Pending::None,
            run: 0,
            list: 0,
            marked: 0,
            silent: false,
        }
    }

    /// Another process follows this one.
    fn replace(&mut self) {
        *self = Self::new((self.name + 2) % 4);
    }

    /// The same process waits for another run.
    fn rest(&mut self) {
        *self = Self::new(self.name);
    }
}

impl Steps<'_> {
    fn next(&self, world: &World, to: Tell) {
        let collector = &world.collectors[self.index];
        if collector.silent {
            let mut next = *world;
            next.collectors[self.index].silent = false;
            if self.owns(world) {
                return to("wakes up and reads its own name", next);
            }
            next.collectors[self.index].replace();
            return to("wakes up and reads another's name", next);
        }
        if collector.pending != Pending::None {
            return self.land(world, collector.pending, to);
        }
        if self.scenario.lock && collector.does != Does::Nothing {
            let mut next = *world;
            next.collectors[self.index].rest();
            to("crashes, and another starts", next);
        }
        let (then, does) = self.then(collector);
        let mut next = *world;
        let own = &mut next.collectors[self.index];
        own.does = then;
        match collector.does {
            Does::Nothing if world.state.phase != Phase::Over => return self.take_over(world, to),
            Does::Nothing => {
                if world.last_run >= self.scenario.runs {
                    return;
                }
                let kept = world.keeps_image() && !self.scenario.evicts;
                let there = world.has_image();
                if self.scenario.evicts && !there {
                    return;
                }
                own.run = world.state.run;
                own.marked = if there { IMAGE } else { 0 };
                own.list = if kept { 0 } else { LAYER } | if there && !kept { IMAGE } else { 0 };
                if self.protocol.mark_ends_promises {
                    release(&mut next);
                }
                if self.scenario.evicts {
                    evictions::untag(self.scenario, &mut next);
                }
            }
            Does::MarkB if world.other || self.is_linked_elsewhere(world) => own.list &= !LAYER,
            Does::Condemn => {
                if !(world.layer || world.links[A] || world.links[B]) {
                    own.list &= !LAYER;
                }
                if self.scenario.evicts && own.list & LAYER == 0 {
                    next.links[A] = false;
                }
                let over = world.state.phase == Phase::Over && world.state.run == collector.run;
                if own.list == 0 || !over {
                    own.rest();
                    return to("condemn: has no reason to", next);
                }
                own.does = Does::Condemn;
                return self.request(next, Pending::Condemn, does, to);
            }
            Does::WaitCondemned => {
                if self.protocol.wait_after_condemn {
                    next.end_wait(self.index);
                    if !self.protocol.mark_ends_promises && !self.scenario.evicts {
                        release(&mut next);
                    }
                }
                if !self.settle(world, &mut next) {
                    return to("wait: finds another's name", next);
                }
            }
            Does::MarkAgainA => {
                if self.scenario.evicts && own.marked == 0 {
                    // What was taken over knows neither the manifests nor the links that go.
                    if world.has_image() {
                        own.list = 0;
                    }
                    if world.links[A] {
                        own.list &= !LAYER;
                    }
                }
                let new = world.has_image() && (own.marked | own.list) & IMAGE == 0;
                if new && self.protocol.mark_again_reads_untagged {
                    own.list &= !LAYER;
                }
                if self.protocol.mark_again_sees_tags && world.keeps_image() {
                    own.list = 0;
                }
                own.marked = 0;
            }
            Does::MarkAgainB
                if world.other || self.protocol.spare_linked && self.is_linked_elsewhere(world) =>
            {
                own.list &= !LAYER;
            }
            Does::Execute | Does::Finish => {
                if !self.owns(world) {
                    own.replace();
                    return to("finds another's name", next);
                }
                own.does = collector.does;
                let pending = match collector.does {
                    Does::Execute => Pending::Execute,
                    _ => Pending::Finish,
                };
                if pending == Pending::Execute && self.protocol.strike {
                    let struck = world.condemned.of(collector.run) & !collector.list;
                    next.pardoned.add(collector.run, struck);
                }
                return self.request(next, pending, does, to);
            }
            Does::WaitExecuting if self.protocol.wait_after_execute => next.end_wait(self.index),
            Does::WaitTakenOver => {
                if self.protocol.wait_after_take_over {
                    next.end_wait(self.index);
                }
                let linked = world.links[A] || world.links[B];
                if self.scenario.evicts && linked {
                    next.collectors[self.index].list &= !LAYER;
                }
                if !self.settle(world, &mut next) {
                    return to("wait: finds another's name", next);
                }
            }
            Does::Spare => {
                let pardoned = world.pardoned.of(own.run);
                own.list &= !pardoned;
                if pardoned & IMAGE != 0 && self.protocol.spare_reads_manifests {
                    own.list &= !LAYER;
                }
                self.skip(&mut next);
            }
            Does::RemoveImage | Does::RemoveLinkA | Does::RemoveLinkB | Does::RemoveLayer => {
                match collector.does {
                    Does::RemoveImage => next.image = Image::Absent,
                    Does::RemoveLinkA => next.links[A] = false,
                    Does::RemoveLinkB => next.links[B] = false,
                    _ => next.layer = false,
                }
                self.skip(&mut next);
            }
            _ => {}
        }
        to(does, next);
    }

    /// What comes next, and what that which is done now is called.
    fn then(&self, collector: &Collector) -> (Does, &'static str) {
        match collector.does {
            Does::Nothing => (Does::MarkB, "mark: walks a"),
            Does::MarkB => (Does::Condemn, "mark: walks b"),
            Does::Condemn => (Does::WaitCondemned, "condemn"),
            Does::WaitCondemned if self.protocol.mark_again => (Does::MarkAgainA, "wait"),
            Does::WaitCondemned => (Does::Execute, "wait"),
            Does::MarkAgainA => (Does::MarkAgainB, "mark_again: walks a"),
            Does::MarkAgainB => (Does::Execute, "mark_again: walks b"),
            Does::Execute => (Does::WaitExecuting, "execute"),
            Does::WaitExecuting | Does::WaitTakenOver => (Does::Spare, "wait"),
            Does::Spare => (Does::RemoveImage, "spare"),
            Does::RemoveImage => (Does::RemoveLinkA, "remove: the image"),
            Does::RemoveLinkA => (Does::RemoveLinkB, "remove: the link in a"),
            Does::RemoveLinkB => (Does::RemoveLayer, "remove: the link in b"),
            Does::RemoveLayer => (Does::Finish, "remove: the layer"),
            Does::Finish => (Does::Nothing, "finish"),
        }
    }

    /// Goes on to what is on the list.
    fn skip(&self, next: &mut World) {
        let (image, links, layer) = (next.has_image(), next.links, next.layer);
        let own = &mut next.collectors[self.index];
        loop {
            let there = match own.does {
                Does::RemoveImage => own.list & IMAGE != 0 && image,
                Does::RemoveLinkA => own.list & LAYER != 0 && links[A],
                Does::RemoveLinkB => own.list & LAYER != 0 && links[B],
                Does::RemoveLayer => own.list & LAYER != 0 && layer,
                _ => return,
            };
            if there {
                return;
            }
            own.does = self.then(own).0;
        }
    }

    /// After a wait that is long enough: no other write of `state` can follow. False when another
    /// collector has written its name.
    fn settle(&self, world: &World, next: &mut World) -> bool {
        if self.scenario.lock || !self.protocol.settle {
            return true;
        }
        let rival = &mut next.collectors[1 - self.index];
        if rival.pending != Pending::None {
            rival.replace();
        }
        let owns = self.owns(world);
        if !owns {
            next.collectors[self.index].replace();
        }
        owns
    }

    /// Whether a layer stays for a link that is not evicted.
    fn is_linked_elsewhere(&self, world: &World) -> bool {
        self.scenario.evicts && world.links[B]
    }

    fn owns(&self, world: &World) -> bool {
        let own = &world.collectors[self.index];
        self.scenario.lock || (world.owner == own.name && world.state.run == own.run)
    }

    /// Asks the store to write `state`, which a lock makes one step.
    fn request(&self, mut next: World, pending: Pending, does: &'static str, to: Tell) {
        if self.scenario.lock {
            self.write(&mut next, pending);
        } else {
            next.collectors[self.index].pending = pending;
        }
        to(does, next);
    }

    fn land(&self, world: &World, pending: Pending, to: Tell) {
        let mut next = *world;
        next.collectors[self.index].pending = Pending::None;
        self.write(&mut next, pending);
        to(
            match pending {
                Pending::Condemn => "writes condemned",
                Pending::Execute => "writes executing",
                Pending::Finish => "writes over",
                Pending::TakeOver(_) => "writes its name",
                Pending::None => "writes nothing",
            },
            next,
        );
    }

    fn write(&self, next: &mut World, pending: Pending) {
        let own = &mut next.collectors[self.index];
        next.owner = own.name;
        match pending {
            Pending::None => {}
            Pending::Condemn => {
                next.last_run += 1;
                next.previous.add(next.last_run, own.run);
                own.run = next.last_run;
                next.condemned.add(own.run, own.list);
                own.does = Does::WaitCondemned;
                next.state = seen(own.run, Phase::Condemned);
                next.begin_wait(self.index);
            }
            Pending::Execute => {
                own.does = Does::WaitExecuting;
                next.state = seen(own.run, Phase::Executing);
                next.begin_wait(self.index);
            }
            Pending::Finish => {
                next.state = seen(own.run, Phase::Over);
                own.rest();
            }
            Pending::TakeOver(from) => {
                own.run = from.run;
                own.list = next.condemned.of(from.run);
                own.marked = 0;
                next.state = from;
                own.does = match from.phase {
                    Phase::Condemned => Does::WaitCondemned,
                    _ => Does::WaitTakenOver,
                };
                next.begin_wait(self.index);
            }
        }
    }

    /// Takes over a run whose collector has given no sign of life for five minutes. By then what
    /// that one has asked of the store has taken effect or never does.
    fn take_over(&self, world: &World, to: Tell) {
        let mut next = *world;
        let rival = &mut next.collectors[1 - self.index];
        if rival.name == world.owner && !self.scenario.lock {
            let in_time = match rival.pending {
                Pending::None => self.protocol.removals_in_time,
                _ => self.protocol.state_in_time,
            };
            if in_time && self.protocol.silence_is_death {
                rival.replace();
            } else if in_time {
                rival.pending = Pending::None;
                rival.silent = true;
            }
        }
        self.request(next, Pending::TakeOver(world.state), "take_over", to);
    }
}

fn seen(run: u8, phase: Phase) -> Seen {
    Seen { run, phase }
}

/// The grace period has passed: nobody can count on what no manifest mentions.
fn release(world: &mut World) {
    for kind in [Kind::Head, Kind::Upload, Kind::Mount] {
        world.release(kind);
    }
}
