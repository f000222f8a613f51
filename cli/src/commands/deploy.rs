//! `af functions deploy`: hash, send, and wait until the function answers with the new code.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use af_content::unixfs::folder::Folder;
use af_contract::Cors;
use af_contract::cors::Fields;
use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::functions::{new, unsupported};
use super::named::{FUNCTION, find, lookup};
use super::package::{Contents, Package};
use super::settings;
use crate::args::{Cors as CorsOptions, Deploy};
use crate::client::{Api, Upload, text};
use crate::output::Output;

/// How long a new deployment may take to answer: compiling a JavaScript engine takes 15 s on 2 cores.
const READY: Duration = Duration::from_secs(120);

/// Between two questions whether it answers.
const PAUSE: Duration = Duration::from_millis(50);

/// Sends a component and returns when it answers.
pub async fn deploy(api: &Api, options: Deploy, output: &Output) -> anyhow::Result<()> {
    refuse_unsupported(&options)?;
    let settings = settings::read(&options.env, options.env_file.as_deref())?;
    let settings = settings::header(&settings)?;
    let mut steps = Steps::default();
    let (contents, package) = steps.time("hash", Package::read(&options.path, options.assets.as_deref()))?;
    let (code, assets) = (contents.code, contents.assets.clone());
    let function = function(api, &options).await?;
    let bar = output.progress(package.size());
    let path = format!("/v1/functions/{}/deployments", text(&function, "id"));
    let mut query = query(&contents, &options);
    query.extend(cors(options.cors)?);
    let uploaded = api.upload(Upload { path, query, settings, body: package.into_body(bar.clone()) }).await;
    bar.finish_and_clear();
    let deployment = steps.time("upload", uploaded)?;
    let url = match (options.preview, deployment.get("previewUrl").and_then(Value::as_str)) {
        (false, _) => text(&function, "invokeUrl"),
        (true, Some(url)) => url,
        (true, None) => bail!(
            "deployment {} is stored, but the slug is too long for a preview host; choose a shorter one with `af functions update --slug`",
            text(&deployment, "id")
        ),
    };
    let ready = wait_until_live(url, &Live::manifest(&deployment)).await;
    steps
        .time("ready", ready)
        .with_context(|| format!("deployment {} is stored, but does not answer", text(&deployment, "id")))?;

    let mut value = json!({ "url": url, "deployment": deployment, "milliseconds": steps.millis() });
    let mut fields = vec![
        ("URL", url.to_owned()),
        ("CID", code.root.to_string()),
        ("BLAKE3", code.blake3.to_string()),
        ("deployment", text(&deployment, "id").to_owned()),
        ("time", steps.to_string()),
    ];
    if let (Some(assets), Some(value)) = (&assets, value.as_object_mut()) {
        fields.insert(3, ("assets", describe(assets)));
        let counted = json!({ "cid": assets.root, "files": assets.tree.files, "bytes": assets.tree.bytes, "leftOut": assets.hidden });
        value.insert("assets".into(), counted);
    }
    output.result(&value, &output.fields(&fields));
    Ok(())
}

/// What an edge says of itself when a deployment is live.
pub struct Live<'a> {
    /// The field.
    pub key: &'static str,
    /// What it is then.
    pub cid: &'a str,
}

impl<'a> Live<'a> {
    /// Of a function's deployment.
    pub fn manifest(deployment: &'a Value) -> Self {
        Self { key: "manifest", cid: text(deployment, "manifestCid") }
    }

    fn is(&self, state: &Value, key: &str) -> bool {
        state.get(key).is_some_and(|value| text(value, self.key) == self.cid)
    }
}

/// Asks the edge until this deployment answers at `url`, or says that it cannot.
pub async fn wait_until_live(url: &str, wanted: &Live<'_>) -> anyhow::Result<()> {
    let url = format!("{url}/.well-known/af-deployment");
    let http = edge_client(&url)?;
    let deadline = Instant::now() + READY;
    let mut last = String::from("it did not answer in time");
    while Instant::now() < deadline {
        match http.get(&url).send().await {
            Ok(response) => {
                let state: Value = response.json().await.unwrap_or_default();
                if wanted.is(&state, "live") {
                    return Ok(());
                }
                if let Some(failed) = state.get("failed").filter(|_| wanted.is(&state, "failed")) {
                    bail!("{} [{}]", text(failed, "detail"), text(failed, "code"));
                }
                last = format!("{url} still answers with another deployment");
            }
            Err(error) => last = format!("{url} cannot be reached: {}", error.without_url()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(last)
}

async fn function(api: &Api, options: &Deploy) -> anyhow::Result<Value> {
    if !options.create {
        let advice =
            || format!("make it first with `af functions create --name {}`, or add --create", options.name);
        return find(api, FUNCTION, &options.name).await.with_context(advice);
    }
    match lookup(api, FUNCTION, &options.name).await? {
        Some(function) => Ok(function),
        None => new(api, &options.name, None, None).await,
    }
}

fn refuse_unsupported(options: &Deploy) -> anyhow::Result<()> {
    unsupported(options.private, "--private", "content is not encrypted yet, so it cannot be kept private")?;
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

fn query(contents: &Contents, options: &Deploy) -> Vec<(&'static str, String)> {
    fn joined<T: ToString>(name: &'static str, names: &[T]) -> Option<(&'static str, String)> {
        let names: Vec<String> = names.iter().map(T::to_string).collect();
        (!names.is_empty()).then(|| (name, names.join(",")))
    }
    let mut query =
        vec![("cid", contents.code.root.to_string()), ("blake3", contents.code.blake3.to_string())];
    query.extend(contents.assets.as_ref().map(|assets| ("assets", assets.root.to_string())));
    query.extend(options.reuse.map(|reuse| ("reuse", reuse.to_string())));
    query.extend(options.concurrency.map(|many| ("concurrency", many.to_string())));
    query.extend(options.compress.then(|| ("compress", "true".to_owned())));
    query.extend(options.rate_limit.map(|rate| ("requests_per_second", rate.to_string())));
    query.extend(joined("egress", &options.egress));
    query.extend(joined("stores", &options.stores));
    query.extend(options.preview.then(|| ("preview", "true".to_owned())));
    query
}

/// The rule as the control API reads it, judged here, so that nothing is sent for one that is refused.
fn cors(options: CorsOptions) -> anyhow::Result<Option<(&'static str, String)>> {
    if options.origins.is_empty() {
        return Ok(None);
    }
    let rule = Cors::try_from(Fields {
        origins: options.origins,
        methods: options.methods,
        headers: options.headers,
        exposed_headers: options.exposed,
        credentials: options.credentials,
        max_age: options.max_age,
    })?;
    Ok(Some(("cors", serde_json::to_string(&rule)?)))
}

/// A client that finds `*.localhost` on this machine, as browsers do (RFC 6761 section 6.3), whatever
/// the system's resolver thinks of such names.
fn edge_client(url: &str) -> anyhow::Result<reqwest::Client> {
    let url = url::Url::parse(url).context("the control API told a URL that is none")?;
    let mut client = reqwest::Client::builder().timeout(READY);
    if let Some(host) = url.host_str().filter(|host| host.ends_with(".localhost")) {
        let port = url.port_or_known_default().unwrap_or(80);
        client = client.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).no_proxy();
    }
    Ok(client.build()?)
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
