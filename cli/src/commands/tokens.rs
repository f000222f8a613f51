//! `af pat …` and `af keys …`: tokens of a user and of a project.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::functions::utc;
use super::named::{self, FUNCTION};
use crate::args::tokens::{Bounds, Keys, Pat, Rotate, Token};
use crate::client::{Api, text};
use crate::config::Environment;
use crate::output::Output;

/// Runs `af pat …`.
pub async fn pat(command: Pat, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    let list = "/v1/tokens";
    match command {
        Pat::Create(options) => {
            let mut body = body(&api, &options.name, &options.bounds).await?;
            body.insert("projectId".into(), json!(options.project));
            create(&api, list, body, output).await
        }
        Pat::List => show(&api, list, "no tokens", output).await,
        Pat::Rotate(options) => rotate(&api, list, &options, output).await,
        Pat::Delete(token) => delete(&api, list, &token, output).await,
    }
}

/// Runs `af keys …`.
pub async fn keys(command: Keys, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    let list = format!("/v1/projects/{}/keys", api.project().await?);
    match command {
        Keys::Create(options) => {
            let mut body = body(&api, &options.name, &options.bounds).await?;
            body.insert("role".into(), json!(options.role));
            create(&api, &list, body, output).await
        }
        Keys::List => {
            show(&api, &list, "no keys yet; make one with `af keys create --name NAME`", output).await
        }
        Keys::Rotate(options) => rotate(&api, &list, &options, output).await,
        Keys::Delete(token) => delete(&api, &list, &token, output).await,
    }
}

async fn body(api: &Api, name: &str, bounds: &Bounds) -> anyhow::Result<Map<String, Value>> {
    let function = match &bounds.function {
        Some(name) => Some(text(&named::find(api, FUNCTION, name).await?, "id").to_owned()),
        None => None,
    };
    let expires_at = match bounds.expires {
        Some(life) => {
            let end = SystemTime::now().duration_since(UNIX_EPOCH)?.checked_add(life.into());
            let end = end.context("--expires is too far in the future")?;
            Some(i64::try_from(end.as_millis())?)
        }
        None => None,
    };
    let scopes = (!bounds.scopes.is_empty()).then(|| bounds.scopes.join(" "));
    let fields = [
        ("name", json!(name)),
        ("functionId", json!(function)),
        ("scopes", json!(scopes)),
        ("expiresAt", json!(expires_at)),
    ];
    Ok(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

async fn create(api: &Api, list: &str, body: Map<String, Value>, output: &Output) -> anyhow::Result<()> {
    let made = api.send(Method::POST, list, &body.into()).await?;
    output.result(&made, &secret(&made));
    Ok(())
}

async fn show(api: &Api, list: &str, empty: &str, output: &Output) -> anyhow::Result<()> {
    let mut tokens = api.list(list).await?;
    for token in &mut tokens {
        let time = |field: &str| token.get(field).and_then(Value::as_i64).map(utc);
        let (expires, used) = (time("expiresAt"), time("lastUsedAt"));
        if let Some(fields) = token.as_object_mut() {
            fields.insert("expires".into(), json!(expires));
            fields.insert("lastUsed".into(), json!(used));
        }
    }
    let columns = [
        ("ID", "id"),
        ("NAME", "name"),
        ("TOKEN", "maskedToken"),
        ("ROLE", "role"),
        ("SCOPES", "scopes"),
        ("EXPIRES", "expires"),
        ("LAST USED", "lastUsed"),
    ];
    output.table(&tokens, &columns, empty);
    Ok(())
}

async fn rotate(api: &Api, list: &str, options: &Rotate, output: &Output) -> anyhow::Result<()> {
    let path = format!("/v1/tokens/{}/rotate", id_of(api, list, &options.token).await?);
    let made = api.send(Method::POST, &path, &json!({ "overlapSeconds": options.overlap.as_secs() })).await?;
    output.result(&made, &secret(&made));
    Ok(())
}

async fn delete(api: &Api, list: &str, token: &Token, output: &Output) -> anyhow::Result<()> {
    let id = id_of(api, list, token).await?;
    api.delete(&format!("/v1/tokens/{id}")).await?;
    output.result(&json!({ "deleted": id }), &format!("deleted {id}; it is refused from now on"));
    Ok(())
}

async fn id_of(api: &Api, list: &str, token: &Token) -> anyhow::Result<String> {
    let tokens = api.list(list).await?;
    let found = tokens.iter().find(|one| text(one, "id") == token.token || text(one, "name") == token.token);
    match found {
        Some(found) => Ok(text(found, "id").to_owned()),
        None => {
            bail!("there is no token {:?}; `af pat list` and `af keys list` show what there is", token.token)
        }
    }
}

fn secret(made: &Value) -> String {
    format!("{}\n{} ({}); it is not shown again", text(made, "token"), text(made, "name"), text(made, "id"))
}
