//! What a new client feels of thousands of strangers, and the memory that they hold: a part of `figures`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Server, folder};
use crate::{pss, row, spread};

/// Connections that say nothing.
const SILENT: usize = 10_000;
/// Connections that ask again and again and never read, or never end their head: as many as places.
const SLOW: usize = 4096;
/// Requests of each that never reads: more answers than its small window and the kernel take.
const UNREAD: usize = 1500;
/// The time between two new clients.
const CLIENT_PERIOD: Duration = Duration::from_millis(5);

/// New clients while strangers of each kind come and stay.
pub(crate) fn strangers() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a soft limit may be raised");
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}", "b".repeat(12_000));
    let unread = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n".repeat(UNREAD);
    for (kind, count, say) in [
        ("idle strangers", SILENT, String::new()),
        ("heads that never end", SLOW, head),
        ("clients that never read", SLOW, unread),
    ] {
        among(kind, count, &say);
    }
}

fn among(kind: &str, count: usize, say: &str) {
    let data = folder();
    let server = Server::start(data.path());
    let address = server.scoring.trim_start_matches("http://").to_owned();
    let have_come = AtomicBool::new(false);
    let (mut times, strangers) = std::thread::scope(|scope| {
        let new_clients = scope.spawn(|| {
            let mut times = Vec::new();
            while !have_come.load(Ordering::Relaxed) {
                times.push(one_answer(&address));
                std::thread::sleep(CLIENT_PERIOD);
            }
            times
        });
        let strangers: Vec<_> = (0..count).map(|_| stranger(&address, say)).collect();
        std::thread::sleep(Duration::from_secs(1));
        have_come.store(true, Ordering::Relaxed);
        (new_clients.join().expect("new clients come"), strangers)
    });
    let memory = pss(&server);
    row(
        &format!("a new client's answer while {count} {kind} come; memory"),
        &format!("{}; {memory:.0} MB", spread(&mut times)),
    );
    drop(strangers);
}

/// One that takes no more than a few kilobytes, and what is taken of what it says at once.
fn stranger(address: &str, say: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a listening server");
    set_socket_recv_buffer_size(&stream, 4096).expect("a small window");
    stream.set_nonblocking(true).expect("a socket");
    // What does not fit is not sent.
    drop(stream.write_all(say.as_bytes()));
    stream
}

/// From the first packet of a new connection to the first byte of its answer.
fn one_answer(address: &str) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).expect("a listening server");
    let asked = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).expect("a server reads");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    begun.elapsed()
}
