//! Where the master key is, and `af admin rotate-master-key`.

use std::path::Path;

use af_control_api::MasterKey;
use af_control_api::domain::rotation::Rotation;
use af_control_api::providers::{Infisical, InfisicalConfig, master_key};
use anyhow::{Context, bail};
use serde_json::json;

use super::admin::{is_there, kept};
use crate::args::admin::Rotate;
use crate::args::master_key::Source;
use crate::config::{Environment, INFISICAL_CLIENT_ID, INFISICAL_CLIENT_SECRET, MASTER_KEY};
use crate::output::Output;

/// Seals everything with the next master key.
pub async fn rotate(options: Rotate, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let (data, database) = kept(&options.kept, environment)?;
    is_there(&database)?;
    let key = find(&options.master_key, environment, &data).await?;
    let sealed = Rotation::begin(&database, &key).await?.finish().await?;
    let value = json!({ "sealed": sealed });
    let next = match key {
        MasterKey::File(path) => format!(
            "{} has the new key; backups from before need the old one, so keep it with them if you have it",
            path.display()
        ),
        MasterKey::Given { .. } => "servers need the previous key no longer".to_owned(),
    };
    output.result(&value, &format!("{sealed} keys are sealed with the new master key\n{next}"));
    Ok(())
}

/// The key of Infisical, of the environment, or of a file.
pub async fn find(options: &Source, environment: &Environment, data: &Path) -> anyhow::Result<MasterKey> {
    let given = !environment.master_key.0.is_empty();
    if let (Some(url), Some(project)) = (&options.infisical_url, &options.infisical_project) {
        if given {
            bail!("the master key comes from {MASTER_KEY} or from Infisical, not from both; leave one out");
        }
        let Some((client_id, client_secret)) = environment.infisical.clone() else {
            bail!("set {INFISICAL_CLIENT_ID} and {INFISICAL_CLIENT_SECRET} to those of a machine identity")
        };
        let config = InfisicalConfig {
            url: url.clone(),
            project: project.clone(),
            environment: options.infisical_environment.clone(),
            path: options.infisical_path.clone(),
            client_id,
            client_secret,
        };
        let key = master_key(&Infisical::new(config)?, MASTER_KEY).await;
        return key.context("the master key cannot be had from Infisical");
    }
    match &options.master_key_file {
        Some(_) if given => {
            bail!("the master key comes from {MASTER_KEY} or from a file, not from both; leave one out")
        }
        Some(path) => Ok(path.clone().into()),
        None if given => master_key(&environment.master_key, MASTER_KEY).await.context("in the environment"),
        None => Ok(data.join("master.key").into()),
    }
}
