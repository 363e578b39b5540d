//! The controller's part in models: registering, deleting and collecting them.
//!
//! Copies run on threads of their own and come back as mail. As long as one is under way no files are deleted, for it may be
//! of the same content.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::task::spawn_blocking;

use crate::control::books::NeedBook;
use crate::control::build::Need;
use crate::control::controller::Controller;
use crate::control::gathering::{Gathered, gather};
use crate::control::mailbox::{Mail, ModelDescription, Registration, Request};
use crate::control::models::{Ingested, ModelDigest, ModelFiles, ModelRecord, ModelStoreError};
use crate::control::needs::Needs;
use crate::control::refusal::{ChangeError, ErrorKind};
use crate::control::store::NewEntry;
use crate::engine::run_in_background_if;
use crate::spec::{ModelAbout, ModelName, ModelVersion};

/// Copies a model in; in the background where others serve, for a large one is hashed for a while.
fn ingest(
    files: &ModelFiles,
    source: &Path,
    background: bool,
) -> Result<Ingested, ModelStoreError> {
    let (files, source) = (files.clone(), source.to_owned());
    run_in_background_if(background, move || files.ingest(&source))
}

impl Controller {
    /// Gathers the files that a change names, off the loop.
    pub(super) fn gather(&mut self, request: Request, needs: Needs) {
        self.registry.under_way += 1;
        let (files, mail) = (self.registry.files.clone(), self.mail.clone());
        let background = self.books.serves();
        spawn_blocking(move || {
            let gathered = run_in_background_if(background, move || gather(&files, &needs));
            drop(mail.send(Mail::Gathered(request, gathered)));
        });
    }

    pub(super) async fn gathered(
        &mut self,
        mut request: Request,
        gathered: Result<Gathered, ModelStoreError>,
    ) {
        self.registry.under_way -= 1;
        match gathered {
            Ok(gathered) => {
                request.gathered.extend(gathered);
                self.change(request).await;
            }
            Err(error) => {
                let refusal = match error.kind() {
                    ErrorKind::Storage => ChangeError::Storage(error.to_string()),
                    _ => ChangeError::Invalid(vec![format!("model: {error}")]),
                };
                request.asker.refuse(refusal);
                self.collect_models();
            }
        }
    }

    pub(super) fn register(&mut self, registration: Registration) {
        self.registry.under_way += 1;
        let (files, mail) = (self.registry.files.clone(), self.mail.clone());
        let background = self.books.serves();
        spawn_blocking(move || {
            let ingested = ingest(&files, &registration.source, background);
            drop(mail.send(Mail::Registered(registration, ingested)));
        });
    }

    pub(super) async fn registered(
        &mut self,
        registration: Registration,
        ingested: Result<Ingested, ModelStoreError>,
    ) {
        self.registry.under_way -= 1;
        let outcome = match ingested {
            Ok(ingested) => self.record_model(&registration, ingested).await,
            Err(error) => Err(error),
        };
        drop(registration.reply.send(outcome));
        self.collect_models();
    }

    async fn record_model(
        &mut self,
        registration: &Registration,
        ingested: Ingested,
    ) -> Result<ModelRecord, ModelStoreError> {
        let models = &self.registry.models;
        let name = registration.name.clone();
        let version = registration
            .version
            .clone()
            .unwrap_or_else(|| models.next_version(&name));
        if let Some(known) = models.check(&name, &version, &ingested.digest)? {
            return Ok(known.clone());
        }
        let record = ModelRecord {
            name,
            version,
            digest: ingested.digest,
            size_bytes: ingested.size_bytes,
            path: registration.source.clone(),
            created_at: jiff::Timestamp::now(),
            created_by: registration.by.clone(),
            without_onnx: ingested.without_onnx,
            is_folder: ingested.is_folder,
            about: ModelAbout::default(),
        };
        let entry = model_entry("register_model", &record, &registration.by);
        let row = record.clone();
        self.store
            .run(move |store| store.insert_model(&row, &entry))
            .await?;
        self.registry.models.insert(record.clone());
        self.show_models();
        Ok(record)
    }

    pub(super) async fn describe_model(
        &mut self,
        description: ModelDescription,
    ) -> Result<ModelRecord, ModelStoreError> {
        let ModelDescription {
            name,
            version,
            about,
            by,
        } = description;
        let known = self.registry.models.find(&name, Some(&version))?;
        if known.about == about {
            return Ok(known.clone());
        }
        let described = ModelRecord {
            about,
            ..known.clone()
        };
        let entry = model_entry("describe_model", &described, &by);
        let row = described.clone();
        self.store
            .run(move |store| store.update_model(&row, &entry))
            .await?;
        self.registry.models.describe(&described);
        self.show_models();
        Ok(described)
    }

    pub(super) async fn delete_model(
        &mut self,
        name: &ModelName,
        version: &ModelVersion,
        by: String,
    ) -> Result<(), ModelStoreError> {
        let record = self.registry.models.find(name, Some(version))?.clone();
        let users = self.books.desired.users(&record);
        if !users.is_empty() {
            return Err(ModelStoreError::InUse {
                reference: record.reference(),
                users,
            });
        }
        let entry = model_entry("delete_model", &record, &by);
        let row = record.clone();
        self.store
            .run(move |store| store.delete_model(&row, &entry))
            .await?;
        self.registry.models.remove(name, version);
        self.show_models();
        self.collect_models();
        Ok(())
    }

    /// Deletes the files that nothing refers to: of models given by path that were replaced, of changes that were refused, of
    /// versions that were deleted.
    ///
    /// Only while nothing is being copied in; a copy that begins later puts its content in place again, for what goes leaves
    /// its place here, before the loop takes other mail.
    pub(super) fn collect_models(&self) {
        if self.registry.under_way > 0 || self.books.stopping || self.lent.is_some() {
            return;
        }
        let files = &self.registry.files;
        let unreferenced = match files.stored() {
            Ok(stored) => ModelFiles::unreferenced(stored, &self.models_in_use()),
            Err(error) => {
                tracing::warn!(%error, "models that nothing refers to stay");
                return;
            }
        };
        for model in unreferenced {
            match files.set_aside(&model) {
                Ok(Some(leaving)) => {
                    spawn_blocking(move || {
                        if let Err(error) = leaving.delete() {
                            tracing::warn!(%error, "files of a model stay until the next start");
                        }
                    });
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, %model, "files of a model stay"),
            }
        }
    }

    /// Says which registered models are not there, or not with all their bytes; what the bytes are is looked at before one is loaded.
    pub(super) fn tell_missing_models(&self) {
        let files = self.registry.files.clone();
        let records = self.registry.models.records().to_vec();
        spawn_blocking(move || {
            for record in records {
                let found = files.size_bytes(&record.digest);
                if found != record.size_bytes {
                    tracing::error!(
                        model = record.reference(),
                        expected_bytes = record.size_bytes,
                        found_bytes = found,
                        "the files of a registered model are damaged or gone: register it again, or put a backup back (`serin restore`)"
                    );
                }
            }
        });
    }

    /// The content that versions, deployments, instances and tries refer to.
    fn models_in_use(&self) -> BTreeSet<ModelDigest> {
        let records = self.registry.models.records().iter();
        let instances = self.books.instances.values();
        let tried = self.books.needs.iter();
        let tried = tried.filter(|(_, book)| matches!(book, NeedBook::Trying { .. }));
        let tried = tried.filter_map(|(need, _)| match need {
            Need::Model(model) => Some(model),
            Need::Environment(_) => None,
        });
        let mut used: BTreeSet<_> = records.map(|record| record.digest.clone()).collect();
        for one in instances {
            used.insert(one.build.model.clone());
            let script = one.build.script.as_ref();
            used.extend(script.map(|script| script.script.code.clone()));
        }
        used.extend(tried.cloned());
        used.extend(self.books.desired.models().cloned());
        used
    }

    fn show_models(&self) {
        let records = self.registry.models.records().to_vec();
        self.bulletin.models.store(records.into());
    }
}

fn model_entry(kind: &str, record: &ModelRecord, by: &str) -> NewEntry {
    let change = serde_json::json!({ "kind": kind, "model": record });
    NewEntry {
        revision: None,
        by: by.to_owned(),
        change,
        why: None,
    }
}
