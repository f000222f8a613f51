//! `af sites …`

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use af_content::unixfs::folder::Folder;
use af_runtime::site::Redirects;
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::deploy::{Steps, describe};
use super::functions::mark;
use super::live::{Live, wait_until_live};
use super::named::{self, SITE, find, lookup};
use super::package::Package;
use crate::args::sites::{CreateSite, DeploySite, NamedSite, RollbackSite, Sites, UpdateSite};
use crate::client::{Api, Upload, text};
use crate::config::Environment;
use crate::output::Output;
use crate::project_file::{ProjectFile, SiteEntry};

/// Runs one of the subcommands.
pub async fn run(command: Sites, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Sites::Create(options) => create(&api, &options, output).await,
        Sites::Deploy(options) => deploy(&api, &options, output).await,
        Sites::List => list(&api, output).await,
        Sites::Deployments(options) => deployments(&api, &options, output).await,
        Sites::Rollback(options) => rollback(&api, options, output).await,
        Sites::Update(options) => update(&api, options, output).await,
        Sites::Delete(options) => named::delete(&api, SITE, &options.name, output).await,
    }
}

async fn create(api: &Api, options: &CreateSite, output: &Output) -> anyhow::Result<()> {
    let site = new(api, &options.name, options.slug.as_deref()).await?;
    let (id, name) = (text(&site, "id"), text(&site, "name"));
    output.result(&site, &format!("created {id}\nnext: af sites deploy --name {name} --path DIR"));
    Ok(())
}

/// Sends a folder and returns when it is served.
async fn deploy(api: &Api, options: &DeploySite, output: &Output) -> anyhow::Result<()> {
    if options.private {
        bail!(
            "--private is not for sites, whose files are sent to whoever asks; give private files to a function, with `af functions deploy --private --assets DIR`"
        );
    }
    let file = ProjectFile::here().await?;
    let name = chosen(options.name.as_deref(), &file)?;
    let mut steps = Steps::default();
    let (root, folder, package) = match options.cid {
        Some(cid) => (cid, None, Package::elsewhere(cid).1),
        None => {
            let (folder, package) = folder(options, &file, &name, &mut steps).await?;
            (folder.root, Some(folder), package)
        }
    };
    let site = site(api, &name, options.create).await?;
    let bar = output.progress(package.size());
    let path = format!("/v1/sites/{}/deployments", text(&site, "id"));
    let mut query = vec![("cid", root.to_string())];
    query.extend(options.cid.map(|_| ("fetch", "true".to_owned())));
    let body = package.into_body(bar.clone());
    let uploaded = api.upload(Upload { path, query, settings: None, content_key: None, body }).await;
    bar.finish_and_clear();
    let deployment = steps.time(if options.cid.is_some() { "fetch" } else { "upload" }, uploaded)?;
    let url = text(&site, "url");
    let ready = wait_until_live(url, &live(&deployment)).await;
    steps
        .time("ready", ready)
        .with_context(|| format!("deployment {} is stored, but not served", text(&deployment, "id")))?;
    let left_out = folder.as_ref().map(|folder| folder.hidden);
    let value =
        json!({ "url": url, "deployment": deployment, "leftOut": left_out, "milliseconds": steps.millis() });
    let files = folder.as_ref().map_or_else(|| text(&deployment, "cid").to_owned(), describe);
    let fields = [
        ("URL", url.to_owned()),
        ("files", files),
        ("deployment", text(&deployment, "id").to_owned()),
        ("time", steps.to_string()),
    ];
    output.result(&value, &output.fields(&fields));
    Ok(())
}

/// Reads the folder that is meant.
async fn folder(
    options: &DeploySite,
    file: &ProjectFile,
    name: &str,
    steps: &mut Steps,
) -> anyhow::Result<(Folder, Package)> {
    let dir = match (&options.path, file.site(name)) {
        (Some(path), _) => path.clone(),
        (None, Some(entry)) => steps.time("build", build(entry).await)?,
        (None, None) => bail!(
            "say which folder to deploy with --path DIR, or name the site and its distDir in af.config.json"
        ),
    };
    check_redirects(&dir)?;
    steps.time("hash", Package::read_site(&dir))
}

/// What the edge would find out when somebody asks for a page that is not there.
fn check_redirects(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("_redirects");
    if path.is_file() {
        let file = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Redirects::parse(&file).context("the site cannot be deployed")?;
    }
    Ok(())
}

/// Which site is meant: the given one, else the only one of the file.
fn chosen(given: Option<&str>, file: &ProjectFile) -> anyhow::Result<String> {
    match (given, file.sites.as_slice()) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, [only]) => Ok(only.slug.clone()),
        (None, []) => bail!("say which site with --name; there is no af.config file here that has one"),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|site| site.slug.as_str()).collect();
            bail!("say which site with --name; {} has {}", file.name(), names.join(", "))
        }
    }
}

/// Runs what makes the folder, if the file says so, and returns the folder.
async fn build(entry: &SiteEntry) -> anyhow::Result<PathBuf> {
    if let Some(command) = &entry.build_command {
        // What it prints is not this command's result, which programs may read.
        let stdout = std::io::stderr().as_fd().try_clone_to_owned()?;
        let status = Command::new("sh").args(["-c", command]).stdout(stdout).status().await;
        let status = status.context("buildCommand needs a shell (sh)")?;
        if !status.success() {
            bail!("buildCommand failed ({status}): {command}");
        }
    }
    Ok(entry.dist_dir.clone())
}

async fn site(api: &Api, name: &str, create: bool) -> anyhow::Result<Value> {
    if !create {
        let advice = || format!("make it first with `af sites create --name {name}`, or add --create");
        return find(api, SITE, name).await.with_context(advice);
    }
    match lookup(api, SITE, name).await? {
        Some(site) => Ok(site),
        None => new(api, name, None).await,
    }
}

async fn new(api: &Api, name: &str, slug: Option<&str>) -> anyhow::Result<Value> {
    let path = format!("/v1/projects/{}/sites", api.project().await?);
    Ok(api.send(Method::POST, &path, &json!({ "name": name, "slug": slug })).await?)
}

async fn list(api: &Api, output: &Output) -> anyhow::Result<()> {
    let sites = api.list(&format!("/v1/projects/{}/sites", api.project().await?)).await?;
    let columns = [("ID", "id"), ("NAME", "name"), ("SLUG", "slug"), ("URL", "url"), ("CID", "cid")];
    output.table(&sites, &columns, "no sites yet; make one with `af sites create --name NAME`");
    Ok(())
}

async fn deployments(api: &Api, options: &NamedSite, output: &Output) -> anyhow::Result<()> {
    let site = find(api, SITE, &options.name).await?;
    let mut items = api.list(&format!("/v1/sites/{}/deployments", text(&site, "id"))).await?;
    mark(&mut items, text(&site, "currentDeploymentId"));
    let columns = [
        ("#", "number"),
        ("ID", "id"),
        ("CID", "cid"),
        ("FILES", "files"),
        ("CREATED", "created"),
        ("LIVE", "live"),
        ("HELD", "heldAt"),
    ];
    output.table(&items, &columns, "no deployments yet; make one with `af sites deploy`");
    Ok(())
}

async fn rollback(api: &Api, options: RollbackSite, output: &Output) -> anyhow::Result<()> {
    let site = find(api, SITE, &options.site.name).await?;
    let path = format!("/v1/sites/{}/rollback", text(&site, "id"));
    let deployment = api.send(Method::POST, &path, &json!({ "deployment": options.to })).await?;
    let url = text(&site, "url");
    wait_until_live(url, &live(&deployment)).await?;
    let number = deployment.get("number").and_then(Value::as_i64).unwrap_or_default();
    output.result(&deployment, &format!("{url} serves deployment {number} ({})", text(&deployment, "id")));
    Ok(())
}

async fn update(api: &Api, options: UpdateSite, output: &Output) -> anyhow::Result<()> {
    let given = [("name", options.name), ("slug", options.slug)];
    let change: Map<String, Value> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    if change.is_empty() {
        bail!("nothing to change; give --name or --slug");
    }
    let site = find(api, SITE, &options.site).await?;
    let path = format!("/v1/sites/{}", text(&site, "id"));
    let site = api.send(Method::PATCH, &path, &change.into()).await?;
    let (id, name, url) = (text(&site, "id"), text(&site, "name"), text(&site, "url"));
    output.result(&site, &format!("updated {id}: {name} is at {url}"));
    Ok(())
}

fn live(deployment: &Value) -> Live<'_> {
    Live::root(text(deployment, "cid"))
}
