//! A breadth-first checker of explicit states: every state that can be reached is visited once, and
//! what is found wrong is told with one of the shortest ways that lead there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub who: &'static str,
    pub does: &'static str,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.does)
    }
}

/// What is checked.
pub trait Model {
    type State: Copy + Eq + Hash;

    fn initial(&self) -> Self::State;

    /// Tells `to` each step that can be done next, and where it leads. A step that is never done
    /// is a crash, so crashes need no steps of their own unless others react to them.
    fn steps(&self, from: &Self::State, to: &mut dyn FnMut(Step, Self::State));

    /// What must not be in this state and is.
    fn wrong(&self, state: &Self::State) -> Option<&'static str>;
}

/// All states that can be reached, up to the first that is wrong.
pub struct Explored<S> {
    pub states: Vec<S>,
    pub depth: usize,
    pub wrong: Option<Wrong>,
}

/// How something went wrong.
pub struct Wrong {
    pub what: &'static str,
    pub steps: Vec<Step>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after", self.what)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:4}. {step}", number + 1)?;
        }
        Ok(())
    }
}

pub fn explore<M: Model>(model: &M) -> Explored<M::State> {
    let initial = model.initial();
    let mut states = vec![initial];
    // How each state was reached first: from which one, and by what.
    let mut reached: Vec<Option<(usize, Step)>> = vec![None];
    let mut known: HashMap<M::State, (), BuildHasherDefault<Mixer>> = HashMap::default();
    known.insert(initial, ());
    let (mut next, mut depth, mut level_ends) = (0, 0, 1);
    let mut wrong = model.wrong(&initial).map(|what| (what, 0));
    while next < states.len() && wrong.is_none() {
        if next == level_ends {
            depth += 1;
            level_ends = states.len();
        }
        let from = states[next];
        model.steps(&from, &mut |step, state| {
            if let Entry::Vacant(vacant) = known.entry(state) {
                vacant.insert(());
                if wrong.is_none() {
                    wrong = model.wrong(&state).map(|what| (what, states.len()));
                }
                states.push(state);
                reached.push(Some((next, step)));
            }
        });
        next += 1;
    }
    let wrong = wrong.map(|(what, mut at)| {
        let mut steps = Vec::new();
        while let Some((from, step)) = reached[at] {
            steps.push(step);
            at = from;
        }
        steps.reverse();
        Wrong { what, steps }
    });
    Explored {
        states,
        depth,
        wrong,
    }
}

/// A quick hash of many small fields; nobody chooses the states to make it collide.
#[derive(Default)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.write_u64(discriminant.unsigned_abs() as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
