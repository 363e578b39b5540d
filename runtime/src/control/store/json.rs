//! Values as the text that stands in the database.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::store::error::StoreError;

pub(super) fn write(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Unreadable { what, source })
}

pub(super) fn read<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Unreadable { what, source })
}
