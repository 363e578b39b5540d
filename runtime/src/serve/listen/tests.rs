use std::net::SocketAddr;

use axum::Extension;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::observe::Metrics;
use crate::serve::BytesInFlight;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    cut: JoinHandle<usize>,
    entered: Arc<Notify>,
    release: Arc<Notify>,
    given_up: Arc<Notify>,
}

/// Tells of a handler that is dropped before it ends.
struct Unfinished(Option<Arc<Notify>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(given_up) = self.0.take() {
            given_up.notify_one();
        }
    }
}

/// A server whose `/slow` tells that it was entered and waits to be released.
async fn server(connections_max: usize, grace: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let given_up = Arc::new(Notify::new());
    let (inside, go_on, told) = (
        Arc::clone(&entered),
        Arc::clone(&release),
        Arc::clone(&given_up),
    );
    let slow = async move || {
        let mut unfinished = Unfinished(Some(told));
        inside.notify_one();
        go_on.notified().await;
        unfinished.0 = None;
        "done"
    };
    let routes = axum::Router::new()
        .route("/slow", get(slow.clone()).post(slow))
        .route(
            "/",
            get(|| async { "here" }).post(async |body: String| body),
        )
        .route("/known", get(async || (Extension(Authenticated), "known")))
        .route("/large", get(async || vec![b'x'; LARGE]));
    let (stop, stopped) = oneshot::channel();
    let limits = ConnectionLimits {
        connections_max,
        grace,
    };
    let cut = tokio::spawn(listen(listener, routes, limits, async {
        _ = stopped.await;
    }));
    Server {
        address,
        stop,
        cut,
        entered,
        release,
        given_up,
    }
}

async fn request(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stream
}

async fn until_end(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn at_shutdown_a_request_in_flight_is_answered_and_an_idle_connection_closed() {
    let server = server(8, Duration::from_secs(30)).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let busy = request(server.address, "/slow").await;
    server.entered.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(until_end(idle).await, "");
    server.release.notify_one();
    let answer = until_end(busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"),
        "{answer}"
    );
    assert_eq!(server.cut.await.unwrap(), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_period_is_cut_and_counted() {
    let server = server(8, Duration::from_millis(1)).await;
    let busy = request(server.address, "/slow").await;
    server.entered.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(server.cut.await.unwrap(), 1);
    assert_eq!(until_end(busy).await, "");
}

/// The answer is far larger than what the kernel takes of it.
#[tokio::test]
async fn an_answer_has_its_room_until_it_is_read_or_its_client_has_gone() {
    const ANSWER_BYTES: usize = 64 << 20;
    let bytes = BytesInFlight::new(0, ANSWER_BYTES, &Metrics::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = bytes.clone();
    let routes = axum::Router::new().route(
        "/",
        get(move || async move {
            let answer = answering.hold_answer(vec![b'x'; ANSWER_BYTES].into(), None);
            answer.map_err(|no_room| no_room.to_string())
        }),
    );
    let limits = ConnectionLimits {
        connections_max: 8,
        grace: Duration::from_secs(30),
    };
    tokio::spawn(listen(listener, routes, limits, std::future::pending()));
    for is_read in [true, false] {
        let mut client = request(address, "/").await;
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        assert_eq!(bytes.held(), ANSWER_BYTES);
        if is_read {
            let mut left = vec![0; ANSWER_BYTES];
            client.read_exact(&mut left).await.unwrap();
        } else {
            drop(client);
        }
        while bytes.held() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_until_one_ends() {
    let server = server(1, Duration::from_secs(30)).await;
    let first = request(server.address, "/slow").await;
    server.entered.notified().await;
    let mut second = request(server.address, "/").await;
    server.release.notify_one();
    let mut first = first;
    let mut answer = [0; 15];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // Its permit is given back when it leaves, and only then is the second one heard.
    drop(first);
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

/// Far more than the kernel takes of an answer that nobody reads.
const LARGE: usize = 32 << 20;

/// Connects, sends these bytes, and leaves the connection open.
async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Reads as much as `expected` is long.
async fn expect(stream: &mut TcpStream, expected: &str) {
    let mut read = vec![0; expected.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), expected);
}

/// The connections that each of as many threads was given of a burst that comes before any of them has served one.
async fn burst(threads: usize, ended: &[usize]) -> Vec<usize> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (queues, connections): (Vec<_>, Vec<_>) = (0..threads).map(|_| connection_queue()).unzip();
    let mut connections: Vec<_> = connections.into_iter().map(Some).collect();
    for &thread in ended {
        connections[thread] = None;
    }
    let accepting = tokio::spawn(accept(listener, queues, 1000, std::future::pending()));
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let given = || -> Vec<usize> {
        let thread = |one: &Option<Connections>| one.as_ref().map_or(0, |it| it.accepted.len());
        connections.iter().map(thread).collect()
    };
    while given().iter().sum::<usize>() < 40 {
        tokio::task::yield_now().await;
    }
    accepting.abort();
    given()
}

#[tokio::test]
async fn a_burst_is_spread_evenly_before_any_thread_has_served() {
    assert_eq!(burst(2, &[]).await, [20, 20]);
    assert_eq!(burst(4, &[]).await, [10, 10, 10, 10]);
}

#[tokio::test]
async fn a_thread_that_has_ended_is_given_none() {
    assert_eq!(burst(2, &[0]).await, [0, 40]);
    assert_eq!(burst(4, &[1, 2]).await, [20, 0, 0, 20]);
}

#[tokio::test]
async fn where_no_thread_is_left_nobody_is_accepted_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (queue, connections) = connection_queue();
    drop(connections);
    let accepting = tokio::spawn(accept(listener, vec![queue], 8, std::future::pending()));
    assert_eq!(
        until_end(TcpStream::connect(address).await.unwrap()).await,
        ""
    );
    accepting.await.unwrap();
}

/// Strangers of all kinds, many more than places: silent ones, heads that do not end, a large answer or many small ones that nobody
/// reads.
#[tokio::test]
async fn who_comes_with_a_request_is_answered_however_many_strangers_came_before() {
    let many = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    for kind in [
        "",
        "GET / HTTP/1.1\r\nhost:",
        "GET /large HTTP/1.1\r\nhost: x\r\n\r\n",
        &many,
    ] {
        let server = server(8, Duration::ZERO).await;
        let mut strangers = Vec::new();
        for _ in 0..50 {
            strangers.push(send(server.address, kind.as_bytes()).await);
        }
        let mut honest = request(server.address, "/").await;
        expect(&mut honest, "HTTP/1.1 200 OK").await;
    }
}

#[tokio::test]
async fn a_known_client_and_one_with_a_request_in_flight_outlast_all_strangers() {
    let server = server(4, Duration::from_secs(30)).await;
    let mut known = request(server.address, "/known").await;
    expect(&mut known, "HTTP/1.1 200 OK").await;
    let busy = request(server.address, "/slow").await;
    server.entered.notified().await;
    let mut strangers = Vec::new();
    for _ in 0..50 {
        let mut stranger = request(server.address, "/").await;
        expect(&mut stranger, "HTTP/1.1 200 OK").await;
        strangers.push(stranger);
    }
    let again = b"GET /known HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    known.write_all(again).await.unwrap();
    let answers = until_end(known).await;
    assert_eq!(answers.matches("known").count(), 2, "{answers}");
    server.release.notify_one();
    let mut busy = busy;
    expect(&mut busy, "HTTP/1.1 200 OK").await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_gets_its_answer() {
    let server = server(8, Duration::from_secs(30)).await;
    // Together with the request, and while it is answered.
    for path in ["/", "/slow"] {
        let mut client = request(server.address, path).await;
        client.shutdown().await.unwrap();
        if path == "/slow" {
            server.entered.notified().await;
            // The beginning of the answer, by which it is found out whether the client listens.
            expect(&mut client, "H").await;
            server.release.notify_one();
            expect(&mut client, "TTP/1.1 200 OK\r\n").await;
            assert!(until_end(client).await.ends_with("done"));
        } else {
            let answer = until_end(client).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"));
        }
    }
}

#[tokio::test]
async fn an_answer_is_whole_that_its_client_takes_after_it_has_ended_its_side() {
    let server = server(8, Duration::from_secs(30)).await;
    for early in [true, false] {
        let mut client = request(server.address, "/large").await;
        if early {
            client.shutdown().await.unwrap();
            expect(&mut client, "HTTP/1.1 200 OK").await;
        } else {
            expect(&mut client, "HTTP/1.1 200 OK").await;
            client.shutdown().await.unwrap();
        }
        assert!(until_end(client).await.len() > LARGE);
    }
}

#[tokio::test]
async fn the_request_of_a_client_that_leaves_is_given_up() {
    let server = server(8, Duration::from_secs(30)).await;
    let get = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = "POST /slow HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}";
    for asked in [get, post] {
        for ends_first in [false, true] {
            let mut client = send(server.address, asked.as_bytes()).await;
            server.entered.notified().await;
            if ends_first {
                client.shutdown().await.unwrap();
                // It has listened, and leaves then.
                expect(&mut client, "H").await;
            }
            drop(client);
            server.given_up.notified().await;
        }
    }
}

/// Sends a request, and reads what comes until the server closes.
async fn refused(address: SocketAddr, asked: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(asked).await.unwrap();
    let answer = until_end(stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_head_at_fault_is_refused_with_a_reason_and_an_id() {
    let server = server(8, Duration::from_secs(30)).await;
    let many = format!(
        "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let large = format!(
        "GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
        "b".repeat(1 << 20)
    );
    for (asked, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "found none"),
        (
            "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
            400,
            "found 2",
        ),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "transfer-encoding",
        ),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            400,
            "head of an HTTP/1.1 request",
        ),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
            "head of an HTTP/1.1 request",
        ),
        ("nonsense\r\n\r\n", 400, "head of an HTTP/1.1 request"),
        (
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            400,
            "head of an HTTP/1.1 request",
        ),
        (
            "\x16\x03\x01\x02\x00\x01\x00\x01\x07\x03\x03",
            400,
            "head of an HTTP/1.1 request",
        ),
        (&many, 431, "16384 bytes and 100 headers"),
        (&large, 431, "16384 bytes and 100 headers"),
    ] {
        let (head, body) = refused(server.address, asked.as_bytes()).await;
        let asked = &asked[..asked.len().min(100)];
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{asked}: {head}"
        );
        assert!(head.contains("\r\nx-request-id: "), "{asked}: {head}");
        let body: serde_json::Value = serde_json::from_str(&body).expect(asked);
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(reason), "{asked}: {message}");
    }
}

#[tokio::test]
async fn a_fault_after_a_good_request_takes_nothing_from_its_answer() {
    let server = server(8, Duration::from_secs(30)).await;
    let asked = b"GET / HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n";
    let mut client = send(server.address, asked).await;
    client.shutdown().await.unwrap();
    let answers = until_end(client).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(
        answers.contains("hereHTTP/1.1 400 Bad Request\r\n"),
        "{answers}"
    );
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_believed_and_ends_the_connection() {
    let server = server(8, Duration::from_secs(30)).await;
    let chunks = "4\r\nbody\r\n0\r\n\r\n";
    for lines in [
        "content-length: 30\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 1",
    ] {
        // What a server that believed the length would take for a second request.
        let asked = format!(
            "POST / HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n{chunks}GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let (_, body) = refused(server.address, asked.as_bytes()).await;
        assert_eq!(body, "body");
    }
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_its_body_is_told_to_go_on() {
    let server = server(8, Duration::from_secs(30)).await;
    let head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    let mut client = send(server.address, head).await;
    expect(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"body").await.unwrap();
    client.shutdown().await.unwrap();
    let answer = until_end(client).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("body"),
        "{answer}"
    );
}

#[tokio::test]
async fn requests_that_a_stranger_sends_at_once_are_all_answered_one_a_turn() {
    let server = server(8, Duration::from_secs(30)).await;
    let many = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(99);
    let last = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let client = send(server.address, (many + last).as_bytes()).await;
    assert_eq!(until_end(client).await.matches("here").count(), 100);
}

/// It sends requests as long as they are taken, and reads nothing.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_and_never_reads_is_cut_off() {
    let server = server(8, Duration::from_secs(30)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let many = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let written = async { while client.write_all(many.as_bytes()).await.is_ok() {} };
    written.await;
}

/// Asks, sends a body that nobody reads, and then takes what is answered.
async fn sent_first(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = send(address, head.as_bytes()).await;
    stream.write_all(body).await.expect("no answer breaks it");
    until_end(stream).await
}

#[tokio::test]
async fn who_sends_a_large_body_first_meets_the_answer_that_was_made_without_it() {
    let server = server(4, Duration::ZERO).await;
    let body = vec![b'x'; 1024 * 1024];
    let length = format!("content-length: {}", body.len());
    for (path, length, host) in [
        ("/known", length.as_str(), "host: x"),
        ("/nowhere", length.as_str(), "host: x"),
        // A head at fault.
        ("/", length.as_str(), "accept: */*"),
        ("/known", "transfer-encoding: chunked", "host: x"),
    ] {
        let body = match length.strip_prefix("transfer") {
            Some(_) => [b"100000\r\n", body.as_slice(), b"\r\n0\r\n\r\n"].concat(),
            None => body.clone(),
        };
        let head = format!("POST {path} HTTP/1.1\r\n{host}\r\n{length}\r\n\r\n");
        let answer = sent_first(server.address, &head, &body).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{head}{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_leaves_its_connection_open() {
    let server = server(4, Duration::ZERO).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for (length, body) in [
        ("content-length: 5", "hello"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ("content-length: 0", ""),
    ] {
        let asked = format!("POST /known HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n{body}");
        stream.write_all(asked.as_bytes()).await.unwrap();
        expect(&mut stream, "HTTP/1.1 405").await;
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
        let rest = String::from_utf8(rest).unwrap();
        assert!(!rest.contains("connection: close"), "{rest}");
    }
}

#[tokio::test]
async fn who_asks_before_it_sends_is_not_told_to_send_what_nobody_reads() {
    let server = server(4, Duration::ZERO).await;
    let head =
        "POST /known HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let answer = until_end(send(server.address, head.as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
