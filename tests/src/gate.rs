//! A way to a server that holds its answers back until it is opened.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// The way, which goes on until the test process ends.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Where it begins.
    pub addr: SocketAddr,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// Starts a way to `server`, on which each connection brings no more than so many bytes until it
    /// is opened.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn before(server: SocketAddr, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let gate = Self {
            addr: listener.local_addr().expect("it is bound"),
            is_open: Arc::default(),
        };
        let passing = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let gate = passing.clone();
                thread::spawn(move || gate.pass_on(&client, server, bytes));
            }
        });
        gate
    }

    /// Lets everything through.
    pub fn open(&self) {
        let (is_open, changed) = &*self.is_open;
        *is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    fn wait(&self) {
        let (is_open, changed) = &*self.is_open;
        let mut guard = is_open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*guard {
            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass_on(&self, client: &TcpStream, server: SocketAddr, mut left: usize) -> io::Result<()> {
        let server = TcpStream::connect(server)?;
        let (mut asking, mut asked) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut asking, &mut asked);
            let _ = asked.shutdown(Shutdown::Both);
        });
        let (mut from, mut to) = (&server, client);
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut bytes)?;
            if read == 0 {
                return client.shutdown(Shutdown::Both);
            }
            let now = read.min(left);
            to.write_all(&bytes[..now])?;
            left -= now;
            if now < read {
                self.wait();
                left = usize::MAX;
                to.write_all(&bytes[now..read])?;
            }
        }
    }
}
