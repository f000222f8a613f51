//! `af admin plans …`

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::quotas::words;
use crate::args::plans::{Plans, Set};
use crate::client::{Api, text};
use crate::config::Environment;
use crate::output::Output;

/// Runs one of the subcommands.
pub async fn run(command: Plans, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Plans::List => list(&api, output).await,
        Plans::Set(options) => set(&api, *options, output).await,
        Plans::Remove { name } => {
            let plan = find(&api, &name).await?;
            api.delete(&path(&plan)).await?;
            output.result(
                &json!({ "removed": text(&plan, "id") }),
                &format!("removed {}", text(&plan, "name")),
            );
            Ok(())
        }
        Plans::Assign { org, name } => {
            let plan = find(&api, &name).await?;
            let change = json!({ "planId": text(&plan, "id") });
            api.change(Method::PUT, &format!("/v1/organizations/{org}/plan"), &change).await?;
            let value = json!({ "organizationId": org, "planId": text(&plan, "id") });
            output.result(&value, &format!("{org} has the plan {} now", text(&plan, "name")));
            Ok(())
        }
        Plans::Unassign { org } => {
            api.delete(&format!("/v1/organizations/{org}/plan")).await?;
            let value = json!({ "organizationId": org, "planId": null });
            output.result(&value, &format!("{org} has no plan now; the server's options count for it"));
            Ok(())
        }
    }
}

async fn list(api: &Api, output: &Output) -> anyhow::Result<()> {
    let plans = api.list("/v1/plans").await?;
    let row = |plan: &Value| {
        json!({ "id": text(plan, "id"), "name": text(plan, "name"), "organizations": plan.get("organizations"),
            "limits": said(plan) })
    };
    let rows: Vec<Value> = plans.iter().map(row).collect();
    let columns = [("ID", "id"), ("NAME", "name"), ("ORGANIZATIONS", "organizations"), ("LIMITS", "limits")];
    let table = output.columns(&rows, &columns, "no plans yet; make one with `af admin plans set NAME`");
    output.result(&plans.into(), &table);
    Ok(())
}

async fn set(api: &Api, options: Set, output: &Output) -> anyhow::Result<()> {
    let Set { name, rename, limits } = options;
    let limits = limits.change();
    let known = known(api, &name).await?;
    let (done, plan) = match known {
        Some(_) if limits.is_empty() && rename.is_none() => {
            bail!("nothing to change; give --functions or another limit, or --rename")
        }
        Some(plan) => {
            let change = json!({ "name": rename, "limits": limits });
            ("changed", api.send(Method::PATCH, &path(&plan), &change).await?)
        }
        None if rename.is_some() => bail!("there is no plan {name}; `af admin plans list` shows them"),
        None => {
            let plan = json!({ "name": name, "limits": limits });
            ("made", api.send(Method::POST, "/v1/plans", &plan).await?)
        }
    };
    output.result(&plan, &format!("{done} {}: {}", text(&plan, "name"), said(&plan)));
    Ok(())
}

async fn find(api: &Api, name: &str) -> anyhow::Result<Value> {
    match known(api, name).await? {
        Some(plan) => Ok(plan),
        None => bail!("there is no plan {name}; `af admin plans list` shows them"),
    }
}

async fn known(api: &Api, name: &str) -> anyhow::Result<Option<Value>> {
    let plans = api.list("/v1/plans").await?;
    Ok(plans.into_iter().find(|plan| [text(plan, "id"), text(plan, "name")].contains(&name)))
}

fn path(plan: &Value) -> String {
    format!("/v1/plans/{}", text(plan, "id"))
}

/// What a plan limits.
fn said(plan: &Value) -> String {
    let limits = plan.get("limits").and_then(Value::as_object).into_iter().flatten();
    let said = limits.filter(|(_, value)| !value.is_null());
    let said: Vec<String> = said.map(|(name, value)| format!("{} {value}", words(name))).collect();
    if said.is_empty() { "as the server's options say".to_owned() } else { said.join(", ") }
}
