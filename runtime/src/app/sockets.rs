//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::app::AppError;
use crate::config::BACKLOG;

/// Binds an address now, so that a busy port is known before anything else starts.
///
/// # Errors
///
/// [`AppError::Bind`].
pub(super) fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, AppError> {
    let listener = || {
        let listener = TcpListener::bind(address)?;
        // The standard library's backlog is 128; a thousand clients that connect at once would wait for a second SYN.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    listener().map_err(|source| AppError::Bind {
        address,
        flag,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_the_flag_that_changes_it() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "--port").unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(
            bind(address, "--port").unwrap_err().to_string(),
            format!(
                "cannot listen on {address}: Address already in use (os error 98); choose another address with --port"
            )
        );
    }
}
