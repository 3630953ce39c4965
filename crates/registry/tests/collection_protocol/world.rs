//! What the steps of the model work on: the store, the nodes, the requests, the collectors, and
//! what has been promised to clients.
//!
//! The store has one layer; in repository `a` an image that mentions it, tagged or not, and a
//! tagged index that mentions the image; in repository `b` a tagged image that mentions the layer.

/// What can be condemned and pardoned, as bits.
pub const LAYER: u8 = 1;
pub const IMAGE: u8 = 2;

/// Repositories.
pub const A: usize = 0;
pub const B: usize = 1;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    Condemned,
    Executing,
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Image {
    Absent,
    /// A tag that leads nowhere.
    Dangling,
    Untagged,
    Tagged,
}

/// What a node has to know of `state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seen {
    pub run: u8,
    pub phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct View {
    pub seen: Seen,
    /// Whether its lease may last yet. A lease can also end early: whoever looks at a view may
    /// find that it does not hold.
    pub holds: bool,
    /// Which collectors have begun to wait since it was read, as bits.
    pub old: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub view: Option<View>,
    /// The repositories whose link to the layer is in the descriptor cache, as bits.
    pub cached: u8,
}

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// HEAD of the layer in `a`.
    Head,
    /// GET of the layer in `a`, which depends on nothing later, but fills the cache.
    Pull,
    /// PUT of the layer's bytes to `a`.
    Upload,
    /// Mount of the layer from `a` to `b`.
    Mount,
    /// PUT of the image to `a`, under a tag.
    PushImage,
    /// PUT of the index to `a`, under a tag.
    PushIndex,
    /// PUT of the image to `b`, under a tag.
    PushOther,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    Begin,
    RelyOn,
    Pardoned,
    Check,
    WriteBytes,
    Write,
    WriteTag,
    Confirm,
    /// Acknowledged, refused or told to try again.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    pub at: At,
    pub view: Option<View>,
    /// Looks at things again because `confirm` found the next run.
    pub again: bool,
    /// Repositories where it has seen the layer, and not put that into the cache yet, as bits.
    pub fills: u8,
    /// Somebody has deleted what it has written.
    pub undone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Does {
    Nothing,
    MarkB,
    Condemn,
    WaitCondemned,
    MarkAgainA,
    MarkAgainB,
    Execute,
    WaitExecuting,
    /// The wait after a run was taken over that was executing.
    WaitTakenOver,
    Spare,
    RemoveImage,
    RemoveLinkA,
    RemoveLinkB,
    RemoveLayer,
    Finish,
}

/// A request of a collector to write `state` that the store has not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pending {
    None,
    Condemn,
    Execute,
    Finish,
    TakeOver(Seen),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Collector {
    /// Every process has a name of its own.
    pub name: u8,
    pub does: Does,
    pub pending: Pending,
    pub run: u8,
    /// Before `condemn` what is needed, after it what is left of the list.
    pub list: u8,
    /// Which manifests `mark` has seen.
    pub marked: u8,
    /// Has been silent for so long that another has decided to take over.
    pub silent: bool,
}

/// Something of each run: what it has condemned, what has been pardoned, the run before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Lists(u64);

impl Lists {
    pub fn of(self, run: u8) -> u8 {
        (self.0 >> (2 * run)) as u8 & 3
    }

    pub fn add(&mut self, run: u8, things: u8) {
        self.0 |= u64::from(things & 3) << (2 * run);
    }

    fn drop_before(&mut self, run: u8) {
        self.0 &= u64::MAX << (2 * run);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub layer: bool,
    pub links: [bool; 2],
    pub image: Image,
    pub index: bool,
    pub other: bool,

    pub state: Seen,
    /// The run before each.
    pub previous: Lists,
    pub owner: u8,
    pub last_run: u8,
    pub condemned: Lists,
    pub pardoned: Lists,

    pub nodes: [Node; 2],
    pub requests: [Request; 3],
    pub collectors: [Collector; 2],
    /// What users may delete yet, as bits.
    pub deletions: u8,
    /// What clients have been promised, a bit for each kind of request.
    pub promised: u8,
}

/// What users delete, as bits.
pub const UNTAG_IMAGE: u8 = 1;
pub const DELETE_IMAGE: u8 = 2;
pub const DELETE_INDEX: u8 = 4;
pub const DELETE_OTHER: u8 = 8;

impl World {
    fn views(&mut self) -> impl Iterator<Item = &mut View> {
        let nodes = self.nodes.iter_mut().filter_map(|node| node.view.as_mut());
        let requests = self.requests.iter_mut();
        nodes.chain(requests.filter_map(|request| request.view.as_mut()))
    }

    /// A collector begins to wait for all views that there are.
    pub fn begin_wait(&mut self, collector: usize) {
        for view in self.views().filter(|view| view.holds) {
            view.old |= 1 << collector;
        }
    }

    /// All of them have ended.
    pub fn end_wait(&mut self, collector: usize) {
        for view in self.views().filter(|view| view.old & (1 << collector) != 0) {
            (view.holds, view.old) = (false, 0);
        }
    }

    pub fn has_image(&self) -> bool {
        self.image >= Image::Untagged
    }

    /// The image stays where untagged manifests are removed.
    pub fn keeps_image(&self) -> bool {
        self.image == Image::Tagged || (self.index && self.has_image())
    }

    pub fn needs_layer(&self) -> bool {
        self.keeps_image() || self.other
    }

    pub fn linked(&self, repository: usize) -> bool {
        self.links[repository] && self.layer
    }

    pub fn promise(&mut self, kind: Kind) {
        self.promised |= 1 << kind as u8;
    }

    pub fn release(&mut self, kind: Kind) {
        self.promised &= !(1 << kind as u8);
    }

    pub fn is_promised(&self, kind: Kind) -> bool {
        self.promised & (1 << kind as u8) != 0
    }

    /// Makes states equal that differ only in what nobody can look at again.
    pub fn forget_what_is_past(&mut self, served_by: impl Fn(usize) -> Option<usize>) {
        let (state, requests) = (self.state, self.requests);
        let mut waits = [false; 2];
        for (index, request) in requests.iter().enumerate() {
            if let Some(node) = served_by(index) {
                waits[node] |= request.at != At::Done;
            }
        }
        for (index, request) in self.requests.iter_mut().enumerate() {
            if served_by(index).is_some_and(|node| !waits[node]) {
                request.fills = 0;
            }
        }
        for (node, waits) in self.nodes.iter_mut().zip(waits) {
            if !waits {
                *node = Node {
                    view: None,
                    cached: 0,
                };
            }
            // A view of a state that is gone is like none: the next one is another.
            node.view = node.view.filter(|view| view.holds || view.seen == state);
        }
        let first = self.views().map(|view| view.seen.run).min();
        let mut first = first.map_or(state.run, |first| first.min(state.run));
        for collector in self.collectors.iter().filter(|it| it.does != Does::Nothing) {
            first = first.min(collector.run);
        }
        self.condemned.drop_before(first);
        self.pardoned.drop_before(first);
        self.previous.drop_before(first);
    }

    /// What an acknowledged request depends on and is not there.
    /// Where the runs are evictions, repository `a` is a cache's, which fetches layers again.
    pub fn lost(&self, evicts: bool) -> Option<&'static str> {
        let image = match evicts {
            true => self.image == Image::Tagged,
            false => self.has_image() && self.linked(A),
        };
        if self.is_promised(Kind::PushImage) && !image {
            Some("an image that was acknowledged is broken")
        } else if self.is_promised(Kind::PushIndex) && !(self.index && image) {
            Some("an index that was acknowledged is broken")
        } else if self.is_promised(Kind::PushOther) && !(self.other && self.linked(B)) {
            Some("the image in b that was acknowledged is broken")
        } else if !evicts && self.is_promised(Kind::Upload) && !self.linked(A) {
            Some("an upload that was acknowledged is gone")
        } else if self.is_promised(Kind::Mount) && !self.linked(B) {
            Some("a mount that was acknowledged is gone")
        } else if !evicts && self.is_promised(Kind::Head) && !self.linked(A) {
            Some("what HEAD has told of is gone")
        } else {
            None
        }
    }

    /// Something that the store has, and that nothing leads to.
    pub fn has_garbage(&self) -> bool {
        let image = self.has_image() && !self.keeps_image();
        let layer = (self.layer || self.links[A] || self.links[B]) && !self.needs_layer();
        image || layer
    }
}
