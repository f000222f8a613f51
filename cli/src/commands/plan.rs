//! What is to be deployed: the options of the command line, and where those are not given, the project's file.

use std::path::PathBuf;

use af_contract::cors::Fields;
use af_contract::{ContentId, Cors, HostPattern, RouteTable, Sticky, StoreName, Trigger, trigger};
use anyhow::{Context, bail};

use super::package::Contents;
use crate::args::{Cors as CorsOptions, Deploy};
use crate::project_file::{FunctionEntry, ProjectFile};

/// A deployment that is to be made.
pub struct Plan {
    /// The component.
    pub code: Origin,
    /// A folder of files that it may read.
    pub assets: Option<PathBuf>,
    /// A file of settings.
    pub env_file: Option<PathBuf>,
    /// The function's route table, where the file has one.
    pub routes: Option<RouteTable>,
    /// Whether the function goes on with what it runs.
    pub preview: bool,
    /// Whether all is encrypted before it is sent.
    pub private: bool,
    /// How many clients get it at first.
    pub percent: Option<u8>,
    sticky: Option<Sticky>,
    max_errors: Option<u8>,
    min_requests: Option<u32>,
    allow: bool,
    reuse: Option<u32>,
    concurrency: Option<u32>,
    egress: Vec<HostPattern>,
    stores: Vec<StoreName>,
    triggers: Vec<Trigger>,
    cors: Option<String>,
    compress: bool,
    rate_limit: Option<u32>,
    message: Option<String>,
    source_hash: Option<String>,
}

/// Where a component is.
pub enum Origin {
    /// In a file here.
    File(PathBuf),
    /// Wherever the server finds it.
    Content(ContentId),
}

/// Which function is meant: the given one, else the only one of the file.
pub fn name(given: Option<&str>, file: &ProjectFile) -> anyhow::Result<String> {
    let names =
        || file.functions.iter().map(|function| function.name.as_str()).collect::<Vec<_>>().join(", ");
    match (given, file.functions.as_slice()) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, [only]) => Ok(only.name.clone()),
        (None, []) if file.is_there() => bail!("say which function with --name; {} has none", file.name()),
        (None, []) => bail!("say which function with --name; there is no af.config file here that has one"),
        (None, _) => bail!("say which function with --name; {} has {}", file.name(), names()),
    }
}

impl Plan {
    /// Puts options over an entry of the file.
    pub fn new(options: &Deploy, entry: Option<&FunctionEntry>) -> anyhow::Result<Self> {
        fn list<T: Clone>(given: &[T], entry: Option<&Vec<T>>) -> Vec<T> {
            let entry = entry.filter(|_| given.is_empty());
            entry.map_or_else(|| given.to_vec(), Clone::clone)
        }
        let given = |option: &Option<PathBuf>, entry: Option<&PathBuf>| option.as_ref().or(entry).cloned();
        let path = given(&options.path, entry.and_then(|entry| entry.path.as_ref()));
        let assets = given(&options.assets, entry.and_then(|entry| entry.assets.as_ref()));
        let code = match options.cid {
            Some(_) if assets.is_some() => {
                bail!("assets cannot be sent with --cid; deploy the component as a file with --path")
            }
            Some(cid) => Origin::Content(cid),
            None => Origin::File(
                path.context("say which component to deploy with --path FILE.wasm, or --cid CID")?,
            ),
        };
        let triggers = list(&options.triggers, entry.map(|entry| &entry.triggers));
        trigger::check(&triggers)?;
        Ok(Self {
            code,
            assets,
            env_file: given(&options.env_file, entry.and_then(|entry| entry.env_file.as_ref())),
            routes: entry.and_then(|entry| entry.routes.clone()),
            reuse: options.reuse.or(entry.and_then(|entry| entry.reuse)),
            concurrency: options.concurrency.or(entry.and_then(|entry| entry.concurrency)),
            egress: list(&options.egress, entry.map(|entry| &entry.egress)),
            stores: list(&options.stores, entry.map(|entry| &entry.stores)),
            triggers,
            cors: cors(&options.cors)?,
            compress: options.compress,
            rate_limit: options.rate_limit,
            message: options.message.clone(),
            source_hash: options.source_hash.clone(),
            preview: options.preview,
            percent: options.share.percent,
            max_errors: options.share.guard.max_errors,
            min_requests: options.share.guard.min_requests,
            allow: options.allow,
            sticky: options.share.sticky.clone(),
            private: options.private || entry.is_some_and(|entry| entry.private),
        })
    }

    /// What the control API has to know of it.
    pub fn query(&self, contents: &Contents) -> anyhow::Result<Vec<(&'static str, String)>> {
        fn joined<T: ToString>(name: &'static str, names: &[T]) -> Option<(&'static str, String)> {
            let names: Vec<String> = names.iter().map(T::to_string).collect();
            (!names.is_empty()).then(|| (name, names.join(",")))
        }
        let mut query = vec![("cid", contents.code.to_string())];
        query.push(match contents.blake3 {
            Some(blake3) => ("blake3", blake3.to_string()),
            None => ("fetch", "true".to_owned()),
        });
        query.extend(contents.assets.as_ref().map(|assets| ("assets", assets.root.to_string())));
        query.extend(self.reuse.map(|reuse| ("reuse", reuse.to_string())));
        query.extend(self.concurrency.map(|many| ("concurrency", many.to_string())));
        query.extend(joined("egress", &self.egress));
        query.extend(joined("stores", &self.stores));
        query.extend(self.cors.clone().map(|cors| ("cors", cors)));
        query.extend(self.compress.then(|| ("compress", "true".to_owned())));
        query.extend(self.rate_limit.map(|rate| ("requestsPerSecond", rate.to_string())));
        query.extend(self.message.clone().map(|message| ("message", message)));
        query.extend(self.source_hash.clone().map(|hash| ("sourceHash", hash)));
        query.extend(self.preview.then(|| ("preview", "true".to_owned())));
        query.extend(self.max_errors.map(|most| ("maxErrors", most.to_string())));
        query.extend(self.min_requests.map(|least| ("minRequests", least.to_string())));
        query.extend(self.allow.then(|| ("allow", "true".to_owned())));
        query.extend(self.percent.map(|percent| ("percent", percent.to_string())));
        query.extend(self.sticky.as_ref().map(|sticky| ("sticky", sticky.to_string())));
        if !self.triggers.is_empty() {
            query.push(("triggers", serde_json::to_string(&self.triggers)?));
        }
        Ok(query)
    }
}

/// The rule as the control API reads it, judged here, so that nothing is sent for one that is refused.
fn cors(options: &CorsOptions) -> anyhow::Result<Option<String>> {
    if options.origins.is_empty() {
        return Ok(None);
    }
    let rule = Cors::try_from(Fields {
        origins: options.origins.clone(),
        methods: options.methods.clone(),
        headers: options.headers.clone(),
        exposed_headers: options.exposed.clone(),
        credentials: options.credentials,
        max_age: options.max_age,
    })?;
    Ok(Some(serde_json::to_string(&rule)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use clap::Parser;

    use super::*;

    fn component(plan: &Plan) -> Option<&str> {
        match &plan.code {
            Origin::File(path) => path.to_str(),
            Origin::Content(_) => None,
        }
    }
    use crate::args::{Args, Command, Functions};

    fn options(more: &[&str]) -> Deploy {
        let args = Args::try_parse_from(["af", "functions", "deploy"].iter().chain(more)).unwrap();
        match args.command {
            Command::Functions(Functions::Deploy(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    async fn file(text: &str) -> ProjectFile {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("af.config.json"), text).unwrap();
        ProjectFile::find(dir.path()).await.unwrap()
    }

    #[tokio::test]
    async fn the_command_line_has_the_last_word() {
        let file = file(
            r#"{"functions": [{"name": "api", "path": "a.wasm", "reuse": 8, "egress": ["a.example"],
                "stores": ["one"], "triggers": [{"cron": "@hourly", "path": "/file"}], "envFile": ".env"}]}"#,
        );
        let file = file.await;
        let entry = file.function("api");
        let plan = Plan::new(&options(&[]), entry).unwrap();
        assert_eq!((component(&plan), plan.reuse, plan.concurrency), (Some("a.wasm"), Some(8), None));
        assert_eq!((plan.egress.len(), plan.triggers[0].to_string()), (1, "@hourly=/file".into()));
        assert_eq!(plan.env_file.unwrap().to_str(), Some(".env"));

        let given = ["--path", "b.wasm", "--reuse", "2", "--concurrency", "3", "--egress", "b.example"];
        let given = [given.as_slice(), &["--cron", "*/5 * * * *=/a?b=c", "--cron", "@daily=/b"]].concat();
        let plan = Plan::new(&options(&given), entry).unwrap();
        assert_eq!((component(&plan), plan.reuse, plan.concurrency), (Some("b.wasm"), Some(2), Some(3)));
        assert_eq!(plan.egress[0].to_string(), "b.example");
        assert_eq!(plan.stores[0].to_string(), "one", "what is not given is the file's");
        assert_eq!(
            plan.triggers.iter().map(Trigger::to_string).collect::<Vec<_>>(),
            ["*/5 * * * *=/a?b=c", "@daily=/b"]
        );
        assert!(Plan::new(&options(&[]), None).is_err(), "no component");
    }

    #[tokio::test]
    async fn without_a_name_the_only_function_is_meant() {
        let one = file(r#"{"functions": [{"name": "api"}]}"#).await;
        assert_eq!(name(None, &one).unwrap(), "api");
        assert_eq!(name(Some("other"), &one).unwrap(), "other");
        let two = file(r#"{"functions": [{"name": "api"}, {"name": "web"}]}"#).await;
        for (file, said) in [
            (&two, "say which function with --name; af.config.json has api, web"),
            (&file("{}").await, "say which function with --name; af.config.json has none"),
            (
                &ProjectFile::default(),
                "say which function with --name; there is no af.config file here that has one",
            ),
        ] {
            assert_eq!(name(None, file).unwrap_err().to_string(), said);
        }
    }
}
