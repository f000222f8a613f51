//! `af functions deploy`: hash, send, and wait until the function answers with the new code.

use std::time::{Duration, Instant};

use af_content::private::{self, Cipher};
use af_content::unixfs::folder::Folder;
use af_contract::RouteTable;
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::functions::{new, unsupported};
use super::live::{Live, wait_until_active};
use super::named::{FUNCTION, find, lookup};
use super::package::Package;
use super::plan::{self, Origin, Plan};
use super::{rollouts, settings};
use crate::args::Deploy;
use crate::client::{Api, ApiError, Finding, Upload, text};
use crate::output::Output;
use crate::project_file::ProjectFile;

/// Sends a component and returns when it answers.
pub async fn deploy(api: &Api, options: Deploy, output: &Output) -> anyhow::Result<()> {
    refuse_unsupported(&options)?;
    let file = ProjectFile::here().await?;
    let name = plan::name(options.name.as_deref(), &file)?;
    let known = lookup(api, FUNCTION, &name).await?;
    // A function that is named by its id has a name, too.
    let named = known.as_ref().map_or(name.as_str(), |known| text(known, "name"));
    let plan = Plan::new(&options, file.function(named))?;
    let settings = settings::read(&options.env, plan.env_file.as_deref())?;
    let settings = settings::header(&settings)?;
    let mut steps = Steps::default();
    let key = if plan.private { Some(private::new_key()?) } else { None };
    let cipher = key.as_ref().map(Cipher::new);
    let (contents, package) = match &plan.code {
        Origin::File(path) => {
            let package = Package::read(path, plan.assets.as_deref(), cipher.as_ref());
            steps.time("hash", package)?
        }
        Origin::Content(_) if plan.private => {
            bail!("what others have cannot be made private; deploy the component as a file with --path")
        }
        Origin::Content(cid) => Package::elsewhere(*cid),
    };
    let assets = contents.assets.clone();
    let query = plan.query(&contents)?;
    let is_new = known.is_none() && options.create;
    let function = match known {
        Some(function) => function,
        None if options.create => new(api, &name, None, None).await?,
        None => missing(api, &name).await?,
    };
    let bar = output.progress(package.size());
    let path = format!("/v1/functions/{}/deployments", text(&function, "id"));
    let body = package.into_body(bar.clone());
    let uploaded = api.upload(Upload { path, query, settings, content_key: key, body }).await;
    bar.finish_and_clear();
    let step = if matches!(plan.code, Origin::Content(_)) { "fetch" } else { "upload" };
    let deployment = match steps.time(step, uploaded) {
        Ok(deployment) => deployment,
        Err(error) if is_new => return Err(take_back(api, &function, error).await),
        Err(error) => return Err(error.into()),
    };
    rollouts::refuse_waiting(&function, &deployment)?;
    let url = match (plan.preview, deployment.get("previewUrl").and_then(Value::as_str)) {
        (false, _) => text(&function, "invokeUrl").to_owned(),
        (true, Some(url)) => url.to_owned(),
        (true, None) => return Err(no_preview_host(&deployment).into()),
    };
    let live = match plan.percent {
        Some(_) => Live::candidate(&deployment),
        None => Live::manifest(&deployment),
    };
    let ready = wait_until_active(api, &url, &live, &deployment).await;
    let deployment = steps.time("ready", ready)?;

    // Routes are the function's, which a preview leaves as it is.
    let routes = match plan.routes.as_ref().filter(|_| !plan.preview && plan.percent.is_none()) {
        Some(routes) => Some((route(api, &function, routes).await?, file.name())),
        None => None,
    };
    report(&Done { url, deployment, assets, routes, steps }, output);
    Ok(())
}

/// A function that was made for a deployment that is refused goes again. Where nobody knows what became of the deployment, it stays.
async fn take_back(api: &Api, function: &Value, refusal: ApiError) -> anyhow::Error {
    if !matches!(refusal, ApiError::Problem(_)) || refusal.may_pass() {
        return refusal.into();
    }
    let (id, name) = (text(function, "id"), text(function, "name"));
    match api.delete(&format!("/v1/functions/{id}")).await {
        Ok(_) => refusal.into(),
        Err(error) => anyhow::Error::new(refusal).context(format!(
            "the function {name} was made and could not be deleted again ({error}); do that with `af functions delete --name {name}`"
        )),
    }
}

fn no_preview_host(deployment: &Value) -> Finding {
    let id = text(deployment, "id");
    let detail = format!(
        "deployment {id} is stored, but the slug is too long for a preview host; choose a shorter one with `af functions update --slug`"
    );
    Finding::new("no_preview_host", detail).with("deploymentId", id)
}

/// A deployment that answers.
struct Done {
    url: String,
    deployment: Value,
    assets: Option<Folder>,
    /// What became of the file's route table, and the file's name.
    routes: Option<(&'static str, String)>,
    steps: Steps,
}

fn report(done: &Done, output: &Output) {
    let Done { url, deployment, assets, routes, steps } = done;
    let mut value = json!({ "url": url, "deployment": deployment, "milliseconds": steps.millis() });
    let mut fields = vec![
        ("URL", url.to_owned()),
        ("CID", text(deployment, "cid").to_owned()),
        ("BLAKE3", text(deployment, "blake3Hash").to_owned()),
        ("deployment", text(deployment, "id").to_owned()),
        ("time", steps.to_string()),
    ];
    if deployment.get("private").and_then(Value::as_bool) == Some(true) {
        fields.insert(
            3,
            ("private", "yes; CID and BLAKE3 are those of what is stored, which is encrypted".to_owned()),
        );
    }
    if let (Some(assets), Some(value)) = (assets, value.as_object_mut()) {
        fields.insert(3, ("assets", describe(assets)));
        let counted = json!({ "cid": assets.root, "files": assets.tree.files, "bytes": assets.tree.bytes, "leftOut": assets.hidden });
        value.insert("assets".into(), counted);
    }
    if let (Some((state, file)), Some(value)) = (routes, value.as_object_mut()) {
        fields.insert(fields.len() - 1, ("routes", format!("{state}, from {file}")));
        value.insert("routes".into(), (*state).into());
    }
    output.result(&value, &output.fields(&fields));
}

/// Says what to do about a function that is not there, and which one may be meant.
async fn missing(api: &Api, name: &str) -> anyhow::Result<Value> {
    let advice = || format!("make it first with `af functions create --name {name}`, or add --create");
    find(api, FUNCTION, name).await.with_context(advice)
}

/// Gives a function the route table of the file, if it has another one. Says whether it had.
async fn route(api: &Api, function: &Value, routes: &RouteTable) -> anyhow::Result<&'static str> {
    // As text: a table in another order is another table.
    let known = function.get("routes").map(Value::to_string);
    if known.is_some_and(|known| known == routes.to_string()) {
        return Ok("unchanged");
    }
    let path = format!("/v1/functions/{}", text(function, "id"));
    let changed = api.send(Method::PATCH, &path, &json!({ "routes": routes })).await;
    changed.context("the deployment is live, but the function's routes could not be changed")?;
    Ok("changed")
}

fn refuse_unsupported(options: &Deploy) -> anyhow::Result<()> {
    unsupported(options.sgx, "--sgx", "no edge runs in an SGX enclave")
}

/// As people read it: what is there, and what is not.
pub fn describe(assets: &Folder) -> String {
    let Folder { root, tree, hidden } = assets;
    let left_out = match hidden {
        0 => String::new(),
        1 => "; 1 name that begins with a dot was left out".to_owned(),
        several => format!("; {several} names that begin with a dot were left out"),
    };
    let files = if tree.files == 1 { "file" } else { "files" };
    format!("{root} ({} {files}, {} bytes{left_out})", tree.files, tree.bytes)
}

/// How long each step took.
#[derive(Debug)]
pub struct Steps {
    since: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { since: Instant::now(), done: Vec::new() }
    }
}

impl Steps {
    /// A step is over.
    pub fn time<T>(&mut self, step: &'static str, result: T) -> T {
        self.done.push((step, self.since.elapsed()));
        self.since = Instant::now();
        result
    }

    /// By their names.
    pub fn millis(&self) -> Value {
        self.done
            .iter()
            .map(|(step, time)| ((*step).to_owned(), json!(time.as_secs_f64() * 1000.0)))
            .collect()
    }
}

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (step, time)) in self.done.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{step} {:.0} ms", time.as_secs_f64() * 1000.0)?;
        }
        Ok(())
    }
}
