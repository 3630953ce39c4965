//! Logins that wait for a thread to compare their passwords.
//!
//! The queue has a bound. Each client, as far as addresses tell clients apart, has a lane of its own
//! and the lanes take turns; when all is full, the longest lane gives up its newest login. So
//! whoever floods the queue mostly pushes out himself.

use std::collections::VecDeque;
use std::net::IpAddr;

use tokio::sync::oneshot;

use super::file::Comparison;
use super::verified::Name;

/// How many logins wait at most. By bcrypt's usual cost of 10 two threads have done as many in
/// three seconds.
pub(super) const WAITING: usize = 64;

/// A user and a password, to be compared once for all requests that have shown them.
#[derive(Debug)]
pub(super) struct Login {
    /// What tells it from other logins.
    pub(super) name: Name,
    pub(super) password: Vec<u8>,
    pub(super) comparison: Comparison,
    /// Those who wait for what comes of it. Dropping them tells them that nothing does.
    pub(super) answers: Vec<oneshot::Sender<bool>>,
}

impl Login {
    /// Whether all who waited have left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answers.iter().all(oneshot::Sender::is_closed)
    }
}

#[derive(Debug)]
struct Lane {
    client: Option<IpAddr>,
    /// Never empty.
    logins: VecDeque<Login>,
}

/// All that wait, the lane whose turn it is first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: VecDeque<Lane>,
}

/// There is no room, and others wait for less.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.logins.len()).sum()
    }

    /// Adds a login, or its requests to one that waits already.
    pub(super) fn push(&mut self, client: Option<IpAddr>, mut login: Login) -> Result<(), Full> {
        let mut waiting = self.lanes.iter_mut().flat_map(|lane| &mut lane.logins);
        if let Some(same) = waiting.find(|one| one.name == login.name) {
            same.answers.append(&mut login.answers);
            return Ok(());
        }
        if self.len() >= WAITING {
            self.forget_abandoned();
        }
        if self.len() >= WAITING {
            self.make_room(client)?;
        }
        match self.lanes.iter_mut().find(|lane| lane.client == client) {
            Some(lane) => lane.logins.push_back(login),
            None => self.lanes.push_back(Lane {
                client,
                logins: VecDeque::from([login]),
            }),
        }
        Ok(())
    }

    /// The next one that somebody still waits for.
    pub(super) fn pop(&mut self) -> Option<Login> {
        loop {
            let mut lane = self.lanes.pop_front()?;
            let login = lane.logins.pop_front();
            if !lane.logins.is_empty() {
                self.lanes.push_back(lane);
            }
            if let Some(login) = login.filter(|login| !login.is_abandoned()) {
                return Some(login);
            }
        }
    }

    fn forget_abandoned(&mut self) {
        for lane in &mut self.lanes {
            lane.logins.retain(|login| !login.is_abandoned());
        }
        self.lanes.retain(|lane| !lane.logins.is_empty());
    }

    /// Drops the newest login of the longest lane, unless the client's own is as long.
    fn make_room(&mut self, client: Option<IpAddr>) -> Result<(), Full> {
        let own = self.lanes.iter().find(|lane| lane.client == client);
        let own = own.map_or(0, |lane| lane.logins.len());
        let longest = self.lanes.iter_mut().max_by_key(|lane| lane.logins.len());
        let longest = longest
            .filter(|lane| lane.logins.len() > own + 1)
            .ok_or(Full)?;
        longest.logins.pop_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    fn login(name: u8) -> (Login, oneshot::Receiver<bool>) {
        let (answer, answered) = oneshot::channel();
        let login = Login {
            name: [name; 32],
            password: Vec::new(),
            comparison: Comparison::default(),
            answers: vec![answer],
        };
        (login, answered)
    }

    /// A queue that one client has filled.
    fn flooded() -> (Queue, Vec<oneshot::Receiver<bool>>) {
        let mut queue = Queue::default();
        let mut answered = Vec::new();
        for name in (0..).take(WAITING) {
            let (login, answer) = login(name);
            queue.push(client(1), login).unwrap();
            answered.push(answer);
        }
        (queue, answered)
    }

    #[test]
    fn who_floods_pushes_out_himself_and_waits_longest() {
        let (mut queue, mut flooder) = flooded();
        let (more, _answered) = login(200);
        assert_eq!(queue.push(client(1), more), Err(Full));
        let mut others = Vec::new();
        for number in 2..6 {
            let (honest, answered) = login(200 + number);
            queue.push(client(number), honest).unwrap();
            others.push(answered);
        }
        assert_eq!(queue.len(), WAITING);
        let mut dropped = flooder.iter_mut().rev().map(oneshot::Receiver::try_recv);
        assert!(dropped.by_ref().take(4).all(|one| one.is_err()));
        let first: Vec<u8> = (0..5).map(|_| queue.pop().unwrap().name[0]).collect();
        assert_eq!(first, [0, 202, 203, 204, 205]);
        assert_eq!(queue.pop().unwrap().name[0], 1);
    }

    #[test]
    fn the_same_login_waits_once() {
        let (mut queue, _flooder) = flooded();
        let (again, _answered) = login(3);
        queue.push(client(9), again).unwrap();
        assert_eq!(queue.len(), WAITING);
        while let Some(login) = queue.pop() {
            let requests = if login.name == [3; 32] { 2 } else { 1 };
            assert_eq!(login.answers.len(), requests);
        }
    }

    #[test]
    fn who_has_left_is_skipped_and_makes_room() {
        let (mut queue, mut flooder) = flooded();
        let stays = flooder.pop();
        drop(flooder);
        let (honest, _answered) = login(200);
        queue.push(client(2), honest).unwrap();
        assert_eq!(queue.len(), 2);
        drop(stays);
        assert_eq!(queue.pop().unwrap().name, [200; 32]);
        assert!(queue.pop().is_none());
    }
}
