//! A TCP proxy that cuts connections at given bytes, one plan a connection; when the plans are used up it passes
//! everything on.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::PATIENCE;

/// After how many bytes of which direction a connection is cut.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// Of what the client sends.
    ToServer(usize),
    /// Of what the server sends.
    ToClient(usize),
}

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    plans: Arc<Mutex<VecDeque<Cut>>>,
    cuts: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of a server.
    pub fn start(server: SocketAddr, plans: impl IntoIterator<Item = Cut>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let proxy = Proxy {
            address,
            plans: Arc::new(Mutex::new(plans.into_iter().collect())),
            cuts: Arc::default(),
            ending: Arc::default(),
        };
        let (plans, cuts) = (Arc::clone(&proxy.plans), Arc::clone(&proxy.cuts));
        let ending = Arc::clone(&proxy.ending);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { return };
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let plan = plans.lock().expect("not poisoned").pop_front();
                let (up, down) = match plan {
                    Some(Cut::ToServer(bytes)) => (bytes, usize::MAX),
                    Some(Cut::ToClient(bytes)) => (usize::MAX, bytes),
                    None => (usize::MAX, usize::MAX),
                };
                pump(&client, &server, up, Arc::clone(&cuts));
                pump(&server, &client, down, Arc::clone(&cuts));
            }
        });
        proxy
    }

    /// For `--server`.
    pub fn url(&self) -> String {
        format!("uringest://{}", self.address)
    }

    /// Connections it has cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)); // wakes the thread that accepts
    }
}

/// Passes on so many bytes of one direction, then cuts: with a reset where it can be told from an end.
fn pump(from: &TcpStream, to: &TcpStream, mut left: usize, cuts: Arc<AtomicUsize>) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        to.set_write_timeout(Some(PATIENCE)).expect("a socket");
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let passed = read.min(left);
            left -= passed;
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            if left == 0 {
                let cut = cuts.fetch_add(1, Ordering::SeqCst);
                if cut % 2 == 1 {
                    let _ = socket2::SockRef::from(&from).set_linger(Some(Duration::ZERO)); // a reset for one side
                }
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both); // either may have gone
        let _ = from.shutdown(Shutdown::Both);
    });
}
