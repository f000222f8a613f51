//! `/v1/projects/{project}/secrets` and `…/settings`, and the same under `/v1/functions/{function}`

use std::collections::BTreeMap;
use std::sync::Arc;

use af_contract::{SettingName, SettingValue};
use axum::extract::State as Shared;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::List;
use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument};
use crate::app::State;
use crate::domain::settings::{self, Changed, Changes, Kind, Listed, Owner};
use crate::domain::{Actor, Error};

/// A secret. Its value is shown to nobody.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret {
    /// Of the environment's variable.
    name: String,
    /// `prj_…` or `fn_…`: whose it is. A function has those of its project, too.
    owner_id: String,
    /// `usr_…`: who gave the value.
    author_id: String,
    /// Who that is.
    author: Option<String>,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// A setting that is no secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Setting {
    #[serde(flatten)]
    named: Secret,
    /// What functions are told.
    value: String,
}

/// What is to change.
#[derive(ToSchema)]
#[schema(as = SettingsChange)]
#[expect(dead_code, reason = "describes what `parse` reads, which must not repeat values in its errors")]
pub(super) struct ChangeInput {
    /// Values by name, at most 128 names; null for one that goes.
    values: BTreeMap<String, Option<String>>,
    /// Why; left out: what was changed.
    message: Option<String>,
}

/// What a change came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangeOutcome {
    /// Names of what is another one now, or gone.
    changed: Vec<String>,
    /// Functions that were deployed again: the same code with the new values.
    deployments: Vec<DeployedAgain>,
}

/// A function that was deployed again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeployedAgain {
    /// `dep_…`
    id: String,
    /// Counts up from 1 within the function.
    number: i64,
    /// CID of the manifest.
    manifest_cid: String,
    /// `fn_…`
    function_id: String,
    /// The function's name.
    function_name: String,
    /// Where the function answers.
    invoke_url: String,
    /// Whether it answers: `ACTIVE` or `INACTIVE`.
    status: String,
}

impl Secret {
    fn of(listed: Listed) -> Self {
        let (row, author) = (listed.row, listed.author);
        Self {
            name: row.name,
            owner_id: row.owner_id,
            author_id: row.author_id,
            author,
            updated_at: row.updated_at,
        }
    }
}

impl Setting {
    fn of(mut listed: Listed) -> Self {
        let value = listed.value.take().unwrap_or_default();
        Self { named: Secret::of(listed), value }
    }
}

impl ChangeOutcome {
    fn of(state: &State, changed: Changed) -> Self {
        let deployments = changed.deployments.into_iter().map(|(function, deployment)| DeployedAgain {
            id: deployment.id,
            number: deployment.number,
            manifest_cid: deployment.manifest_cid,
            invoke_url: state.invoke_url(&function.slug),
            function_id: function.id,
            function_name: function.name,
            status: function.status,
        });
        Self {
            deployments: deployments.collect(),
            changed: changed.names.iter().map(SettingName::to_string).collect(),
        }
    }
}

/// A project's secrets, by name. All its functions have them, unless they have one of the same name.
#[utoipa::path(get, path = "/v1/projects/{project}/secrets", operation_id = "project_secret_list",
    tag = "secrets", params(("project" = String, Path)),
    responses((status = 200, body = List<Secret>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn project_secrets(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
) -> Result<Tagged<List<Secret>>, Failure> {
    listed(&state, &actor, Owner::Project(&project), Kind::Secret, Secret::of).await
}

/// Changes a project's secrets. Each of its functions that is concerned is deployed again.
#[utoipa::path(patch, path = "/v1/projects/{project}/secrets", operation_id = "project_secret_change",
    tag = "secrets", params(("project" = String, Path)),
    request_body = ChangeInput, responses((status = 200, body = ChangeOutcome), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn change_project_secrets(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<Value>,
) -> Result<axum::Json<ChangeOutcome>, Failure> {
    changed(&state, &actor, Owner::Project(&project), Kind::Secret, input).await
}

/// A project's settings, by name, with their values.
#[utoipa::path(get, path = "/v1/projects/{project}/settings", operation_id = "project_setting_list",
    tag = "secrets", params(("project" = String, Path)),
    responses((status = 200, body = List<Setting>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn project_settings(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
) -> Result<Tagged<List<Setting>>, Failure> {
    listed(&state, &actor, Owner::Project(&project), Kind::Setting, Setting::of).await
}

/// Changes a project's settings. What is a secret stays one.
#[utoipa::path(patch, path = "/v1/projects/{project}/settings", operation_id = "project_setting_change",
    tag = "secrets", params(("project" = String, Path)),
    request_body = ChangeInput, responses((status = 200, body = ChangeOutcome), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn change_project_settings(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<Value>,
) -> Result<axum::Json<ChangeOutcome>, Failure> {
    changed(&state, &actor, Owner::Project(&project), Kind::Setting, input).await
}

/// A function's secrets, by name; those of its project, too.
#[utoipa::path(get, path = "/v1/functions/{function}/secrets", operation_id = "function_secret_list",
    tag = "secrets", params(("function" = String, Path)),
    responses((status = 200, body = List<Secret>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn function_secrets(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
) -> Result<Tagged<List<Secret>>, Failure> {
    listed(&state, &actor, Owner::Function(&function), Kind::Secret, Secret::of).await
}

/// Changes a function's secrets, and deploys it again.
#[utoipa::path(patch, path = "/v1/functions/{function}/secrets", operation_id = "function_secret_change",
    tag = "secrets", params(("function" = String, Path)),
    request_body = ChangeInput, responses((status = 200, body = ChangeOutcome), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn change_function_secrets(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<Value>,
) -> Result<axum::Json<ChangeOutcome>, Failure> {
    changed(&state, &actor, Owner::Function(&function), Kind::Secret, input).await
}

/// A function's settings, by name, with their values; those of its project, too.
#[utoipa::path(get, path = "/v1/functions/{function}/settings", operation_id = "function_setting_list",
    tag = "secrets", params(("function" = String, Path)),
    responses((status = 200, body = List<Setting>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn function_settings(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
) -> Result<Tagged<List<Setting>>, Failure> {
    listed(&state, &actor, Owner::Function(&function), Kind::Setting, Setting::of).await
}

/// Changes a function's settings, and deploys it again. What is a secret stays one.
#[utoipa::path(patch, path = "/v1/functions/{function}/settings", operation_id = "function_setting_change",
    tag = "secrets", params(("function" = String, Path)),
    request_body = ChangeInput, responses((status = 200, body = ChangeOutcome), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn change_function_settings(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Json(input): Json<Value>,
) -> Result<axum::Json<ChangeOutcome>, Failure> {
    changed(&state, &actor, Owner::Function(&function), Kind::Setting, input).await
}

async fn listed<T>(
    state: &State,
    actor: &Actor,
    owner: Owner<'_>,
    kind: Kind,
    shape: impl Fn(Listed) -> T,
) -> Result<Tagged<List<T>>, Failure> {
    // All of them: a function has at most 128.
    let items = settings::list(state, actor, owner, kind).await?;
    let tag = settings::tag(&items);
    Ok(Tagged::with(tag, List { data: items.into_iter().map(shape).collect(), next: None }))
}

async fn changed(
    state: &State,
    actor: &Actor,
    owner: Owner<'_>,
    kind: Kind,
    input: Value,
) -> Result<axum::Json<ChangeOutcome>, Failure> {
    let (changes, message) = parse(input)?;
    let changed = Box::pin(settings::change(state, actor, owner, kind, changes, message.as_deref())).await?;
    Ok(axum::Json(ChangeOutcome::of(state, changed)))
}

fn parse(input: Value) -> Result<(Changes, Option<String>), Error> {
    let bad = |detail: &str| Error::invalid("invalid_settings", detail);
    let Value::Object(mut fields) = input else {
        return Err(bad("send an object with values, and a message if there is one"));
    };
    let values = fields
        .remove("values")
        .ok_or_else(|| bad("say in values what is to be set: {\"values\": {\"NAME\": \"value\"}}"))?;
    let message = match fields.remove("message") {
        None | Some(Value::Null) => None,
        Some(Value::String(message)) => Some(message),
        Some(_) => return Err(bad("the message is no text")),
    };
    if !fields.is_empty() {
        return Err(bad("there is nothing but values and message"));
    }
    Ok((changes(values)?, message))
}

/// Values by name, null for one that goes. Unlike serde's, errors never have a part of a value in them.
pub(super) fn changes(values: Value) -> Result<Changes, Error> {
    let bad = |error: &dyn std::fmt::Display| Error::invalid("invalid_settings", error.to_string());
    let Value::Object(values) = values else { return Err(bad(&"values are an object of names and texts")) };
    let mut changes = Changes::new();
    for (name, value) in values {
        let name = SettingName::parse(&name).map_err(|error| bad(&error))?;
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(SettingValue::new(text)),
            _ => return Err(bad(&format!("the value of {name} is no text; write it in quotes"))),
        };
        changes.insert(name, value);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for input in [
            json!("hunter2"),
            json!({ "values": "hunter2" }),
            json!({ "values": { "A": { "hunter2": 1 } } }),
            json!({ "values": { "A": 4_815_162_342_u64 } }),
            json!({ "values": { "A": "a" }, "message": ["hunter2"] }),
            json!({ "values": { "A": "a" }, "hunter2": 1 }),
        ] {
            let error = parse(input).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("4815162342"), "{error}");
        }
        let (changes, message) = parse(json!({ "values": { "A": "a", "B": null } })).unwrap();
        assert_eq!((changes.len(), message), (2, None));
    }
}
