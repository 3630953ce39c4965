//! A way to a server on which the first connections break.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Starts a way to `server`: the first connections break off when so many bytes have gone to the
/// server, one for each number; those behind them hold. It goes on until the test process ends.
///
/// # Panics
/// When it cannot listen.
pub fn torn(server: SocketAddr, after: &'static [usize]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut after = after.iter();
        for client in listener.incoming().flatten() {
            let left = after.next().copied().unwrap_or(usize::MAX);
            thread::spawn(move || pass_on(&client, server, left));
        }
    });
    addr
}

fn pass_on(client: &TcpStream, server: SocketAddr, mut left: usize) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut answers, mut asking) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut asking);
        let _ = asking.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (client, &server);
    let mut bytes = vec![0; 64 * 1024];
    while left > 0 {
        let read = from.read(&mut bytes)?.min(left);
        if read == 0 {
            break;
        }
        to.write_all(&bytes[..read])?;
        left -= read;
    }
    server.shutdown(Shutdown::Both)
}
