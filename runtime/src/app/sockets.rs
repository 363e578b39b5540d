//! Listening sockets: bound, or handed over by whoever started this process with them open.
//!
//! Three ways to be handed over: by systemd's protocol (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`), and from a supervisor, which
//! says the numbers on the command line, for it cannot know the process id that the protocol asks for;
//! and from a running server whose place this one takes (`handover`).

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::str::FromStr;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::app::handover::Predecessor;
use crate::app::{AppError, Config};
use crate::config::BACKLOG;

/// The first of the sockets that systemd hands over.
const LISTEN_FDS_START: RawFd = 3;

/// The sockets of a server, listening: who connects waits in the kernel until somebody accepts.
#[derive(Debug)]
pub struct Sockets {
    pub(super) scoring: Bound,
    pub(super) admin: Bound,
    /// They were open before this process began, and may be so after it: clients and commands of a server before may wait there.
    pub(super) outlive: bool,
    /// Whether a supervisor holds them.
    pub(super) supervised: bool,
    /// The running server that has handed them over.
    pub(super) predecessor: Option<Predecessor>,
}

/// A socket and its address, in which port 0 has become a real one.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// Sockets of a supervisor, as it says them on the command line of the process that is to serve: `PID:FD:FD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// The process that holds them open.
    pub supervisor: u32,
    scoring: RawFd,
    admin: RawFd,
}

impl Sockets {
    /// Takes the sockets that systemd has handed over, and binds what it has not.
    ///
    /// To be called before the process opens anything.
    ///
    /// # Errors
    ///
    /// [`AppError::Bind`] names the address and the flag that changes it; [`AppError::HandedOver`] what was handed over instead.
    pub fn open(config: &Config) -> Result<Self, AppError> {
        let (scoring, admin) = match named_by_systemd() {
            Some(numbers) => numbers?,
            None => (None, None),
        };
        let outlive = scoring.is_some() || admin.is_some();
        let taken = |number: Option<RawFd>| number.map(take).transpose();
        let (scoring, admin) = (taken(scoring)?, taken(admin)?);
        let or_bound = |taken: Option<Bound>, address, flag| match taken {
            Some(taken) => Ok(taken),
            None => Bound::new(address, flag),
        };
        Ok(Self {
            scoring: or_bound(scoring, config.scoring_address, "--port")?,
            admin: or_bound(admin, config.admin_address, "--admin-port")?,
            outlive,
            supervised: false,
            predecessor: None,
        })
    }

    /// Takes the sockets of a supervisor. To be called before the process opens anything.
    ///
    /// # Errors
    ///
    /// [`AppError::HandedOver`] when they are something else.
    pub fn take(from: HandedOver) -> Result<Self, AppError> {
        Ok(Self {
            scoring: take(from.scoring)?,
            admin: take(from.admin)?,
            outlive: true,
            supervised: true,
            predecessor: None,
        })
    }

    /// Takes the sockets of the server that runs on a data folder, whose place this process then takes; none where none runs. Blocks.
    ///
    /// # Errors
    ///
    /// [`AppError::NotReplaced`] in the words of that server.
    pub fn of_running(data: &Path) -> Result<Option<Self>, AppError> {
        let Some((predecessor, sockets)) = Predecessor::ask(data)? else {
            return Ok(None);
        };
        let [scoring, admin] = sockets.map(adopt);
        Ok(Some(Self {
            scoring: scoring?,
            admin: admin?,
            outlive: true,
            supervised: false,
            predecessor: Some(predecessor),
        }))
    }

    /// Lets processes that this one starts from now on have them too.
    pub(super) fn hand_over(&self) -> io::Result<HandedOver> {
        for one in [&self.scoring, &self.admin] {
            fcntl_setfd(&one.listener, FdFlags::empty())?;
        }
        Ok(HandedOver {
            supervisor: std::process::id(),
            scoring: self.scoring.listener.as_raw_fd(),
            admin: self.admin.listener.as_raw_fd(),
        })
    }
}

impl Bound {
    /// Binds an address now, so that a busy port is known before anything else starts.
    pub(super) fn new(address: SocketAddr, flag: &'static str) -> Result<Self, AppError> {
        let refused = |source| AppError::Bind {
            address,
            flag,
            source,
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        Self::listening(listener).map_err(refused)
    }

    fn listening(listener: TcpListener) -> io::Result<Self> {
        // The standard library's backlog is 128; a thousand clients that connect at once would wait for a second SYN.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }
}

/// Takes a socket by its number.
fn take(number: RawFd) -> Result<Bound, AppError> {
    let wrong = |problem: String| AppError::HandedOver { number, problem };
    if number < LISTEN_FDS_START || !is_open(number) {
        return Err(wrong("it is not open".to_owned()));
    }
    #[expect(unsafe_code, reason = "a number says nothing of who owns it")]
    // SAFETY: it is open, and this process has opened nothing itself yet but the standard streams, so whoever started it left it
    // open for this.
    adopt(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Listens on a socket of another process.
fn adopt(socket: OwnedFd) -> Result<Bound, AppError> {
    let number = socket.as_raw_fd();
    let wrong = |problem: String| AppError::HandedOver { number, problem };
    // Processes that this one starts are not to hold it.
    let closes = fcntl_setfd(&socket, FdFlags::CLOEXEC);
    closes.map_err(|error| wrong(error.to_string()))?;
    if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return Err(wrong("it does not listen".to_owned()));
    }
    Bound::listening(TcpListener::from(socket)).map_err(|error| wrong(error.to_string()))
}

fn is_open(number: RawFd) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()
}

/// The numbers of the scoring and the admin socket, where systemd has handed any to this very process.
type Numbers = (Option<RawFd>, Option<RawFd>);

fn named_by_systemd() -> Option<Result<Numbers, AppError>> {
    let variable = |name: &str| env::var(name).ok();
    let (pid, count) = (variable("LISTEN_PID")?, variable("LISTEN_FDS")?);
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    if pid.parse() != Ok(std::process::id()) {
        return None;
    }
    Some(assign(&count, &names))
}

/// Who gets which socket: by its name, else the first is for scoring and the second for administration.
fn assign(count: &str, names: &str) -> Result<Numbers, AppError> {
    let wrong = |number, problem: String| AppError::HandedOver { number, problem };
    let Ok(count @ 1..=2) = count.parse::<RawFd>() else {
        let problem = format!("expected one or two sockets, LISTEN_FDS says {count:?}");
        return Err(wrong(LISTEN_FDS_START, problem));
    };
    let mut names = names.split(':');
    let (mut scoring, mut admin) = (None, None);
    for number in LISTEN_FDS_START..LISTEN_FDS_START + count {
        let place = match names.next() {
            Some("scoring") => &mut scoring,
            Some("admin") => &mut admin,
            _ if scoring.is_none() => &mut scoring,
            _ => &mut admin,
        };
        if place.replace(number).is_some() {
            return Err(wrong(number, "another one has the same name".to_owned()));
        }
    }
    Ok((scoring, admin))
}

impl fmt::Display for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.supervisor, self.scoring, self.admin)
    }
}

impl FromStr for HandedOver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        let numbers = numbers.unwrap_or_default();
        let wrong = || format!("expected PID:FD:FD, found {text:?}");
        let [supervisor, scoring, admin] = numbers[..] else {
            return Err(wrong());
        };
        let socket = |number| RawFd::try_from(number).map_err(|_| wrong());
        Ok(Self {
            supervisor,
            scoring: socket(scoring)?,
            admin: socket(admin)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(address: SocketAddr) -> Result<Bound, AppError> {
        Bound::new(address, "--port")
    }

    #[test]
    fn a_busy_port_is_named_with_the_flag_that_changes_it() {
        let address = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = (address.address, address.listener);
        assert_eq!(
            bind(address.0).unwrap_err().to_string(),
            format!(
                "cannot listen on {}: Address already in use (os error 98); choose another address with --port",
                address.0
            )
        );
    }

    #[test]
    fn sockets_go_by_their_names_else_by_their_order() {
        for (count, names, expected) in [
            ("1", "", (Some(3), None)),
            ("2", "", (Some(3), Some(4))),
            ("2", "admin:scoring", (Some(4), Some(3))),
            ("1", "admin", (None, Some(3))),
            ("2", "serin.socket:serin.socket", (Some(3), Some(4))),
            ("2", "admin:web", (Some(4), Some(3))),
        ] {
            assert_eq!(assign(count, names).unwrap(), expected, "{count} {names}");
        }
    }

    #[test]
    fn sockets_that_do_not_fit_are_refused_in_words() {
        for (count, names, problem) in [
            (
                "3",
                "",
                "expected one or two sockets, LISTEN_FDS says \"3\"",
            ),
            (
                "0",
                "",
                "expected one or two sockets, LISTEN_FDS says \"0\"",
            ),
            ("-1", "", "expected one or two sockets"),
            ("two", "", "expected one or two sockets"),
            ("2", "scoring:scoring", "another one has the same name"),
        ] {
            let error = assign(count, names).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_number_that_is_no_listening_socket_is_refused() {
        for number in [0, 1, -1, 1_000_000] {
            let error = take(number).unwrap_err().to_string();
            assert!(error.contains("it is not open"), "{error}");
        }
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        for handed in [OwnedFd::from(one), OwnedFd::from(file)] {
            // From here on it is the callee's.
            let number = std::os::fd::IntoRawFd::into_raw_fd(handed);
            let error = take(number).unwrap_err().to_string();
            assert!(error.contains("it does not listen"), "{error}");
        }
    }

    #[test]
    fn what_a_supervisor_says_is_read_back() {
        let handed: HandedOver = "12:7:8".parse().unwrap();
        assert_eq!(
            (handed.supervisor, handed.to_string().as_str()),
            (12, "12:7:8")
        );
        for text in [
            "",
            "1",
            "1:2",
            "1:2:3:4",
            "1:2:x",
            "1:2:-3",
            "1:2:4294967295",
        ] {
            assert!(text.parse::<HandedOver>().is_err(), "{text}");
        }
    }
}
