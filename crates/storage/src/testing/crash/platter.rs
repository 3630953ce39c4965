//! What is on the platter, and what is not there yet.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::SystemTime;

use crate::{Error, Result, StoragePath};

pub(super) const ROOT: u64 = 0;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) inodes: HashMap<u64, Inode>,
    pub(super) next_inode: u64,
    pub(super) writers: HashMap<StoragePath, u64>,
    pub(super) last_writer: u64,
    pub(super) steps: u64,
    pub(super) cut_after: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Inode {
    File(Content),
    Folder(Names),
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    /// What a crash leaves for sure; `None` when none of it was ever synced.
    pub(super) durable: Option<Vec<u8>>,
    pub(super) modified: SystemTime,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) live: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
    pub(super) modified: Option<SystemTime>,
}

fn power_off(path: &StoragePath) -> Error {
    Error::io(path, "reach", io::Error::other("the power is off"))
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            inodes: HashMap::from([(ROOT, Inode::Folder(Names::default()))]),
            next_inode: ROOT + 1,
            writers: HashMap::new(),
            last_writer: 0,
            steps: 0,
            cut_after: None,
        }
    }

    pub(super) fn is_on(&self, path: &StoragePath) -> Result<()> {
        match self.cut_after {
            Some(last) if self.steps > last => Err(power_off(path)),
            _ => Ok(()),
        }
    }

    /// A point between two changes, where the power may go.
    pub(super) fn step(&mut self, path: &StoragePath) -> Result<()> {
        self.is_on(path)?;
        self.steps += 1;
        self.is_on(path)
    }

    pub(super) fn names(&self, inode: u64) -> Option<&Names> {
        match self.inodes.get(&inode) {
            Some(Inode::Folder(names)) => Some(names),
            _ => None,
        }
    }

    pub(super) fn names_mut(&mut self, inode: u64) -> &mut Names {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Folder(names)) => names,
            _ => panic!("inode {inode} is no folder"),
        }
    }

    pub(super) fn content(&self, inode: u64) -> &Content {
        match self.inodes.get(&inode) {
            Some(Inode::File(content)) => content,
            _ => panic!("inode {inode} is no file"),
        }
    }

    pub(super) fn content_mut(&mut self, inode: u64) -> &mut Content {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(content)) => content,
            _ => panic!("inode {inode} is no file"),
        }
    }

    pub(super) fn add(&mut self, inode: Inode) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        number
    }

    pub(super) fn find(&self, path: &StoragePath) -> Result<u64> {
        self.is_on(path)?;
        path.parts().try_fold(ROOT, |inode, part| {
            let child = self.names(inode).and_then(|names| names.live.get(part));
            child.copied().ok_or_else(|| Error::not_found(path))
        })
    }

    pub(super) fn find_file(&self, path: &StoragePath) -> Result<u64> {
        let inode = self.find(path)?;
        if self.names(inode).is_some() {
            Err(Error::not_a_file(path))
        } else {
            Ok(inode)
        }
    }

    /// The folder above `path`, made when missing; its name is then not durable.
    pub(super) fn make_parent(&mut self, path: &StoragePath) -> Result<u64> {
        let parent = path.parent().ok_or_else(|| Error::not_a_file(path))?;
        let mut place = StoragePath::root();
        let mut inode = ROOT;
        for part in parent.parts() {
            place = place.join(part).expect("a part of a path");
            inode = match self.names_mut(inode).live.get(part) {
                Some(child) => *child,
                None => {
                    let child = self.add(Inode::Folder(Names::default()));
                    self.link(inode, part, child);
                    child
                }
            };
            if self.names(inode).is_none() {
                return Err(Error::not_a_folder(&place));
            }
        }
        Ok(inode)
    }

    pub(super) fn link(&mut self, folder: u64, name: &str, inode: u64) {
        let names = self.names_mut(folder);
        names.live.insert(name.to_owned(), inode);
        names.modified = Some(SystemTime::now());
    }

    pub(super) fn place(&mut self, path: &StoragePath, inode: u64) -> Result<()> {
        let parent = self.make_parent(path)?;
        let there = self.names_mut(parent).live.get(path.name()).copied();
        if there.is_some_and(|there| self.names(there).is_some()) {
            return Err(Error::not_a_file(path));
        }
        self.link(parent, path.name(), inode);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &StoragePath) -> Result<()> {
        let parent = self.find(&path.parent().ok_or_else(|| Error::not_found(path))?)?;
        let names = self.names_mut(parent);
        names.live.remove(path.name());
        names.modified = Some(SystemTime::now());
        Ok(())
    }

    /// Makes the name, or its absence, durable, and the names of the folders above it.
    pub(super) fn sync_name(&mut self, path: &StoragePath) {
        let mut folder = ROOT;
        for part in path.parts() {
            if self.names(folder).is_none() {
                return;
            }
            let names = self.names_mut(folder);
            match names.live.get(part).copied() {
                Some(inode) => {
                    names.durable.insert(part.to_owned(), inode);
                    folder = inode;
                }
                None => {
                    names.durable.remove(part);
                    return;
                }
            }
        }
    }
}

impl Content {
    pub(super) fn new(live: Vec<u8>) -> Self {
        Self {
            live,
            durable: None,
            modified: SystemTime::now(),
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable = Some(self.live.clone());
    }
}
