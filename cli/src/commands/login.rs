//! `af login` and `af whoami`.

mod terminal;

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::args::login::{Login, LoginCommand};
use crate::client::{Api, ApiError, text};
use crate::config::{Config, Environment, Server, Session, clean_url};
use crate::output::Output;

/// Gets a token or takes the given one, checks it and stores it; or signs in another terminal.
pub async fn login(options: Login, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    if let Some(LoginCommand::Approve(options)) = &options.command {
        return terminal::approve(options, environment, output).await;
    }
    let api_url = match &options.api_url {
        Some(url) => clean_url(url)?,
        None => Session::open(environment)?.api_url,
    };
    let (token, is_new) = match options.token {
        Some(token) => (token, false),
        None if options.browser || std::io::stdin().is_terminal() => {
            // Before anybody approves a token that could not be kept.
            Config::check_writable(environment)?;
            let token = terminal::token(&api_url, output).await?;
            // It was made for this, and is shown to nobody again: whatever comes next, it is kept.
            Config::sign_in(environment, &api_url, Server { token: token.clone(), project_id: None })?;
            (token, true)
        }
        None => (read_token()?, false),
    };
    let server = Server { token, project_id: options.project.or(environment.project.clone()) };
    let api = Api::with(Session { api_url: api_url.clone(), server: Some(server.clone()) })?;
    let kept = |result| told(result, is_new.then_some(api_url.as_str()));
    let me = kept(api.get("/v1/me").await)?;
    let project = match &server.project_id {
        Some(id) => {
            let project = kept(api.get(&format!("/v1/projects/{id}")).await)?;
            Some(text(&project, "id").to_owned())
        }
        None => match api.project().await {
            Err(ApiError::Project(_)) if is_new => None,
            project => Some(project.context("add --project ID to this command")?),
        },
    };
    let server = Server { project_id: project.clone(), ..server };
    let path = Config::sign_in(environment, &api_url, server)?;
    let value = json!({ "apiUrl": api_url, "user": me, "projectId": project });
    let project = match project {
        Some(project) => format!(", project {project}"),
        None => ", without a project; choose one with AF_PROJECT_ID".to_owned(),
    };
    let name = text(&me, "name");
    output
        .result(&value, &format!("signed in to {api_url} as {name}{project}\nstored in {}", path.display()));
    Ok(())
}

/// What a server answered; where it is an error, with what is stored nonetheless.
fn told(answer: Result<Value, ApiError>, signed_in_to: Option<&str>) -> anyhow::Result<Value> {
    match (answer, signed_in_to) {
        (Err(error), Some(url)) => {
            Err(error).with_context(|| format!("you are signed in to {url}, but without a project"))
        }
        (answer, _) => Ok(answer?),
    }
}

/// Shows the session that other commands use.
pub async fn whoami(environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    let me = api.get("/v1/me").await?;
    let project = match api.project().await {
        Ok(project) => Some(project),
        // Who one is, one may ask without having chosen a project.
        Err(ApiError::NoProject | ApiError::Project(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let value = json!({ "apiUrl": api.url(), "user": me, "projectId": project });
    let chosen =
        "none; `af projects list` shows yours, AF_PROJECT_ID chooses one, `af projects create` makes one";
    let fields = [
        ("user", format!("{} ({})", text(&me, "name"), text(&me, "id"))),
        ("project", project.unwrap_or_else(|| chosen.to_owned())),
        ("control API", api.url().to_owned()),
    ];
    output.result(&value, &output.fields(&fields));
    Ok(())
}

fn read_token() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the token")?;
    let token = line.trim();
    if token.is_empty() {
        bail!(
            "no token was given; pass --token TOKEN, write it to standard input, or sign in with --browser"
        );
    }
    Ok(token.to_owned())
}
