//! Protocols to clients.
