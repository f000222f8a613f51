//! `af env …` and `af secrets …`

use std::io::{IsTerminal, Read};

use af_contract::{SettingName, SettingValue, Settings, limits};
use anyhow::{Context, bail};
use console::Term;
use reqwest::Method;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::functions::utc;
use super::live::{Live, wait_until_active};
use super::named::{FUNCTION, find};
use super::settings;
use crate::args::secrets::{Change, Env, Of, Secrets};
use crate::client::{Api, ApiError, text};
use crate::config::Environment;
use crate::output::Output;

/// Runs one of the subcommands of `af env`.
pub async fn env(command: Env, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Env::List(of) => list(&api, &of, "settings", output).await,
        Env::Set(options) => {
            let given = given(options.settings, "settings")?;
            change(&api, &options.change, "settings", given, output).await
        }
        Env::Unset(options) => {
            change(&api, &options.change, "settings", unset(&options.names)?, output).await
        }
    }
}

/// Runs one of the subcommands of `af secrets`.
pub async fn secrets(command: Secrets, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Secrets::List(of) => list(&api, &of, "secrets", output).await,
        Secrets::Set(options) => {
            if let Some(pair) = options.names.iter().find(|name| name.contains('=')) {
                let name = pair.split('=').next().unwrap_or_default();
                bail!(
                    "give the name of the secret alone, {name:?}: its value is asked for, or read from standard input, so that it is not in the shell's history; this one may be there now"
                );
            }
            let given = given(options.names, "secrets")?;
            change(&api, &options.change, "secrets", given, output).await
        }
        Secrets::Unset(options) => {
            change(&api, &options.change, "secrets", unset(&options.names)?, output).await
        }
        Secrets::Import(options) => {
            let all = values(settings::read_file(&options.file)?);
            if all.is_empty() {
                bail!("{} has no secrets", settings::shown(&options.file));
            }
            change(&api, &options.change, "secrets", all, output).await
        }
    }
}

async fn list(api: &Api, of: &Of, kind: &str, output: &Output) -> anyhow::Result<()> {
    let mut items = api.list(&path(api, of, kind).await?).await?;
    for item in &mut items {
        let updated = item.get("updatedAt").and_then(Value::as_i64).unwrap_or_default();
        let from = if text(item, "ownerId").starts_with("prj_") { "project" } else { "function" };
        if let Some(fields) = item.as_object_mut() {
            fields.insert("from".into(), from.into());
            fields.insert("updated".into(), utc(updated).into());
        }
    }
    let mut columns = vec![("NAME", "name"), ("FROM", "from"), ("BY", "author"), ("SET", "updated")];
    if kind == "settings" {
        columns.insert(1, ("VALUE", "value"));
    }
    let command = if kind == "settings" { "env" } else { "secrets" };
    output.table(&items, &columns, &format!("no {kind} yet; set one with `af {command} set NAME`"));
    Ok(())
}

/// Sends a change, and returns when each function that it concerns answers with it.
async fn change(
    api: &Api,
    change: &Change,
    kind: &str,
    values: Map<String, Value>,
    output: &Output,
) -> anyhow::Result<()> {
    let body = json!({ "values": values, "message": change.message });
    let done = api.send(Method::PATCH, &path(api, &change.of, kind).await?, &body).await?;
    let changed = list_of(&done, "changed");
    let mut said = match changed.as_slice() {
        [] => "nothing to change".to_owned(),
        changed => format!("changed {}", changed.join(", ")),
    };
    if kind == "settings" {
        let secret = still_secret(api, &change.of, &changed).await?;
        said.extend(
            secret
                .iter()
                .map(|name| format!("\n{name} is a secret and stays one: nobody is shown its value")),
        );
    }
    for deployment in done.get("deployments").and_then(Value::as_array).into_iter().flatten() {
        let name = text(deployment, "functionName");
        let number = deployment.get("number").and_then(Value::as_i64).unwrap_or_default();
        if text(deployment, "status") == "ACTIVE" {
            let (url, live) = (text(deployment, "invokeUrl"), Live::manifest(deployment));
            let live = wait_until_active(api, url, &live, deployment).await;
            live.with_context(|| format!("{name} has deployment {number} with it"))?;
            said.push_str(&format!("\n{name} runs deployment {number} with it"));
        } else {
            said.push_str(&format!("\n{name} has deployment {number} with it, and is switched off"));
        }
    }
    output.result(&done, &said);
    Ok(())
}

/// Which of these names are of secrets: one that is set as a setting is none for it.
async fn still_secret(api: &Api, of: &Of, names: &[&str]) -> anyhow::Result<Vec<String>> {
    let secrets = match api.list(&path(api, of, "secrets").await?).await {
        Ok(secrets) => secrets,
        // A token that may write only cannot ask.
        Err(ApiError::Problem(problem)) if problem.status == 403 => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let names = secrets.iter().map(|secret| text(secret, "name")).filter(|name| names.contains(name));
    Ok(names.map(str::to_owned).collect())
}

async fn path(api: &Api, of: &Of, kind: &str) -> anyhow::Result<String> {
    Ok(match &of.name {
        Some(name) => format!("/v1/functions/{}/{kind}", text(&find(api, FUNCTION, name).await?, "id")),
        None => format!("/v1/projects/{}/{kind}", api.project().await?),
    })
}

/// Values as they were given, or typed, or sent.
fn given(names: Vec<String>, kind: &str) -> anyhow::Result<Map<String, Value>> {
    let asked = names.iter().filter(|name| !name.contains('=')).count();
    let stdin = std::io::stdin();
    if asked > 1 && !stdin.is_terminal() {
        bail!(
            "standard input has the value of one name only; import several {kind} from a file in dotenv format"
        );
    }
    let mut values = Map::new();
    for name in names {
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (SettingName::parse(name)?, value.to_owned()),
            None => {
                let name = SettingName::parse(&name)?;
                let value = ask(&name)?;
                (name, value)
            }
        };
        values.insert(name.to_string(), Value::String(value));
    }
    Ok(values)
}

/// A value that nobody sees: typed without being shown, or all of standard input without the last line's end.
fn ask(name: &SettingName) -> anyhow::Result<String> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        let terminal = Term::stderr();
        terminal.write_str(&format!("value of {name} (not shown): "))?;
        return Ok(terminal.read_secure_line()?);
    }
    let mut value = Zeroizing::new(String::new());
    let most = u64::try_from(limits::SETTING_BYTES)? + 3;
    stdin.by_ref().take(most).read_to_string(&mut value).context("standard input is no text")?;
    let text = value.strip_suffix('\n').unwrap_or(&value);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        bail!("standard input has no value for {name}");
    }
    Ok(text.to_owned())
}

fn values(settings: Settings) -> Map<String, Value> {
    let text = |value: &SettingValue| Value::String(value.reveal().to_owned());
    settings.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn unset(names: &[String]) -> anyhow::Result<Map<String, Value>> {
    names.iter().map(|name| Ok((SettingName::parse(name)?.to_string(), Value::Null))).collect()
}

fn list_of<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    value.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}
