//! Instants of the journal and of operations. The library without the server keeps none, and needs no calendar.

#[cfg(feature = "server")]
pub(crate) use jiff::Timestamp;
#[cfg(not(feature = "server"))]
pub(crate) type Timestamp = std::time::SystemTime;
