//! The reasons why a credential does not open an endpoint. Pure.

/// The reason why a credential does not open an endpoint. Never says which part matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// No `Authorization: Bearer ...` came with the request.
    #[error("no credential: send `Authorization: Bearer <key or token>`")]
    Missing,
    /// It is no key, or no token, of this endpoint.
    #[error("the credential is not valid for this endpoint")]
    Invalid,
    /// The token was good until then.
    #[error("the token expired at {}: ask for a new one", moment(*.expired_unix_s))]
    Expired {
        /// Seconds since the Unix epoch.
        expired_unix_s: i64,
    },
    /// The token was made by a clock that is ahead of this one, or for longer than tokens live.
    #[error(
        "the token is not good yet: by the clock of this machine it was issued in the future, or for longer than tokens live here; \
         set the clocks right, then ask for a new one"
    )]
    FromTheFuture,
}

fn moment(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s)
        .map_or_else(|_| format!("second {unix_s}"), |moment| moment.to_string())
}
