//! `af login` and `af whoami`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::json;

use crate::args::Login;
use crate::client::{Api, text};
use crate::config::{Config, Environment, Server, Session, clean_url};
use crate::output::Output;

/// Checks a token and stores it.
pub async fn login(options: Login, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api_url = match options.api_url {
        Some(url) => clean_url(&url)?,
        None => Session::open(environment)?.api_url,
    };
    let token = match options.token {
        Some(token) => token,
        None => read_token(&api_url)?,
    };
    let server = Server { token, project_id: options.project.or(environment.project.clone()) };
    let api = Api::with(Session { api_url: api_url.clone(), server: Some(server.clone()) })?;
    let me = api.get("/v1/me").await?;
    let project = match &server.project_id {
        Some(id) => text(&api.get(&format!("/v1/projects/{id}")).await?, "id").to_owned(),
        None => api.project().await.context("add --project ID to this command")?,
    };
    let server = Server { project_id: Some(project.clone()), ..server };
    let path = Config::sign_in(environment, &api_url, server)?;
    let value = json!({ "apiUrl": api_url, "user": me, "projectId": project });
    let name = text(&me, "name");
    output.result(
        &value,
        &format!("signed in to {api_url} as {name}, project {project}\nstored in {}", path.display()),
    );
    Ok(())
}

/// Shows the session that other commands use.
pub async fn whoami(environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    let me = api.get("/v1/me").await?;
    let project = api.project().await?;
    let value = json!({ "apiUrl": api.url(), "user": me, "projectId": project });
    let fields = [
        ("user", format!("{} ({})", text(&me, "name"), text(&me, "id"))),
        ("project", project),
        ("control API", api.url().to_owned()),
    ];
    output.result(&value, &output.fields(&fields));
    Ok(())
}

fn read_token(api_url: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        write!(std::io::stderr(), "token for {api_url}: ")?;
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the token")?;
    let token = line.trim();
    if token.is_empty() {
        bail!("no token was given; pass --token TOKEN, or write it to standard input");
    }
    Ok(token.to_owned())
}
