//! `af functions …`, except `deploy`.

use std::time::{Duration, UNIX_EPOCH};

use af_contract::RouteTable;
use anyhow::bail;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::deploy;
use super::named::{self, FUNCTION, find};
use super::{logs, projects, rollouts, routes, storage, triggers};
use crate::args::{Create, Functions, Named, Update};
use crate::client::{Api, text};
use crate::config::Environment;
use crate::output::Output;
use crate::project_file::ProjectFile;

/// Runs one of the subcommands.
pub async fn run(command: Functions, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Functions::Create(options) => create(&api, options, output).await,
        Functions::Deploy(options) => deploy::deploy(&api, *options, output).await,
        Functions::List => list(&api, output).await,
        Functions::Get(options) => get(&api, &options, output).await,
        Functions::Deployments(options) => deployments(&api, &options, output).await,
        Functions::Rollback(options) => rollouts::rollback(&api, options, output).await,
        Functions::Rollout(options) => rollouts::rollout(&api, options, output).await,
        Functions::Promote(options) => rollouts::promote(&api, options, output).await,
        Functions::Abort(options) => rollouts::abort(&api, options, output).await,
        Functions::Approve(options) => rollouts::approve(&api, options, output).await,
        Functions::Prune(options) => rollouts::prune(&api, options, output).await,
        Functions::Logs(options) => logs::logs(&api, &options, output).await,
        Functions::Triggers(options) => triggers::show(&api, &options, output).await,
        Functions::Trigger(options) => triggers::run(&api, &options, output).await,
        Functions::RotateKey => rotate_key(&api, output).await,
        Functions::Update(options) => update(&api, options, output).await,
        Functions::Delete(options) => named::delete(&api, FUNCTION, &options.name, output).await,
    }
}

async fn create(api: &Api, options: Create, output: &Output) -> anyhow::Result<()> {
    unsupported(
        options.site.is_some(),
        "--site",
        "a function belongs to a project, not to a site; leave it out",
    )?;
    let routes = match options.routes.as_deref() {
        Some(routes) => routes::read(routes)?,
        None => ProjectFile::here().await?.function(&options.name).and_then(|entry| entry.routes.clone()),
    };
    let function = new(api, &options.name, options.slug.as_deref(), routes.as_ref()).await?;
    let message = format!(
        "created {}\nnext: af functions deploy --name {} --path FILE.wasm",
        text(&function, "id"),
        text(&function, "name"),
    );
    output.result(&function, &message);
    Ok(())
}

async fn list(api: &Api, output: &Output) -> anyhow::Result<()> {
    let functions = api.list(&format!("/v1/projects/{}/functions", api.project().await?)).await?;
    let columns =
        [("ID", "id"), ("NAME", "name"), ("SLUG", "slug"), ("URL", "invokeUrl"), ("STATUS", "status")];
    output.table(&functions, &columns, "no functions yet; make one with `af functions create --name NAME`");
    Ok(())
}

async fn get(api: &Api, options: &Named, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let field = |name: &str| text(&function, name).to_owned();
    let current = function.get("currentDeploymentId").and_then(Value::as_str).unwrap_or("none yet");
    let mut fields = vec![
        ("name", field("name")),
        ("id", field("id")),
        ("URL", field("invokeUrl")),
        ("status", field("status")),
        ("deployment", current.to_owned()),
    ];
    fields.extend(projects::kept(&function));
    fields.extend(rollouts::described(api, text(&function, "id")).await?);
    fields.extend(deployed(api, &function).await?);
    let routes = function.get("routes").and_then(Value::as_object);
    for (pattern, target) in routes.into_iter().flatten() {
        let target = target.as_str().map_or_else(|| target.to_string(), str::to_owned);
        fields.push(("route", format!("{pattern} -> {target}")));
    }
    output.result(&function, &output.fields(&fields));
    Ok(())
}

/// What is known of what it runs now: who made it and why, what it may, and where its code and files are held.
async fn deployed(api: &Api, function: &Value) -> anyhow::Result<Vec<(&'static str, String)>> {
    let Some(current) = function.get("currentDeploymentId").and_then(Value::as_str) else {
        return Ok(Vec::new());
    };
    let deployment = api.get(&format!("/v1/deployments/{current}")).await?;
    let content = deployment.get("held").and_then(Value::as_array).into_iter().flatten();
    let names = [("cid", "code held"), ("assetsCid", "files held"), ("manifestCid", "manifest held")];
    let mut fields = told(&deployment);
    fields.extend(content.map(|held| {
        let cid = text(held, "cid");
        let name = names.iter().find(|(field, _)| text(&deployment, field) == cid);
        (name.map_or("held", |(_, name)| name), storage::held(held))
    }));
    Ok(fields)
}

fn told(deployment: &Value) -> Vec<(&'static str, String)> {
    let created = deployment.get("createdAt").and_then(Value::as_i64).unwrap_or_default();
    let size = deployment.get("size").and_then(Value::as_i64).unwrap_or_default();
    let list = |list: Option<&Value>| {
        let names = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<&str> = names.collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let mut fields = vec![("deployed", format!("{} by {}", utc(created), text(deployment, "author")))];
    for (name, field) in [("why", "message"), ("source", "sourceHash")] {
        fields.extend(deployment.get(field).and_then(Value::as_str).map(|text| (name, text.to_owned())));
    }
    fields.push(("size", format!("{size} bytes")));
    for (name, field) in
        [("code", "cid"), ("BLAKE3", "blake3Hash"), ("files", "assetsCid"), ("manifest", "manifestCid")]
    {
        fields.extend(deployment.get(field).and_then(Value::as_str).map(|text| (name, text.to_owned())));
    }
    fields.extend(
        deployment
            .get("imports")
            .filter(|imports| imports.is_array())
            .map(|imports| ("imports", list(Some(imports)))),
    );
    if let Some(capabilities) = deployment.get("capabilities").filter(|capabilities| capabilities.is_object())
    {
        let egress = capabilities.get("egress").filter(|egress| egress.is_array());
        fields.push((
            "egress",
            egress.map_or_else(|| "the public internet".to_owned(), |egress| list(Some(egress))),
        ));
        fields.push(("stores", list(capabilities.get("stores"))));
    }
    let private = deployment.get("private").and_then(Value::as_bool) == Some(true);
    fields.push(("private", if private { "yes" } else { "no" }.to_owned()));
    fields
}

async fn deployments(api: &Api, options: &Named, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let mut items = api.list(&format!("/v1/functions/{}/deployments", text(&function, "id"))).await?;
    mark(&mut items, text(&function, "currentDeploymentId"));
    rollouts::mark(api, text(&function, "id"), &mut items).await?;
    let columns = [
        ("#", "number"),
        ("ID", "id"),
        ("STATUS", "status"),
        ("CID", "cid"),
        ("CREATED", "created"),
        ("BY", "author"),
        ("LIVE", "live"),
        ("MESSAGE", "message"),
        ("SOURCE", "sourceHash"),
        ("HELD", "heldAt"),
    ];
    output.table(&items, &columns, "no deployments yet; make one with `af functions deploy`");
    Ok(())
}

async fn rotate_key(api: &Api, output: &Output) -> anyhow::Result<()> {
    let path = format!("/v1/projects/{}/rotate-content-key", api.project().await?);
    let rotated = api.send(Method::POST, &path, &json!({})).await?;
    let count = |of: &str| rotated.get(of).and_then(Value::as_u64).unwrap_or_default();
    let message = match (count("deployments"), count("pins")) {
        (0, 0) => "the project has nothing private".to_owned(),
        (deployments, pins) => format!(
            "sealed with a new key: the keys of {deployments} private deployments and of {pins} private pins"
        ),
    };
    output.result(&rotated, &message);
    Ok(())
}

async fn update(api: &Api, options: Update, output: &Output) -> anyhow::Result<()> {
    let routes = options.routes.as_deref().map(routes::read).transpose()?;
    let given = [("name", options.name), ("slug", options.slug), ("status", options.status)];
    let mut change: Map<String, Value> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    change.extend(routes.map(|routes| ("routes".to_owned(), json!(routes))));
    change.extend(options.keep.change());
    let named = options.named.or(options.function).unwrap_or_default();
    let function = find(api, FUNCTION, &named).await?;
    if change.is_empty() {
        let file = ProjectFile::here().await?;
        let Some(routes) = file.function(text(&function, "name")).and_then(|entry| entry.routes.as_ref())
        else {
            bail!(
                "nothing to change; give --name, --slug, --status, --routes, --keep or --keep-for, or write routes into af.config.json"
            );
        };
        change.insert("routes".into(), json!(routes));
    }
    let path = format!("/v1/functions/{}", text(&function, "id"));
    let function = api.send(Method::PATCH, &path, &change.into()).await?;
    let message = format!(
        "updated {}: {} is {} at {}",
        text(&function, "id"),
        text(&function, "name"),
        text(&function, "status"),
        text(&function, "invokeUrl"),
    );
    output.result(&function, &message);
    Ok(())
}

/// Makes a function in the session's project.
pub async fn new(
    api: &Api,
    name: &str,
    slug: Option<&str>,
    routes: Option<&RouteTable>,
) -> anyhow::Result<Value> {
    let path = format!("/v1/projects/{}/functions", api.project().await?);
    Ok(api.send(Method::POST, &path, &json!({ "name": name, "slug": slug, "routes": routes })).await?)
}

/// Refuses an option that older clients have and this platform does not honour yet.
pub fn unsupported(given: bool, option: &str, reason: &str) -> anyhow::Result<()> {
    if given { bail!("{option} is not supported yet: {reason}") } else { Ok(()) }
}

/// Adds to deployments which one is live, and when each was made and where its code is held, as people read it.
pub fn mark(deployments: &mut [Value], current: &str) {
    for item in deployments {
        let live: Value = match (text(item, "status"), text(item, "statusReason")) {
            ("FAILED", reason) if !reason.is_empty() => format!("no: {reason}").into(),
            _ => (text(item, "id") == current).into(),
        };
        let created = item.get("createdAt").and_then(Value::as_i64).unwrap_or_default();
        let held = item.get("held").and_then(|held| held.get(0)).map(storage::held).unwrap_or_default();
        if let Some(fields) = item.as_object_mut() {
            fields.insert("heldAt".into(), held.into());
            fields.insert("live".into(), live);
            fields.insert("created".into(), utc(created).into());
        }
    }
}

/// The last second that RFC 3339 can write down, milliseconds since 1970.
const LATEST: u64 = 253_402_300_799_000;

/// RFC 3339 of milliseconds since 1970; what a server says is later is the last second that there is.
pub fn utc(millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or_default().min(LATEST));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
