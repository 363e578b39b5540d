//! The registry: which names and versions there are, and what each is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::models::{ModelDigest, ModelStoreError};
use crate::control::timestamp::Timestamp;
use crate::spec::{ModelAbout, ModelName, ModelVersion};

/// One registered version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name, the same for all versions.
    pub name: ModelName,
    /// Version, immutable once registered.
    pub version: ModelVersion,
    /// Content of the version.
    pub digest: ModelDigest,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// Where it was copied from.
    pub path: PathBuf,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Who registered it.
    pub created_by: String,
    /// Its first few files, where none of them is an ONNX file; nothing where one is, as in all versions of earlier servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_onnx: Option<Vec<String>>,
    /// Whether it was copied from a folder; not known of versions of earlier servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_folder: Option<bool>,
    /// What people say of it, which may change.
    #[serde(default, skip_serializing_if = "ModelAbout::is_empty")]
    pub about: ModelAbout,
}

impl ModelRecord {
    /// `name:version`, as people refer to it.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    /// Refuses a model that only a script can run. Asks no disk.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::NoOnnxFile`], naming what it has.
    pub fn require_onnx(&self) -> Result<(), ModelStoreError> {
        match &self.without_onnx {
            None => Ok(()),
            Some(found) => Err(ModelStoreError::NoOnnxFile {
                model: self.reference(),
                found: found.clone(),
            }),
        }
    }
}

/// All registered versions, in the order of registration.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Models {
    records: Vec<ModelRecord>,
}

impl Models {
    pub(in crate::control) fn new(records: Vec<ModelRecord>) -> Self {
        Self { records }
    }

    pub(in crate::control) fn records(&self) -> &[ModelRecord] {
        &self.records
    }

    /// The version of that name; without a version the latest.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::Unknown`], naming what exists.
    pub(in crate::control) fn find(
        &self,
        name: &ModelName,
        version: Option<&ModelVersion>,
    ) -> Result<&ModelRecord, ModelStoreError> {
        let found = match version {
            Some(version) => self.versions(name).find(|one| one.version == *version),
            None => self.latest(name),
        };
        found.ok_or_else(|| ModelStoreError::Unknown(self.missing(name, version)))
    }

    fn versions<'a>(&'a self, name: &ModelName) -> impl Iterator<Item = &'a ModelRecord> {
        self.records.iter().filter(move |one| one.name == *name)
    }

    /// The highest whole number among the versions; where none is a number, the one registered last.
    fn latest(&self, name: &ModelName) -> Option<&ModelRecord> {
        self.versions(name)
            .filter_map(|one| Some((number(&one.version)?, one)))
            .max_by_key(|(number, _)| *number)
            .map(|(_, one)| one)
            .or_else(|| self.versions(name).last())
    }

    /// The version that a registration without one gets.
    pub(in crate::control) fn next_version(&self, name: &ModelName) -> ModelVersion {
        let highest = self
            .versions(name)
            .filter_map(|one| number(&one.version))
            .max()
            .unwrap_or(0);
        highest
            .saturating_add(1)
            .to_string()
            .parse()
            .expect("digits are a version")
    }

    fn missing(&self, name: &ModelName, version: Option<&ModelVersion>) -> String {
        let versions: Vec<_> = self
            .versions(name)
            .map(|one| one.version.as_str())
            .collect();
        if let Some(version) = version
            && !versions.is_empty()
        {
            return format!(
                "model {name} has no version {version:?}; it has {}",
                versions.join(", "),
                version = version.as_str()
            );
        }
        let mut near: Vec<_> = self.records.iter().map(|one| one.name.as_str()).collect();
        near.sort_by_cached_key(|other| strsim::damerau_levenshtein(other, name.as_str()));
        near.dedup();
        near.truncate(5);
        match near.as_slice() {
            [] => format!(
                "no model {:?}: none is registered; `serin model create` registers one",
                name.as_str()
            ),
            near => format!(
                "no model {:?}; registered are {}",
                name.as_str(),
                near.join(", ")
            ),
        }
    }

    /// Adds a record whose version is new. The same content again is fine and changes nothing: then the known record comes back.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError::OtherContent`] when the version exists with other bytes.
    pub(in crate::control) fn check(
        &self,
        name: &ModelName,
        version: &ModelVersion,
        digest: &ModelDigest,
    ) -> Result<Option<&ModelRecord>, ModelStoreError> {
        match self.versions(name).find(|one| one.version == *version) {
            Some(known) if known.digest != *digest => Err(ModelStoreError::OtherContent {
                name: name.clone(),
                version: version.clone(),
                registered: known.digest.clone(),
                found: digest.clone(),
            }),
            known => Ok(known),
        }
    }

    /// Says something else of a version.
    pub(in crate::control) fn describe(&mut self, described: &ModelRecord) {
        let same =
            |one: &&mut ModelRecord| one.name == described.name && one.version == described.version;
        if let Some(known) = self.records.iter_mut().find(same) {
            known.about = described.about.clone();
        }
    }

    pub(in crate::control) fn insert(&mut self, record: ModelRecord) {
        self.records.push(record);
    }

    pub(in crate::control) fn remove(&mut self, name: &ModelName, version: &ModelVersion) {
        self.records
            .retain(|one| one.name != *name || one.version != *version);
    }
}

fn number(version: &ModelVersion) -> Option<u64> {
    version.as_str().parse().ok()
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use super::*;

    fn record(version: &str, content: &str) -> ModelRecord {
        ModelRecord {
            name: "digits".parse().expect("a name"),
            version: version.parse().expect("a version"),
            digest: ModelDigest::for_test(content),
            size_bytes: 1,
            path: PathBuf::from("/m"),
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "me".to_owned(),
            without_onnx: None,
            is_folder: None,
            about: ModelAbout::default(),
        }
    }

    #[test]
    fn a_version_never_changes_its_content() {
        let models = Models::new(vec![record("1", "a")]);
        let known = record("1", "a");
        assert_eq!(
            models
                .check(&known.name, &known.version, &known.digest)
                .expect("fine"),
            Some(&known)
        );
        let other = models
            .check(&known.name, &known.version, &ModelDigest::for_test("b"))
            .expect_err("refused");
        assert_eq!(
            other.to_string(),
            "model digits:1 is registered with other content (sha256:a, not sha256:b); a version never changes: choose another \
             version"
        );
    }

    #[test]
    fn the_latest_version_is_the_highest_number_else_the_last_registered() {
        let name = "digits".parse().expect("a name");
        let latest = |versions: &[&str]| {
            let models = Models::new(
                versions
                    .iter()
                    .map(|version| record(version, "a"))
                    .collect(),
            );
            let latest = models
                .find(&name, None)
                .expect("found")
                .version
                .as_str()
                .to_owned();
            (latest, models.next_version(&name).as_str().to_owned())
        };
        assert_eq!(
            latest(&["9", "10", "2"]),
            ("10".to_owned(), "11".to_owned())
        );
        assert_eq!(
            latest(&["beta", "alpha"]),
            ("alpha".to_owned(), "1".to_owned())
        );
        assert_eq!(
            latest(&["beta", "3", "rc"]),
            ("3".to_owned(), "4".to_owned())
        );
    }

    #[test]
    fn a_missing_model_is_answered_with_what_is_near() {
        let models = Models::new(vec![record("1", "a"), record("2", "b")]);
        let message = |name: &str, version: &str| {
            let version = version.parse().expect("a version");
            models
                .find(&name.parse().expect("a name"), Some(&version))
                .expect_err("missing")
                .to_string()
        };
        assert_eq!(
            message("digits", "3"),
            "model digits has no version \"3\"; it has 1, 2"
        );
        assert_eq!(
            message("digit", "1"),
            "no model \"digit\"; registered are digits"
        );
    }

    #[test]
    fn a_model_without_onnx_says_what_it_has_and_one_of_an_earlier_server_is_onnx() {
        let known = serde_json::json!({
            "name": "digits", "version": "1", "digest": "ab", "size_bytes": 1, "path": "/m",
            "created_at": "2026-01-01T00:00:00Z", "created_by": "me",
        });
        let mut record: ModelRecord = serde_json::from_value(known.clone()).expect("it reads");
        record.require_onnx().expect("it has one");
        assert_eq!(serde_json::to_value(&record).expect("written"), known);
        record.without_onnx = Some(vec!["model.pkl".to_owned(), "vocabulary.txt".to_owned()]);
        assert_eq!(
            record.require_onnx().expect_err("refused").to_string(),
            "model digits:1 holds no ONNX file (it has model.pkl, vocabulary.txt): a native deployment needs `model.onnx`, or exactly \
             one `.onnx` file, at its top"
        );
    }
}
