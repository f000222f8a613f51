//! `af projects …`

use std::time::Duration;

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::quotas;
use crate::args::projects::{One, Projects, Update};
use crate::client::{Api, text};
use crate::config::Environment;
use crate::output::Output;

/// Runs one of the subcommands.
pub async fn run(command: Projects, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Projects::List => {
            let projects = api.list("/v1/projects").await?;
            output.table(&projects, &[("ID", "id"), ("NAME", "name")], "no projects");
            Ok(())
        }
        Projects::Get(one) => {
            let project = api.get(&path(&api, &one).await?).await?;
            let mut fields =
                vec![("name", text(&project, "name").to_owned()), ("id", text(&project, "id").to_owned())];
            fields.extend(kept(&project));
            output.result(&project, &output.fields(&fields));
            Ok(())
        }
        Projects::Create(options) => {
            let new = json!({ "name": options.name, "organizationId": options.org });
            let made = api.send(Method::POST, "/v1/projects", &new).await?;
            let id = text(&made, "id");
            output.result(
                &made,
                &format!("created {id}\nnext: set AF_PROJECT_ID={id} to work in it, where you have several"),
            );
            Ok(())
        }
        Projects::Delete { project } => {
            api.delete(&format!("/v1/projects/{project}")).await?;
            output.result(&json!({ "deleted": project }), &format!("deleted {project}"));
            Ok(())
        }
        Projects::Update(options) => update(&api, options, output).await,
        Projects::Quotas(one) => quotas::show(&api, &path(&api, &one).await?, output).await,
    }
}

async fn update(api: &Api, options: Update, output: &Output) -> anyhow::Result<()> {
    let mut change = options.keep.change();
    change.extend(options.name.map(|name| ("name".to_owned(), name.into())));
    if change.is_empty() {
        bail!("nothing to change; give --name, --keep or --keep-for");
    }
    let project = api.send(Method::PATCH, &path(api, &options.one).await?, &change.into()).await?;
    output.result(&project, &format!("updated {}: {}", text(&project, "id"), text(&project, "name")));
    Ok(())
}

async fn path(api: &Api, one: &One) -> anyhow::Result<String> {
    Ok(match &one.project {
        Some(id) => format!("/v1/projects/{id}"),
        None => format!("/v1/projects/{}", api.project().await?),
    })
}

/// Which deployments a function or a project's functions keep, as far as that is said there.
pub fn kept(of: &Value) -> Vec<(&'static str, String)> {
    let number = |name: &str| of.get(name).and_then(Value::as_u64);
    let newest = number("keep").map(|newest| ("keeps", format!("the newest {newest} deployments")));
    let seconds = number("keepForSeconds").map(|seconds| {
        let age = humantime::format_duration(Duration::from_secs(seconds));
        ("keeps also", format!("what is younger than {age}"))
    });
    newest.into_iter().chain(seconds).collect()
}
