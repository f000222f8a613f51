//! What stands in a project's file: every member by its name, and nothing else.

use std::fmt::Display;
use std::path::PathBuf;

use af_contract::{FunctionName, HostPattern, RouteTable, Slug, StoreName, Trigger, limits, trigger};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Entries of each list: what a person can look after in one file.
const MOST: usize = 1_000;

/// A function of the project. What is left out is as the command's options have it when they are not given.
#[derive(Debug)]
pub struct FunctionEntry {
    /// Its name in the project.
    pub name: String,
    /// Its route table.
    pub routes: Option<RouteTable>,
    /// When it is called without a request, and where.
    pub triggers: Vec<Trigger>,
    /// The component.
    pub path: Option<PathBuf>,
    /// A folder of files that it may read.
    pub assets: Option<PathBuf>,
    /// Requests that one instance may answer, one after another.
    pub reuse: Option<u32>,
    /// Requests that one instance may work for at the same time.
    pub concurrency: Option<u32>,
    /// Hosts that it may send requests to; empty: any of the public internet.
    pub egress: Vec<HostPattern>,
    /// Stores that it may open besides the default one.
    pub stores: Vec<StoreName>,
    /// A file of its settings.
    pub env_file: Option<PathBuf>,
    /// Whether the component and its files are encrypted before they are sent.
    pub private: bool,
}

/// A site of the project.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteEntry {
    /// The first label of its host name.
    pub slug: String,
    /// The folder of what is built.
    pub dist_dir: PathBuf,
    /// What builds it.
    pub build_command: Option<String>,
}

/// What is wrong, and where.
#[derive(Debug)]
pub struct Fault {
    pub place: String,
    pub error: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    sites: Option<Value>,
    functions: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FunctionDocument {
    name: String,
    r#type: Option<String>,
    routes: Option<Value>,
    triggers: Option<Value>,
    path: Option<PathBuf>,
    assets: Option<PathBuf>,
    reuse: Option<u32>,
    concurrency: Option<u32>,
    #[serde(default)]
    egress: Vec<HostPattern>,
    #[serde(default)]
    stores: Vec<StoreName>,
    env_file: Option<PathBuf>,
    #[serde(default)]
    private: bool,
}

/// Reads the functions and sites of a file.
pub fn document(value: Value) -> Result<(Vec<FunctionEntry>, Vec<SiteEntry>), Fault> {
    if !value.is_object() {
        return Err(Fault::at("the file", "it is no object such as {\"functions\": []}"));
    }
    let document: Document = parse("the file", value)?;
    let mut functions: Vec<FunctionEntry> = Vec::new();
    for (place, value) in list("functions", document.functions)? {
        let entry = function(&place, parse(&place, value)?)?;
        if functions.iter().any(|other| other.name == entry.name) {
            return Err(Fault::at(&format!("{place}.name"), "another function of the file has it, too"));
        }
        functions.push(entry);
    }
    let sites = list("sites", document.sites)?.into_iter().map(|(place, value)| site(&place, value));
    Ok((functions, sites.collect::<Result<_, _>>()?))
}

fn function(place: &str, document: FunctionDocument) -> Result<FunctionEntry, Fault> {
    let at = |member: &str, error: &dyn Display| Fault::at(&format!("{place}.{member}"), error);
    FunctionName::parse(&document.name).map_err(|error| at("name", &error))?;
    if let Some(other) = document.r#type.filter(|kind| kind != "function") {
        return Err(at("type", &format!("{other:?} is not a type; use \"function\"")));
    }
    let routes = document.routes.map(RouteTable::parse).transpose().map_err(|error| at("routes", &error))?;
    let triggers = list(&format!("{place}.triggers"), document.triggers)?;
    let triggers: Vec<Trigger> =
        triggers.into_iter().map(|(place, value)| parse(&place, value)).collect::<Result<_, _>>()?;
    trigger::check(&triggers).map_err(|error| at("triggers", &error))?;
    for (member, given, most) in
        [("reuse", document.reuse, limits::REUSE), ("concurrency", document.concurrency, limits::CONCURRENCY)]
    {
        if let Some(number) = given.filter(|number| !(1..=most).contains(number)) {
            return Err(at(member, &format!("{number} is not from 1 to {most}")));
        }
    }
    Ok(FunctionEntry {
        name: document.name,
        routes: routes.flatten(),
        triggers,
        path: document.path,
        assets: document.assets,
        reuse: document.reuse,
        concurrency: document.concurrency,
        egress: document.egress,
        stores: document.stores,
        env_file: document.env_file,
        private: document.private,
    })
}

fn site(place: &str, value: Value) -> Result<SiteEntry, Fault> {
    let site: SiteEntry = parse(place, value)?;
    Slug::parse(&site.slug).map_err(|error| Fault::at(&format!("{place}.slug"), error))?;
    Ok(site)
}

/// The items of a list, with their places.
fn list(place: &str, value: Option<Value>) -> Result<Vec<(String, Value)>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() > MOST => {
            Err(Fault::at(place, format!("it has {} entries; {MOST} are the most", items.len())))
        }
        Some(Value::Array(items)) => {
            let placed = items.into_iter().enumerate();
            Ok(placed.map(|(index, item)| (format!("{place}[{index}]"), item)).collect())
        }
        Some(_) => Err(Fault::at(place, "it is no array")),
    }
}

fn parse<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, Fault> {
    serde_json::from_value(value).map_err(|error| Fault::at(place, error))
}

impl Fault {
    fn at(place: &str, error: impl ToString) -> Self {
        Self { place: place.to_owned(), error: error.to_string() }
    }
}
