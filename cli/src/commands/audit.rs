//! `af audit`: who did what.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::admin::refuse_overwriting;
use super::functions::utc;
use crate::args::audit::Audit;
use crate::client::Api;
use crate::config::Environment;
use crate::output::Output;

/// One JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// Runs `af audit`.
pub async fn audit(options: Audit, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    let path = match (&options.organization, &options.project) {
        (Some(organization), _) => format!("/v1/organizations/{organization}/audit"),
        (None, Some(project)) => format!("/v1/projects/{project}/audit"),
        (None, None) => format!("/v1/projects/{}/audit", api.project().await?),
    };
    match &options.export {
        Some(file) => {
            refuse_overwriting(file, options.replace)?;
            export(&api, &path, file, output).await
        }
        None => show(&api, &path, options.limit, output).await,
    }
}

async fn show(api: &Api, path: &str, limit: u32, output: &Output) -> anyhow::Result<()> {
    let mut entries = api.list_up_to(path, usize::try_from(limit)?).await?;
    for entry in &mut entries {
        let when = entry.get("at").and_then(Value::as_i64).map(utc);
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("when".into(), json!(when));
        }
    }
    let columns = [
        ("WHEN", "when"),
        ("USER", "userId"),
        ("TOKEN", "tokenId"),
        ("ACTION", "action"),
        ("OUTCOME", "outcome"),
        ("TARGET", "target"),
        ("ADDRESS", "address"),
    ];
    output.table(&entries, &columns, "nothing was done yet");
    Ok(())
}

/// All of it goes to a file beside, which takes the place of `file` when it is whole.
async fn export(api: &Api, path: &str, file: &Path, output: &Output) -> anyhow::Result<()> {
    let mut response = api.download_as(path, NDJSON).await?;
    let mut name = file.file_name().context("--export needs the name of a file")?.to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let cannot = || format!("cannot write {}", file.display());
    let mut writer = File::create(&part).await.with_context(cannot)?;
    let mut entries = 0_usize;
    while let Some(chunk) = response.chunk().await.context("the export broke off; try again")? {
        entries += chunk.iter().filter(|byte| **byte == b'\n').count();
        writer.write_all(&chunk).await.with_context(cannot)?;
    }
    writer.sync_all().await.with_context(cannot)?;
    tokio::fs::rename(&part, file).await.with_context(cannot)?;
    let said = json!({ "exported": entries, "file": file });
    output.result(&said, &format!("{entries} entries are in {}", file.display()));
    Ok(())
}
