//! `af domains …`

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::functions;
use super::named::{self, FUNCTION, SITE};
use crate::args::domains::{Add, Certificate, Domains, Hostname, Owner, Update, Verify};
use crate::client::{Api, ApiError, text};
use crate::config::Environment;
use crate::output::Output;

/// How long `verify --wait` goes on. DNS records are seen after minutes, mostly.
const WAIT: Duration = Duration::from_secs(3600);

/// Between two checks of `verify --wait`: fewer than the control API allows.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs one of the subcommands.
pub async fn run(command: Domains, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Domains::Add(options) => add(&api, options, output).await,
        Domains::Verify(options) => verify(&api, &options, output).await,
        Domains::List => list(&api, output).await,
        Domains::Get(options) => get(&api, &options, output).await,
        Domains::Update(options) => update(&api, options, output).await,
        Domains::Certificate(options) => certificate(&api, &options, output).await,
        Domains::Remove(options) => remove(&api, &options, output).await,
    }
}

async fn add(api: &Api, options: Add, output: &Output) -> anyhow::Result<()> {
    let Some((field, owner)) = owner(api, &options.owner).await? else {
        bail!("say what is to answer there with --function NAME");
    };
    let path = format!("/v1/projects/{}/domains", api.project().await?);
    let body =
        json!({ "hostname": options.name.hostname, field: owner, "verificationMethod": options.method });
    let domain = api.send(Method::POST, &path, &body).await?;
    let message = format!("added {}\n\n{}", text(&domain, "hostname"), next(&domain, output));
    output.result(&domain, &message);
    Ok(())
}

async fn verify(api: &Api, options: &Verify, output: &Output) -> anyhow::Result<()> {
    let id = id_of(api, &options.name).await?;
    let started = Instant::now();
    loop {
        let checked = api.send(Method::POST, &format!("/v1/domains/{id}/verify"), &Value::Null).await;
        let wait = options.wait && started.elapsed() < WAIT;
        match checked {
            Ok(domain)
                if is_verified(&domain) && domain.get("verificationError").is_none_or(Value::is_null) =>
            {
                let name = text(&domain, "hostname");
                output.result(&domain, &format!("{name} is verified\n\n{}", next(&domain, output)));
                return Ok(());
            }
            Ok(domain) if !wait => {
                bail!(
                    "{} is not verified: {}",
                    text(&domain, "hostname"),
                    text(&domain, "verificationError")
                );
            }
            Err(ApiError::Problem(problem)) if wait && problem.status == 429 => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        sleep(PAUSE).await;
    }
}

async fn list(api: &Api, output: &Output) -> anyhow::Result<()> {
    let mut domains = api.list(&format!("/v1/projects/{}/domains", api.project().await?)).await?;
    for domain in &mut domains {
        let owner = ["functionId", "siteId"].map(|field| text(domain, field)).concat();
        if let Some(fields) = domain.as_object_mut() {
            fields.insert("owner".into(), owner.into());
        }
    }
    let columns = [
        ("DOMAIN", "hostname"),
        ("LEADS TO", "owner"),
        ("METHOD", "verificationMethod"),
        ("STATUS", "verificationStatus"),
        ("TLS", "sslStatus"),
    ];
    output.table(
        &domains,
        &columns,
        "no domains yet; add one with `af domains add NAME --function FUNCTION`",
    );
    Ok(())
}

async fn get(api: &Api, options: &Hostname, output: &Output) -> anyhow::Result<()> {
    let domain = find(api, &options.hostname).await?;
    let field = |name: &str| text(&domain, name).to_owned();
    let mut fields = vec![
        ("domain", field("hostname")),
        ("id", field("id")),
        ("leads to", field("functionId") + &field("siteId")),
        ("status", format!("{} by {}", field("verificationStatus"), field("verificationMethod"))),
        ("TLS", field("sslStatus")),
    ];
    if !field("verificationError").is_empty() {
        fields.push(("last check", field("verificationError")));
    }
    output.result(&domain, &format!("{}\n\n{}", output.fields(&fields), next(&domain, output)));
    Ok(())
}

async fn update(api: &Api, options: Update, output: &Output) -> anyhow::Result<()> {
    let mut change = Map::new();
    if let Some((field, owner)) = owner(api, &options.owner).await? {
        change.insert(field.into(), owner.into());
    }
    change.extend(options.method.map(|method| ("verificationMethod".to_owned(), method.into())));
    if change.is_empty() {
        bail!("nothing to change; give --function or --method");
    }
    let id = id_of(api, &options.name).await?;
    let domain = api.send(Method::PATCH, &format!("/v1/domains/{id}"), &change.into()).await?;
    let message = format!("updated {}\n\n{}", text(&domain, "hostname"), next(&domain, output));
    output.result(&domain, &message);
    Ok(())
}

async fn certificate(api: &Api, options: &Certificate, output: &Output) -> anyhow::Result<()> {
    let (Some(chain), Some(key)) = (&options.cert, &options.key) else {
        let path = format!("/v1/domains/{}/certificate", id_of(api, &options.name).await?);
        let domain = api.delete(&path).await?;
        let message = format!("{} has no certificate of its own any more", text(&domain, "hostname"));
        output.result(&domain, &message);
        return Ok(());
    };
    let body = json!({ "chain": read(chain)?, "key": read(key)? });
    let path = format!("/v1/domains/{}/certificate", id_of(api, &options.name).await?);
    let domain = api.send(Method::PUT, &path, &body).await?;
    let until = domain.get("certificateExpiresAt").and_then(Value::as_i64).unwrap_or_default();
    let message = format!(
        "{} uses your certificate, which is good until {}",
        text(&domain, "hostname"),
        functions::utc(until)
    );
    output.result(&domain, &message);
    Ok(())
}

async fn remove(api: &Api, options: &Hostname, output: &Output) -> anyhow::Result<()> {
    let domain = find(api, &options.hostname).await?;
    let (id, name) = (text(&domain, "id"), text(&domain, "hostname"));
    api.delete(&format!("/v1/domains/{id}")).await?;
    let message = format!("removed {name}; remove its DNS records too");
    output.result(&json!({ "deleted": id, "hostname": name }), &message);
    Ok(())
}

/// The field and id of what is to answer, if it is given.
async fn owner(api: &Api, options: &Owner) -> anyhow::Result<Option<(&'static str, String)>> {
    let (field, kind, name) = match (&options.function, &options.site) {
        (Some(name), _) => ("functionId", FUNCTION, name),
        (None, Some(name)) => ("siteId", SITE, name),
        (None, None) => return Ok(None),
    };
    let owner = named::find(api, kind, name).await?;
    Ok(Some((field, text(&owner, "id").to_owned())))
}

async fn id_of(api: &Api, name: &Hostname) -> anyhow::Result<String> {
    Ok(text(&find(api, &name.hostname).await?, "id").to_owned())
}

/// The project's domain with this name or id.
async fn find(api: &Api, name: &str) -> anyhow::Result<Value> {
    if name.starts_with("dom_") {
        return Ok(api.get(&format!("/v1/domains/{name}")).await?);
    }
    let project = api.project().await?;
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let mut found = api.list(&format!("/v1/projects/{project}/domains?hostname={encoded}")).await?;
    match found.pop() {
        Some(domain) => Ok(domain),
        None => bail!("the project has no domain {name:?}; `af domains list` shows what there is"),
    }
}

/// The DNS records to make, and the command that comes after them.
fn next(domain: &Value, output: &Output) -> String {
    let verified = is_verified(domain);
    let records = domain.get("records").and_then(Value::as_array).into_iter().flatten();
    let wanted = records.filter(|record| !verified || text(record, "purpose") == "TRAFFIC");
    let line = |record: &Value| {
        let purpose = match text(record, "purpose") {
            "TRAFFIC" => "leads requests here",
            _ => "proves that the name is yours; keep it",
        };
        let (kind, name, value) = (text(record, "type"), text(record, "name"), text(record, "value"));
        format!("  {}  {value}   ({purpose})", output.bold(&format!("{name}  {kind}")))
    };
    let records = wanted.map(line).collect::<Vec<_>>().join("\n");
    let name = text(domain, "hostname");
    match verified {
        false => format!("DNS records to make:\n{records}\n\nnext: af domains verify '{name}' --wait"),
        true if records.is_empty() => format!("requests to {name} are answered"),
        true => {
            format!("requests are answered here with this DNS record, if it is not there yet:\n{records}")
        }
    }
}

fn is_verified(domain: &Value) -> bool {
    domain.get("verified") == Some(&Value::Bool(true))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
