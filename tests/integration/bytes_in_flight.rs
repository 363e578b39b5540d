//! Bytes of bodies in flight: their bound, and that nobody takes the room of others.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use crate::scoring::{deploy, held, metrics, sample};
use crate::support::{PATIENCE, Server, folder, serin};

const MIB: usize = 1 << 20;

/// A server with room for three bodies of 8 MiB.
fn with_little_room(data: &Path) -> (Server, String) {
    let bounds = [
        "--body-bytes-max",
        "8388608",
        "--bytes-in-flight-max",
        "25165824",
    ];
    let server = Server::start_with(data, &bounds);
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    (server, key)
}

/// The sample request, and spaces in front of it.
fn padded(bytes: usize) -> String {
    let sample = sample();
    " ".repeat(bytes - sample.len()) + &sample
}

/// Says that 8 MiB will come, and sends so many of them.
fn send_part(server: &Server, key: &str, bytes: usize) -> TcpStream {
    let address = server.scoring.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "POST /score HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        8 * MIB
    );
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(&vec![b' '; bytes]).expect("a part");
    stream
}

/// Waits until the series has a value that pleases.
fn wait_for(server: &Server, series: &str, pleases: impl Fn(usize) -> bool) {
    let begun = std::time::Instant::now();
    loop {
        let metrics = metrics(server);
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value: usize = value.expect("the series").parse().expect("a number");
        if pleases(value) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{series} stays at {value}");
        std::thread::yield_now();
    }
}

/// They announce ten times the room that there is, and their bodies never come.
#[test]
fn clients_that_only_say_that_much_will_come_keep_neither_room_nor_slots_from_others() {
    let data = folder();
    let (server, key) = with_little_room(data.path());
    let silent: Vec<_> = (0..30)
        .map(|_| send_part(&server, &key, 65 * 1024))
        .collect();
    wait_for(&server, "serin_bytes_in_flight", |bytes| {
        bytes >= 30 * 65 * 1024
    });
    assert!(held(&server) < 1.0, "a slow upload holds no slot");
    for bytes in [1000, 8 * MIB] {
        let answer = server.score("iris", &key, None, &padded(bytes));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    drop(silent);
    wait_for(&server, "serin_bytes_in_flight", |bytes| bytes == 0);
}

#[test]
fn a_large_body_waits_for_room_and_small_ones_do_not() {
    let data = folder();
    let (server, key) = with_little_room(data.path());
    let mut holders: Vec<_> = (0..3)
        .map(|_| send_part(&server, &key, 8 * MIB - 1))
        .collect();
    wait_for(&server, "serin_bytes_in_flight", |bytes| bytes == 24 * MIB);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| server.score("iris", &key, None, &padded(8 * MIB)));
        wait_for(&server, "serin_bytes_in_flight_waiting", |count| count == 1);
        let small = server.score("iris", &key, None, &sample());
        assert_eq!(small.status, 200, "{}", small.body);
        assert!(!large.is_finished());
        drop(holders.pop());
        let large = large.join().expect("an answer");
        assert_eq!(large.status, 200, "{}", large.body);
    });
}

/// A bound below one body would refuse it for ever.
#[test]
fn a_bound_of_bytes_below_the_largest_body_is_refused() {
    let data = folder();
    let refused = serin(data.path())
        .args(["serve", "--port", "0", "--bytes-in-flight-max", "1000"])
        .output()
        .expect("a process");
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("67108864"), "{said}");
}
