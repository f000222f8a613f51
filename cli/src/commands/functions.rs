//! `af functions …`, except `deploy`.

use std::time::{Duration, UNIX_EPOCH};

use af_contract::RouteTable;
use anyhow::bail;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{deploy, routes, triggers};
use crate::args::{Create, Functions, Named, Rollback, Update};
use crate::client::{Api, text};
use crate::config::Environment;
use crate::output::Output;
use crate::project_file::ProjectFile;

/// Runs one of the subcommands.
pub async fn run(command: Functions, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Functions::Create(options) => create(&api, options, output).await,
        Functions::Deploy(options) => deploy::deploy(&api, options, output).await,
        Functions::List => list(&api, output).await,
        Functions::Get(options) => get(&api, &options, output).await,
        Functions::Deployments(options) => deployments(&api, &options, output).await,
        Functions::Rollback(options) => rollback(&api, options, output).await,
        Functions::Triggers(options) => triggers::show(&api, &options, output).await,
        Functions::Trigger(options) => triggers::run(&api, &options, output).await,
        Functions::Update(options) => update(&api, options, output).await,
        Functions::Delete(options) => delete(&api, &options, output).await,
    }
}

async fn create(api: &Api, options: Create, output: &Output) -> anyhow::Result<()> {
    unsupported(options.site.is_some(), "--site", "sites come with the static site hosting")?;
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
    let function = find(api, &options.name).await?;
    let field = |name: &str| text(&function, name).to_owned();
    let current = function.get("currentDeploymentId").and_then(Value::as_str).unwrap_or("none yet");
    let fields = [
        ("name", field("name")),
        ("id", field("id")),
        ("URL", field("invokeUrl")),
        ("status", field("status")),
        ("deployment", current.to_owned()),
    ];
    output.result(&function, &output.fields(&fields));
    Ok(())
}

async fn deployments(api: &Api, options: &Named, output: &Output) -> anyhow::Result<()> {
    let function = find(api, &options.name).await?;
    let current = text(&function, "currentDeploymentId");
    let mut items = api.list(&format!("/v1/functions/{}/deployments", text(&function, "id"))).await?;
    for item in &mut items {
        let live = text(item, "id") == current;
        let created = item.get("createdAt").and_then(Value::as_i64).unwrap_or_default();
        if let Some(fields) = item.as_object_mut() {
            fields.insert("live".into(), live.into());
            fields.insert("created".into(), utc(created).into());
        }
    }
    let columns = [("#", "number"), ("ID", "id"), ("CID", "cid"), ("CREATED", "created"), ("LIVE", "live")];
    output.table(&items, &columns, "no deployments yet; make one with `af functions deploy`");
    Ok(())
}

async fn rollback(api: &Api, options: Rollback, output: &Output) -> anyhow::Result<()> {
    let function = find(api, &options.function.name).await?;
    let path = format!("/v1/functions/{}/rollback", text(&function, "id"));
    let body = json!({ "deployment": options.to });
    let deployment = api.send(Method::POST, &path, &body).await?;
    deploy::wait_until_live(&function, &deployment).await?;
    let number = deployment.get("number").and_then(Value::as_i64).unwrap_or_default();
    let url = text(&function, "invokeUrl");
    output.result(&deployment, &format!("{url} runs deployment {number} ({})", text(&deployment, "id")));
    Ok(())
}

async fn update(api: &Api, options: Update, output: &Output) -> anyhow::Result<()> {
    let routes = options.routes.as_deref().map(routes::read).transpose()?;
    let given = [("name", options.name), ("slug", options.slug), ("status", options.status)];
    let mut change: Map<String, Value> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    change.extend(routes.map(|routes| ("routes".to_owned(), json!(routes))));
    let function = find(api, &options.function).await?;
    if change.is_empty() {
        let file = ProjectFile::here().await?;
        let Some(routes) = file.function(text(&function, "name")).and_then(|entry| entry.routes.as_ref())
        else {
            bail!(
                "nothing to change; give --name, --slug, --status or --routes, or write routes into af.config.json"
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

async fn delete(api: &Api, options: &Named, output: &Output) -> anyhow::Result<()> {
    let function = find(api, &options.name).await?;
    let id = text(&function, "id");
    api.delete(&format!("/v1/functions/{id}")).await?;
    output.result(&json!({ "deleted": id }), &format!("deleted {id}"));
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

/// The function with this name or id, or `None`.
pub async fn lookup(api: &Api, name: &str) -> anyhow::Result<Option<Value>> {
    if name.starts_with("fn_") {
        return Ok(Some(api.get(&format!("/v1/functions/{name}")).await?));
    }
    let project = api.project().await?;
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let mut found = api.list(&format!("/v1/projects/{project}/functions?name={name}")).await?;
    Ok(found.pop())
}

/// The function with this name or id; a name that is not there gets the closest one that is.
pub async fn find(api: &Api, name: &str) -> anyhow::Result<Value> {
    if let Some(function) = lookup(api, name).await? {
        return Ok(function);
    }
    let functions = api.list(&format!("/v1/projects/{}/functions", api.project().await?)).await?;
    let names = functions.iter().map(|function| text(function, "name"));
    let closest =
        names.max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    match closest.filter(|closest| strsim::jaro_winkler(name, closest) > 0.8) {
        Some(closest) => bail!("there is no function named {name:?}; did you mean {closest:?}?"),
        None => bail!("there is no function named {name:?}; `af functions list` shows what there is"),
    }
}

/// Refuses an option that older clients have and this platform does not honour yet.
pub fn unsupported(given: bool, option: &str, reason: &str) -> anyhow::Result<()> {
    if given { bail!("{option} is not supported yet: {reason}") } else { Ok(()) }
}

/// RFC 3339 of milliseconds since 1970.
pub fn utc(millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
