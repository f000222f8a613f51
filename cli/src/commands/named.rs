//! Finds what a user names: functions and sites, by name or id.

use serde_json::Value;

use crate::client::{Api, Finding, text};
use crate::output::Output;

/// What can be named.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    noun: &'static str,
    /// As in paths and commands.
    pub plural: &'static str,
    /// Of its ids.
    prefix: &'static str,
}

/// A function.
pub const FUNCTION: Kind = Kind { noun: "function", plural: "functions", prefix: "fn_" };

/// A site.
pub const SITE: Kind = Kind { noun: "site", plural: "sites", prefix: "site_" };

/// The one with this name or id, or `None`.
pub async fn lookup(api: &Api, kind: Kind, name: &str) -> anyhow::Result<Option<Value>> {
    let Kind { plural, prefix, .. } = kind;
    if name.starts_with(prefix) {
        return Ok(Some(api.get(&format!("/v1/{plural}/{name}")).await?));
    }
    let project = api.project().await?;
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let mut found = api.list(&format!("/v1/projects/{project}/{plural}?name={name}")).await?;
    Ok(found.pop())
}

/// The one with this name or id; a name that is not there gets the closest one that is.
pub async fn find(api: &Api, kind: Kind, name: &str) -> anyhow::Result<Value> {
    if let Some(found) = lookup(api, kind, name).await? {
        return Ok(found);
    }
    let Kind { noun, plural, .. } = kind;
    let all = api.list(&format!("/v1/projects/{}/{plural}", api.project().await?)).await?;
    let names = all.iter().map(|item| text(item, "name"));
    let closest =
        names.max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let detail = match closest.filter(|closest| strsim::jaro_winkler(name, closest) > 0.8) {
        Some(closest) => format!("there is no {noun} named {name:?}; did you mean {closest:?}?"),
        None => format!("there is no {noun} named {name:?}; `af {plural} list` shows what there is"),
    };
    Err(Finding::new("not_found", detail).with("name", name).into())
}

/// The path of the one with this name or id. An id is not looked up: who may see what is used may not see everything else.
pub async fn path(api: &Api, kind: Kind, name: &str) -> anyhow::Result<String> {
    let Kind { plural, prefix, .. } = kind;
    if name.starts_with(prefix) {
        let id: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        return Ok(format!("/v1/{plural}/{id}"));
    }
    Ok(format!("/v1/{plural}/{}", text(&find(api, kind, name).await?, "id")))
}

/// Deletes the one with this name or id, and tells what went with it.
pub async fn delete(api: &Api, kind: Kind, name: &str, output: &Output) -> anyhow::Result<()> {
    let found = find(api, kind, name).await?;
    let id = text(&found, "id");
    let deleted = api.delete(&format!("/v1/{}/{id}", kind.plural)).await?;
    let domains = deleted.get("domains").and_then(Value::as_array).into_iter().flatten();
    let domains: Vec<&str> = domains.filter_map(Value::as_str).collect();
    let with = if domains.is_empty() { String::new() } else { format!(" and {}", domains.join(", ")) };
    output.result(&deleted, &format!("deleted {id}{with}"));
    Ok(())
}
