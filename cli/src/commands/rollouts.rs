//! `af functions rollout | promote | rollback | abort | approve | prune`.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};

use super::live::{Live, wait_until_active};
use super::named::{FUNCTION, find};
use crate::args::Rollback;
use crate::args::rollouts::{Abort, Approve, Promote, Prune, Rollout};
use crate::client::{Api, ApiError, Finding, text};
use crate::output::Output;

/// Gives a deployment to some clients, and returns when they get it.
pub async fn rollout(api: &Api, options: Rollout, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let deployment = deployment(api, &function, &options.deployment).await?;
    let body = json!({
        "deployment": text(&deployment, "id"),
        "percent": options.percent,
        "sticky": options.sticky.map(|sticky| sticky.to_string()),
        "maxErrors": options.guard.max_errors,
        "minRequests": options.guard.min_requests,
        "again": options.again,
    });
    let rollout = api.send(Method::PUT, &path(&function, "rollout"), &body).await?;
    let url = text(&function, "invokeUrl");
    let ready = wait_until_active(api, url, &Live::candidate(&deployment), &deployment).await;
    ready.context("the rollout has begun, but its deployment does not answer, so no client gets it")?;
    output.result(&rollout, &format!("{url}: {}", sentence(&rollout)));
    Ok(())
}

/// Makes a deployment the active one, and returns when it is.
pub async fn promote(api: &Api, options: Promote, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let chosen = match &options.deployment {
        Some(named) => Some(deployment(api, &function, named).await?),
        None => None,
    };
    let body = json!({ "deployment": chosen.as_ref().map(|deployment| text(deployment, "id")) });
    let deployment = api.send(Method::POST, &path(&function, "promote"), &body).await?;
    chosen_to_run(api, &function, deployment, output).await
}

/// Makes an older deployment the active one, and returns when it is.
pub async fn rollback(api: &Api, options: Rollback, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.function.name).await?;
    let chosen = match options.to {
        // What has an id need not be read.
        Some(number) if number.parse::<i64>().is_ok() => {
            Some(text(&deployment(api, &function, &number).await?, "id").to_owned())
        }
        id => id,
    };
    let body = json!({ "deployment": chosen });
    let deployment = api.send(Method::POST, &path(&function, "rollback"), &body).await?;
    chosen_to_run(api, &function, deployment, output).await
}

/// Returns when a function answers with what it is to run, or says that it is switched off.
async fn chosen_to_run(
    api: &Api,
    function: &Value,
    deployment: Value,
    output: &Output,
) -> anyhow::Result<()> {
    let (name, url) = (text(function, "name"), text(function, "invokeUrl"));
    let number = deployment.get("number").and_then(Value::as_i64).unwrap_or_default();
    let id = text(&deployment, "id");
    // What a function is to run is inactive only where the function is.
    if text(&deployment, "status") == "INACTIVE" {
        let message = format!(
            "{name} has deployment {number} ({id}) to run, and stays switched off; `af functions update {name} --status ACTIVE` \
             switches it on"
        );
        output.result(&deployment, &message);
        return Ok(());
    }
    let deployment = wait_until_active(api, url, &Live::manifest(&deployment), &deployment).await?;
    output.result(&deployment, &format!("{url} runs deployment {number} ({})", text(&deployment, "id")));
    Ok(())
}

/// Ends a rollout.
pub async fn abort(api: &Api, options: Abort, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let rollout = api.delete(&path(&function, "rollout")).await?;
    output.result(&rollout, &sentence(&rollout));
    Ok(())
}

/// Allows a deployment what it may do beyond the active one, and returns when it runs, if it is to.
pub async fn approve(api: &Api, options: Approve, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let deployment = deployment(api, &function, &options.deployment).await?;
    let id = text(&deployment, "id");
    // What it may do besides by now, nobody has seen yet: that is refused, and said.
    let allows = match options.allow {
        allow if allow.is_empty() => deployment.get("widens").cloned().unwrap_or_default(),
        allow => json!(allow),
    };
    let body = json!({ "allows": allows });
    let deployment = api.send(Method::POST, &format!("/v1/deployments/{id}/approve"), &body).await?;
    let function = find(api, FUNCTION, text(&function, "id")).await?;
    let url = text(&function, "invokeUrl");
    let message = if text(&function, "currentDeploymentId") == id {
        wait_until_active(api, url, &Live::manifest(&deployment), &deployment).await?;
        format!("allowed {}; {url} runs it", widens(&deployment))
    } else {
        format!(
            "allowed {}; {url} does not run it, which `af functions promote` changes",
            widens(&deployment)
        )
    };
    output.result(&deployment, &message);
    Ok(())
}

/// Removes old deployments, a hundred at a time.
pub async fn prune(api: &Api, options: Prune, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let body = json!({
        "keep": options.keep,
        "youngerThanSeconds": options.younger_than.map(|age| age.as_secs()),
        "dryRun": options.dry_run,
    });
    let mut pruned = Vec::new();
    loop {
        let mut answer = api.send(Method::POST, &path(&function, "prune"), &body).await?;
        let Some(Value::Array(gone)) = answer.get_mut("pruned").map(Value::take) else { break };
        let more = gone.len() == 100 && !options.dry_run;
        pruned.extend(gone);
        if !more {
            break;
        }
    }
    let empty = "every deployment stays";
    let table = output.columns(&pruned, &[("#", "number"), ("ID", "id")], empty);
    let title = match (pruned.is_empty(), options.dry_run) {
        (true, _) => String::new(),
        (false, true) => "these would go, the oldest 100 at most:\n".to_owned(),
        (false, false) => "these are gone:\n".to_owned(),
    };
    output.result(&json!({ "pruned": pruned, "dryRun": options.dry_run }), &format!("{title}{table}"));
    Ok(())
}

/// A deployment that waits does not answer, so whoever made it is told what it waits for.
pub fn refuse_waiting(function: &Value, deployment: &Value) -> anyhow::Result<()> {
    if text(deployment, "approval") != "AWAITING_APPROVAL" {
        return Ok(());
    }
    let (name, id) = (text(function, "name"), text(deployment, "id"));
    let detail = format!(
        "deployment {id} is stored, but not active, because it may do more than the one before: {}. Deploy again with --allow, or \
         have an admin or owner of the project run `af functions approve {name} {id}` [awaiting_approval]",
        widens(deployment)
    );
    let waiting = Finding::new("awaiting_approval", detail).with("deploymentId", id);
    let widens = deployment.get("widens").cloned().unwrap_or_default();
    Err(waiting.with("functionId", text(function, "id")).with("widens", widens).into())
}

fn widens(deployment: &Value) -> String {
    let widens = deployment.get("widens").and_then(Value::as_array).into_iter().flatten();
    widens.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// The function's newest rollout, for people.
pub async fn described(api: &Api, function: &str) -> anyhow::Result<Option<(&'static str, String)>> {
    let rollout = newest(api, function).await?;
    Ok(rollout.map(|rollout| ("rollout", sentence(&rollout))))
}

/// Says of a function's deployments which one is being rolled out, and which one was rolled back and why.
pub async fn mark(api: &Api, function: &str, deployments: &mut [Value]) -> anyhow::Result<()> {
    for deployment in deployments.iter_mut() {
        if text(deployment, "approval") == "AWAITING_APPROVAL"
            && let Some(fields) = deployment.as_object_mut()
        {
            fields.insert("live".into(), "awaiting approval".into());
        }
    }
    let Some(rollout) = newest(api, function).await? else { return Ok(()) };
    let candidate = text(&rollout, "deploymentId");
    let found = deployments.iter_mut().find(|deployment| text(deployment, "id") == candidate);
    if let Some(fields) = found.and_then(Value::as_object_mut) {
        let live = match text(&rollout, "status") {
            "RUNNING" => Some(format!("{} %", percent(&rollout))),
            "ROLLED_BACK" => Some(format!("no: {}", text(&rollout, "reason"))),
            _ => None,
        };
        fields.extend(live.map(|live| ("live".to_owned(), live.into())));
        fields.insert("rollout".into(), rollout);
    }
    Ok(())
}

async fn newest(api: &Api, function: &str) -> anyhow::Result<Option<Value>> {
    match api.get(&format!("/v1/functions/{function}/rollout")).await {
        Ok(rollout) => Ok(Some(rollout)),
        Err(ApiError::Problem(problem)) if problem.code == "not_found" => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A deployment of the function by its id or number.
async fn deployment(api: &Api, function: &Value, named: &str) -> anyhow::Result<Value> {
    let Ok(number) = named.parse::<i64>() else {
        return Ok(api.get(&format!("/v1/deployments/{named}")).await?);
    };
    let deployments = api.list(&path(function, "deployments")).await?;
    let is_it = |deployment: &Value| deployment.get("number").and_then(Value::as_i64) == Some(number);
    let missing = || {
        let detail =
            format!("the function has no deployment {number}; `af functions deployments` lists them");
        Finding::new("not_found", detail).with("functionId", text(function, "id"))
    };
    Ok(deployments.into_iter().find(is_it).ok_or_else(missing)?)
}

fn path(function: &Value, what: &str) -> String {
    format!("/v1/functions/{}/{what}", text(function, "id"))
}

fn percent(rollout: &Value) -> i64 {
    rollout.get("percent").and_then(Value::as_i64).unwrap_or_default()
}

fn sentence(rollout: &Value) -> String {
    let (candidate, sticky) = (text(rollout, "deploymentId"), text(rollout, "sticky"));
    match (text(rollout, "status"), text(rollout, "reason")) {
        ("RUNNING", _) => format!("{} % of clients, by {sticky}, get {candidate}", percent(rollout)),
        (status, reason) => format!("of {candidate}: {status}, {reason}"),
    }
}
