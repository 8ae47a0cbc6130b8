//! Reading and writing objects, with Kubernetes' meaning, over the store's compare-and-swap.
//!
//! Each write: read the stored object, make the new one, check it as a whole (every problem is
//! answered, nothing is stored), commit expecting the revision that was read. A writer that named
//! its revision gets a 409 when somebody was faster; one that did not is tried again on top of the
//! newer object, so that of two concurrent changes none is lost.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};
use weft_model::{DEFAULT_NAMESPACE, Kind, Problem};
use weft_store::{CommitError, Expect, Key, Revision, Store, Stored, Transaction, Write};

use super::computed;
use super::managed;
use super::patch;
use super::stamp;
use super::status::{Status, sentence};
use super::target::{Part, Target};
use crate::clock;

/// How often a write without a revision is tried on top of a newer object.
const TRIES_MAX: usize = 16;

/// What a client wants of unknown fields; Kubernetes' `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions<'a> {
    pub(crate) dry_run: bool,
    pub(crate) fields: FieldValidation,
    /// Who writes, for the ownership of fields.
    pub(crate) manager: &'a str,
    /// Take fields over that another manager owns.
    pub(crate) force: bool,
}

/// A change as the client described it.
pub(crate) enum Patch {
    Merge(Value),
    Strategic(Value),
    Operations(Value),
    /// Server-side apply: what its manager wants to be there, and no more.
    Apply(Value),
}

/// What a write did.
pub(crate) struct Written {
    pub(crate) code: StatusCode,
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
    /// The store's revision, when something was stored.
    pub(crate) revision: Option<Revision>,
    /// The name, which the server may have made up.
    pub(crate) name: String,
}

/// The wish of a delete: only if it is still this one.
#[derive(Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// The objects in the store, spoken to as Kubernetes' API speaks.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn Store>,
    /// The CA's; no Mesh may say another one.
    pub(crate) trust_domain: String,
}

impl Objects {
    pub(crate) async fn get(&self, target: &Target) -> Result<Value, Status> {
        let stored = self.stored(target).await?;
        show(&stored, target)
    }

    /// All objects of a collection and the revision at which that was so.
    pub(crate) async fn list(&self, target: &Target) -> Result<(Vec<Stored>, Revision), Status> {
        self.store.list(&target.selector()).await.map_err(|error| Status::store(&error))
    }

    /// A stored object as the client asked for it.
    pub(crate) fn show(&self, stored: &Stored, target: &Target) -> Result<Value, Status> {
        show(stored, target)
    }

    pub(crate) async fn create(
        &self,
        target: &Target,
        mut body: Value,
        options: WriteOptions<'_>,
    ) -> Result<Written, Status> {
        let name = admit_identity(target, &mut body)?;
        let target = target.named(&name);
        if body["metadata"].get("resourceVersion").is_some_and(|version| !version.is_null() && version != "")
        {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if super::target::has_status(target.info)
            && let Some(fields) = body.as_object_mut()
        {
            fields.remove("status");
        }
        stamp::newborn(&mut body, SystemTime::now());
        self.create_stamped(&target, body, options).await
    }

    async fn create_stamped(
        &self,
        target: &Target,
        mut body: Value,
        options: WriteOptions<'_>,
    ) -> Result<Written, Status> {
        let name = target.name().to_owned();
        stamp::normalize(&mut body, target.info);
        let warnings = check(target, &body, options.fields)?;
        self.check_trust_domain(target, &body)?;
        for _ in 0..TRIES_MAX {
            let mut transaction = Transaction::create(target.key(), body.to_string().into_bytes());
            self.expect_namespace(target, &mut transaction).await?;
            if options.dry_run {
                if self.find(target).await?.is_some() {
                    return Err(Status::already_exists(target.info, &name));
                }
                return Ok(written(StatusCode::CREATED, target, body, warnings, None));
            }
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    return Ok(written(StatusCode::CREATED, target, body, warnings, Some(revision)));
                }
                Err(CommitError::Conflict { key, .. }) if key == target.key() => {
                    return Err(Status::already_exists(target.info, &name));
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(Status::commit(&error)),
            }
        }
        Err(Status::conflict(target.info, &name, "its namespace keeps changing; try again"))
    }

    pub(crate) async fn replace(
        &self,
        target: &Target,
        mut body: Value,
        options: WriteOptions<'_>,
    ) -> Result<Written, Status> {
        admit_identity(target, &mut body)?;
        self.change(target, options, |_| Ok(body.clone())).await
    }

    pub(crate) async fn patch(
        &self,
        target: &Target,
        patch: &Patch,
        options: WriteOptions<'_>,
    ) -> Result<Written, Status> {
        if let Patch::Apply(wanted) = patch {
            return self.apply(target, wanted.clone(), options).await;
        }
        self.change(target, options, |current| {
            let mut object = current.clone();
            match patch {
                Patch::Apply(_) => {}
                Patch::Merge(changes) => patch::merge(&mut object, changes),
                Patch::Strategic(changes) => {
                    patch::strategic(&mut object, changes).map_err(Status::bad_request)?;
                }
                Patch::Operations(operations) => {
                    object = patch::json_patch(&object, operations).map_err(|why| {
                        Status::invalid(target.info, target.name(), &[&patch_problem(target, why)])
                    })?;
                }
            }
            // A patch without a revision applies to whatever is there.
            let named = match patch {
                Patch::Merge(changes) | Patch::Strategic(changes) => {
                    changes["metadata"].get("resourceVersion").is_some()
                }
                Patch::Operations(_) | Patch::Apply(_) => {
                    object["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]
                }
            };
            if !named {
                stamp::metadata(&mut object).remove("resourceVersion");
            }
            let same = |field: &str| object["metadata"].get(field) == current["metadata"].get(field);
            if !same("name") || !same("namespace") || object["kind"] != current["kind"] {
                return Err(Status::bad_request("a patch cannot change an object's kind, name or namespace"));
            }
            object["apiVersion"] = current["apiVersion"].clone();
            Ok(object)
        })
        .await
    }

    /// Server-side apply: the object is made when it isn't there.
    async fn apply(
        &self,
        target: &Target,
        mut wanted: Value,
        options: WriteOptions<'_>,
    ) -> Result<Written, Status> {
        admit_identity(target, &mut wanted)?;
        if !wanted["metadata"]["managedFields"].as_array().is_none_or(Vec::is_empty) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        let revision = wanted["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        // What only the server writes is not the applier's to own.
        stamp::normalize(&mut wanted, target.info);
        let now = clock::rfc3339(SystemTime::now());
        let half = half(target);
        let apply = managed::Apply {
            manager: options.manager,
            wanted: &wanted,
            force: options.force,
            half,
            now: &now,
        };
        let refused = |conflicts: Vec<managed::Conflict>| {
            Status::apply_conflicts(target.info, target.name(), &conflicts)
        };
        for _ in 0..TRIES_MAX {
            if self.find(target).await?.is_none() {
                if target.part == Part::Status {
                    return Err(Status::not_found(target.info, target.name()));
                }
                if revision.is_some() {
                    return Err(Status::modified(target.info, target.name()));
                }
                let mut object = managed::apply(None, &apply).map_err(refused)?;
                let owners = object["metadata"]["managedFields"].clone();
                stamp::metadata(&mut object).insert("name".into(), target.name().into());
                if target.info.namespaced {
                    stamp::metadata(&mut object).insert("namespace".into(), target.namespace.as_str().into());
                }
                stamp::newborn(&mut object, SystemTime::now());
                if owners.is_array() {
                    stamp::metadata(&mut object).insert("managedFields".into(), owners);
                }
                match self.create_stamped(target, object, options).await {
                    Err(status) if status.reason == "AlreadyExists" => continue,
                    other => return other,
                }
            }
            let changed = self.change_as(target, options, true, |current| {
                let mut object = managed::apply(Some(current), &apply).map_err(refused)?;
                match &revision {
                    Some(revision) => {
                        stamp::metadata(&mut object)
                            .insert("resourceVersion".into(), revision.as_str().into());
                    }
                    None => drop(stamp::metadata(&mut object).remove("resourceVersion")),
                }
                Ok(object)
            });
            match changed.await {
                Err(status) if status.code == StatusCode::NOT_FOUND && revision.is_none() => {}
                other => return other,
            }
        }
        Err(Status::modified(target.info, target.name()))
    }

    async fn change(
        &self,
        target: &Target,
        options: WriteOptions<'_>,
        next: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<Written, Status> {
        self.change_as(target, options, false, next).await
    }

    /// Read, make the new object, check, compare-and-swap; again when somebody was faster and the
    /// client did not say which revision it meant.
    async fn change_as(
        &self,
        target: &Target,
        options: WriteOptions<'_>,
        applied: bool,
        next: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<Written, Status> {
        for _ in 0..TRIES_MAX {
            let stored = self.stored(target).await?;
            let current = show(&stored, target)?;
            let mut object = next(&current)?;
            let wanted = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
            if !wanted.is_empty() && wanted != stored.modified.to_string() {
                return Err(Status::modified(target.info, target.name()));
            }
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            if !uid.is_empty() && current["metadata"]["uid"] != uid {
                return Err(Status::conflict(
                    target.info,
                    target.name(),
                    "the UID in the precondition is not that of the stored object",
                ));
            }
            computed::strip(&mut object, &current, target.info);
            keep_other_part(target, &mut object, &current);
            stamp::successor(&mut object, &current);
            stamp::normalize(&mut object, target.info);
            if !applied {
                let now = clock::rfc3339(SystemTime::now());
                managed::update(&current, &mut object, options.manager, half(target), &now);
            }
            let warnings = check(target, &object, options.fields)?;
            let gone = is_leaving(&object) && !has_finalizers(&object);
            if !gone {
                self.check_trust_domain(target, &object)?;
            }
            if !gone && without_revision(&current, target) == object {
                return Ok(Written {
                    code: StatusCode::OK,
                    name: target.name().to_owned(),
                    object: current,
                    warnings,
                    revision: None,
                });
            }
            if options.dry_run {
                return Ok(written(StatusCode::OK, target, object, warnings, None));
            }
            let transaction = if gone {
                Transaction::delete(target.key(), stored.modified)
            } else {
                Transaction::update(target.key(), stored.modified, object.to_string().into_bytes())
            };
            match self.store.commit(transaction).await {
                Ok(revision) => return Ok(written(StatusCode::OK, target, object, warnings, Some(revision))),
                Err(CommitError::Conflict { .. }) if wanted.is_empty() => {}
                Err(CommitError::Conflict { .. }) => {
                    return Err(Status::modified(target.info, target.name()));
                }
                Err(error) => return Err(Status::commit(&error)),
            }
        }
        Err(Status::modified(target.info, target.name()))
    }

    pub(crate) async fn delete(
        &self,
        target: &Target,
        preconditions: &Preconditions,
        dry_run: bool,
    ) -> Result<Written, Status> {
        if target.info.kind == Kind::Namespace && target.name() == DEFAULT_NAMESPACE {
            return Err(Status::forbidden(
                "namespaces \"default\" is forbidden: this namespace may not be deleted",
            ));
        }
        for _ in 0..TRIES_MAX {
            let stored = self.stored(target).await?;
            let mut object = show(&stored, target)?;
            let differs = |wanted: &Option<String>, field: &str| {
                wanted.as_ref().is_some_and(|wanted| object["metadata"][field] != wanted.as_str())
            };
            if differs(&preconditions.uid, "uid")
                || differs(&preconditions.resource_version, "resourceVersion")
            {
                return Err(Status::conflict(
                    target.info,
                    target.name(),
                    "the delete's precondition does not hold",
                ));
            }
            let mut transaction = if has_finalizers(&object) {
                // It goes when the last finalizer is removed, as in Kubernetes.
                if !is_leaving(&object) {
                    stamp::metadata(&mut object)
                        .insert("deletionTimestamp".into(), clock::rfc3339(SystemTime::now()).into());
                    stamp::metadata(&mut object).insert("deletionGracePeriodSeconds".into(), 0.into());
                }
                let kept = without_revision(&object, target);
                Transaction::update(target.key(), stored.modified, kept.to_string().into_bytes())
            } else {
                Transaction::delete(target.key(), stored.modified)
            };
            if target.info.kind == Kind::Namespace {
                self.add_contents(target.name(), &mut transaction).await?;
            }
            if dry_run {
                return Ok(written(StatusCode::OK, target, object, Vec::new(), None));
            }
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    return Ok(written(StatusCode::OK, target, object, Vec::new(), Some(revision)));
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(Status::commit(&error)),
            }
        }
        Err(Status::modified(target.info, target.name()))
    }

    /// A namespace goes with all that is in it, in one transaction.
    async fn add_contents(&self, namespace: &str, transaction: &mut Transaction) -> Result<(), Status> {
        let inside = weft_store::Selector { namespace: Some(namespace.to_owned()), ..Default::default() };
        let (contents, _) = self.store.list(&inside).await.map_err(|error| Status::store(&error))?;
        // Keys that are no objects (the control plane's own notes) stay.
        let is_object = |key: &Key| Kind::find(&key.group, &key.kind).is_some();
        for stored in contents.into_iter().filter(|stored| is_object(&stored.key)) {
            transaction.expect.push(Expect::At(stored.key.clone(), stored.modified));
            transaction.writes.push(Write::Delete(stored.key));
        }
        Ok(())
    }

    /// Every identity and the CA itself carry the name of the first start.
    fn check_trust_domain(&self, target: &Target, object: &Value) -> Result<(), Status> {
        match object["spec"]["trustDomain"].as_str() {
            Some(said) if target.info.kind == Kind::Mesh && said != self.trust_domain => {
                let message = format!(
                    "the trust domain is fixed by the first start: it is {:?} and can't become {said:?}; leave the field out, or start a new mesh with an empty state directory",
                    self.trust_domain
                );
                Err(Status::invalid(
                    target.info,
                    target.name(),
                    &[&problem(target, "spec.trustDomain", message)],
                ))
            }
            _ => Ok(()),
        }
    }

    /// A new object needs its namespace, at the commit too; `default` comes into being by itself.
    async fn expect_namespace(&self, target: &Target, transaction: &mut Transaction) -> Result<(), Status> {
        if !target.info.namespaced {
            return Ok(());
        }
        let info = Kind::Namespace.info();
        let key = Key::new(info.group, info.plural, "", &target.namespace);
        match self.store.get(&key).await.map_err(|error| Status::store(&error))? {
            Some(found) => transaction.expect.push(Expect::At(key, found.modified)),
            None if target.namespace == DEFAULT_NAMESPACE => {
                transaction.expect.push(Expect::Absent(key.clone()));
                transaction.writes.push(Write::Put(key, default_namespace()));
            }
            None => return Err(Status::not_found(info, &target.namespace)),
        }
        Ok(())
    }

    async fn find(&self, target: &Target) -> Result<Option<Stored>, Status> {
        self.store.get(&target.key()).await.map_err(|error| Status::store(&error))
    }

    async fn stored(&self, target: &Target) -> Result<Stored, Status> {
        self.find(target).await?.ok_or_else(|| Status::not_found(target.info, target.name()))
    }
}

fn default_namespace() -> Vec<u8> {
    let mut object = json!({ "metadata": { "name": DEFAULT_NAMESPACE } });
    stamp::newborn(&mut object, SystemTime::now());
    stamp::normalize(&mut object, Kind::Namespace.info());
    object.to_string().into_bytes()
}

/// The body must be the kind, and have the name and the namespace, that the path says.
fn admit_identity(target: &Target, body: &mut Value) -> Result<String, Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the body is not a JSON object"));
    }
    let said = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (said("apiVersion"), said("kind"));
    if kind != target.info.name || api_version != target.api_version() {
        return Err(Status::bad_request(format!(
            "the object in the body is {kind:?} of {api_version:?}, the path wants {:?} of {:?}",
            target.info.name,
            target.api_version()
        )));
    }
    let meta = stamp::metadata(body);
    let namespace = meta.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({namespace:?}, {:?})",
            target.namespace
        )));
    }
    if target.info.namespaced {
        meta.insert("namespace".into(), target.namespace.as_str().into());
    } else {
        meta.remove("namespace");
    }
    let said = meta.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = match (&target.name, said.as_str()) {
        (Some(name), "") => name.clone(),
        (Some(name), said) if name == said => name.clone(),
        (Some(name), said) => {
            return Err(Status::bad_request(format!(
                "the name of the object ({said}) does not match the name on the URL ({name})"
            )));
        }
        (None, "") => match meta.get("generateName").and_then(Value::as_str) {
            Some(prefix) if !prefix.is_empty() => stamp::generated_name(prefix),
            _ => return Err(Status::bad_request("name or generateName is required")),
        },
        (None, said) => said.to_owned(),
    };
    // The name becomes a key of the store, which a bad one must not reach.
    if name.len() > 253
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    {
        return Err(Status::invalid(
            target.info,
            &name,
            &[&problem(
                target,
                "metadata.name",
                "a name has at most 253 lower-case letters, digits, '-' and '.'".to_owned(),
            )],
        ));
    }
    meta.insert("name".into(), name.as_str().into());
    Ok(name)
}

/// Refuses an object with mistakes, all of them at once; answers what is only worth a warning.
fn check(target: &Target, object: &Value, fields: FieldValidation) -> Result<Vec<String>, Status> {
    let (_, problems) = weft_model::parse_value(object);
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.is_error()).collect();
    if !errors.is_empty() {
        return Err(Status::invalid(target.info, target.name(), &errors));
    }
    let unknown: Vec<String> =
        problems.iter().filter(|problem| is_unknown_field(problem)).map(sentence).collect();
    if fields == FieldValidation::Strict && !unknown.is_empty() {
        return Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            target.info.name,
            target.version,
            target.info.name,
            unknown.join(", ")
        )));
    }
    Ok(problems
        .iter()
        .filter(|problem| fields == FieldValidation::Warn || !is_unknown_field(problem))
        .map(sentence)
        .collect())
}

fn is_unknown_field(problem: &Problem) -> bool {
    problem.message.contains("unknown field")
}

fn problem(target: &Target, path: &str, message: String) -> Problem {
    Problem {
        severity: weft_model::Severity::Error,
        file: None,
        line: None,
        object: target.label(),
        path: path.to_owned(),
        message,
        hint: None,
    }
}

fn patch_problem(target: &Target, why: String) -> Problem {
    problem(target, "", why)
}

fn half(target: &Target) -> managed::Half {
    match target.part {
        Part::Whole => managed::Half::Main,
        Part::Status => managed::Half::Status,
    }
}

/// A write to the object leaves its status, a write to the status leaves the object.
fn keep_other_part(target: &Target, object: &mut Value, current: &Value) {
    if !super::target::has_status(target.info) {
        return;
    }
    let status = match target.part {
        Part::Whole => current.get("status").cloned(),
        Part::Status => {
            let status = object.get("status").cloned();
            let owners = object["metadata"].get("managedFields").cloned();
            *object = current.clone();
            if let Some(owners) = owners {
                stamp::metadata(object).insert("managedFields".into(), owners);
            }
            status
        }
    };
    if let Some(fields) = object.as_object_mut() {
        match status {
            Some(status) => fields.insert("status".into(), status),
            None => fields.remove("status"),
        };
    }
}

fn is_leaving(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// The object as it is kept: no revision in it, in the stored version.
fn without_revision(object: &Value, target: &Target) -> Value {
    let mut kept = object.clone();
    stamp::metadata(&mut kept).remove("resourceVersion");
    kept["apiVersion"] = target.info.api_version().into();
    kept
}

fn show(stored: &Stored, target: &Target) -> Result<Value, Status> {
    stamp::shown(stored, &target.api_version(), target.info).map_err(|error| {
        Status::internal(format!("{} is stored as something that is no JSON: {error}", stored.key))
    })
}

fn written(
    code: StatusCode,
    target: &Target,
    mut object: Value,
    warnings: Vec<String>,
    revision: Option<Revision>,
) -> Written {
    object["apiVersion"] = target.api_version().into();
    if let Some(revision) = revision {
        stamp::metadata(&mut object).insert("resourceVersion".into(), revision.to_string().into());
    }
    Written { code, object, warnings, revision, name: target.name().to_owned() }
}
