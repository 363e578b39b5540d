//! Servers that answer as a test says, for tests of runs.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

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

fn named(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("fake".into());
    drop(thread.spawn(body).unwrap());
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
