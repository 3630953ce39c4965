//! The file.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::warn;

use super::HtpasswdError;

/// The costs that bcrypt has.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// The highest cost that unknown users are compared at. It takes a processor for one to two seconds;
/// anybody can ask for it.
const MOST_FOR_NOBODY: u32 = 14;

/// The content of a file of users.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Users {
    hashes: HashMap<String, Hash>,
    /// What refusing a login costs: as much as comparing with a hash of this cost. It is that of the
    /// costliest user, but no higher than [`MOST_FOR_NOBODY`].
    cost: u32,
    /// The numbers of lines whose hash is not bcrypt's.
    others: Vec<usize>,
    /// The numbers of lines that cost more than [`MOST_FOR_NOBODY`], and how much.
    costly: Vec<(usize, u32)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Hash {
    text: String,
    cost: u32,
}

/// What a password is compared with.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The user's hash, or where there is no such user one that no password matches.
    pub(super) hash: String,
    /// Whether there is such a user.
    pub(super) known: bool,
    /// What else is compared, and to no avail, when the password is wrong: so that it takes as long
    /// as with another user or none.
    pub(super) then: Vec<String>,
}

impl Users {
    /// # Errors
    /// The number of the line that has not the form of one.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut users = Self {
            hashes: HashMap::new(),
            cost: bcrypt::DEFAULT_COST,
            others: Vec::new(),
            costly: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(number)?;
            if user.is_empty() {
                return Err(number);
            }
            let cost = hash
                .parse::<bcrypt::HashParts>()
                .map(|hash| hash.get_cost());
            let Some(cost) = cost.ok().filter(|cost| COSTS.contains(cost)) else {
                users.others.push(number);
                continue;
            };
            if cost > MOST_FOR_NOBODY {
                users.costly.push((number, cost));
            }
            let text = hash.to_owned();
            users.hashes.insert(user.to_owned(), Hash { text, cost });
        }
        if let Some(most) = users.hashes.values().map(|hash| hash.cost).max() {
            users.cost = most.min(MOST_FOR_NOBODY);
        }
        Ok(users)
    }

    /// What to compare a user's password with. Refusing one takes the same work whoever the user is,
    /// and whether there is one: each step of the cost doubles it, so the hash of a cheaper user and
    /// nobody's of each cost from there on add up. Only those of [`Self::costly`] take longer.
    pub(super) fn comparison(&self, user: &str) -> Comparison {
        match self.hashes.get(user) {
            Some(hash) => Comparison {
                hash: hash.text.clone(),
                known: true,
                then: (hash.cost..self.cost).map(nobody).collect(),
            },
            None => Comparison {
                hash: nobody(self.cost),
                known: false,
                then: Vec::new(),
            },
        }
    }

    /// Says which users cannot come in, and which are a burden.
    pub(super) fn warn(&self, path: &Path) {
        let path = path.display();
        for line in &self.others {
            warn!(
                "{path}:{line}: the hash is not by bcrypt, so this user is not let in; make it with \
                 `htpasswd -B`"
            );
        }
        for (line, cost) in &self.costly {
            warn!(
                "{path}:{line}: the hash has the cost {cost}: each login of this user keeps a \
                 processor busy for seconds or longer, and the time tells that there is such a \
                 user; make it with a cost of at most {MOST_FOR_NOBODY}"
            );
        }
    }
}

/// A hash by this cost of a password that nobody knows.
fn nobody(cost: u32) -> String {
    format!("$2b${cost:02}$abcdefghijklmnopqrstuuvNG3OZE4tHQVCDBZ1g7yCoB/2dOqdLe")
}

pub(super) fn read(path: &Path) -> Result<Users, HtpasswdError> {
    let path = path.to_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(HtpasswdError::File { path, source }),
    };
    Users::parse(&text).map_err(|line| HtpasswdError::Line { path, line })
}

/// What tells that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change to content or attributes, which nobody can set.
    changed: (i64, i64),
}

impl Stamp {
    /// `None` when there is no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether the file last changed before `time`.
    pub(super) fn is_before(self, time: SystemTime) -> bool {
        let since = |number: i64| u64::try_from(number).unwrap_or_default();
        let changed = Duration::from_secs(since(self.changed.0))
            + Duration::from_nanos(since(self.changed.1));
        UNIX_EPOCH + changed < time
    }
}
