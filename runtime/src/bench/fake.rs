//! Servers that answer as a test says, for tests of runs.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Answers to a body: none for a failure.
type Says = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A server with a thread for each connection, which end with their clients; and the bodies that it has had.
pub(crate) fn server(
    says: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<HashSet<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let had = Arc::new(Mutex::new(HashSet::new()));
    let (says, told): (Arc<Says>, _) = (Arc::new(says), Arc::clone(&had));
    named(move || {
        for stream in listener.incoming().flatten() {
            let (says, told) = (Arc::clone(&says), Arc::clone(&told));
            named(move || drop(serve(stream, &*says, &told)));
        }
    });
    (address, had)
}

/// A server that answers `1` at once, until the value goes: then its connections are cut and nobody listens any more.
#[derive(Debug)]
pub(crate) struct Mortal {
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Mortal {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (over, all) = (Arc::clone(&is_over), Arc::clone(&streams));
        let thread = named(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                all.lock().unwrap().push(stream.try_clone().unwrap());
                let said = |_: &str| Some("1".to_owned());
                named(move || drop(serve(stream, &said, &Mutex::default())));
            }
        });
        Self {
            address,
            is_over,
            streams,
            thread: Some(thread),
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes who waits for the next one.
        drop(TcpStream::connect(self.address));
        drop(self.thread.take().map(JoinHandle::join));
        for stream in self.streams.lock().unwrap().drain(..) {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

fn named(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = thread::Builder::new().name("fake".into());
    thread.spawn(body).unwrap()
}

fn serve(mut answers: TcpStream, says: &Says, had: &Mutex<HashSet<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(answers.try_clone()?);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(found) = line.to_lowercase().strip_prefix("content-length:") {
                length = found.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body)?;
        let body = String::from_utf8(body).unwrap();
        let (status, said) = match says(&body) {
            Some(said) => ("200 OK", said),
            None => ("500 Broken", "{}".to_owned()),
        };
        had.lock().unwrap().insert(body);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
            said.len()
        );
        answers.write_all((head + &said).as_bytes())?;
    }
}
