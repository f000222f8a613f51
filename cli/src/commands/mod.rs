//! One module a command.

mod admin;
mod audit;
mod deploy;
mod domains;
mod edges;
mod entries;
mod fetch;
mod functions;
mod gateway;
mod live;
mod login;
mod logs;
mod master_key;
mod members;
mod named;
mod package;
mod plan;
mod plans;
mod projects;
mod quotas;
mod rollouts;
mod routes;
mod secrets;
mod server;
mod settings;
mod sites;
mod sources;
mod storage;
mod tls;
mod tokens;
mod triggers;
mod unpack;
mod usage;
mod verify;

use af_runtime::artifact::compile;

use crate::args::Command;
use crate::config::Environment;
use crate::output::Output;

/// Runs a command to its end.
pub async fn run(command: Command, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Up(options) => Box::pin(server::up(*options, environment, output)).await,
        Command::Control(options) => Box::pin(server::roles::control(*options, environment, output)).await,
        Command::Edge(options) => Box::pin(server::roles::edge(*options, environment, output)).await,
        Command::Edges(command) => edges::run(command, environment, output).await,
        Command::Login(options) => login::login(options, environment, output).await,
        Command::Whoami => login::whoami(environment, output).await,
        Command::CompileWorker { kind } => Ok(compile::worker(&kind)?),
        Command::Functions(command) => functions::run(command, environment, output).await,
        Command::Sites(command) => sites::run(command, environment, output).await,
        Command::Storage(command) => storage::run(command, environment, output).await,
        Command::Env(command) => secrets::env(command, environment, output).await,
        Command::Secrets(command) => secrets::secrets(command, environment, output).await,
        Command::Domains(command) => domains::run(command, environment, output).await,
        Command::Pat(command) => tokens::pat(command, environment, output).await,
        Command::Keys(command) => tokens::keys(command, environment, output).await,
        Command::Projects(command) => projects::run(command, environment, output).await,
        Command::Orgs(command) => members::orgs(command, environment, output).await,
        Command::Members(command) => members::members(command, environment, output).await,
        Command::Usage(options) => Box::pin(usage::usage(options, environment, output)).await,
        Command::Audit(options) => audit::audit(options, environment, output).await,
        Command::Admin(command) => Box::pin(admin::run(command, environment, output)).await,
        Command::Join(options) => members::join(options, environment, output).await,
        Command::Fetch(options) => fetch::fetch(options, environment, output).await,
        Command::Verify(options) => verify::verify(options, environment, output).await,
    }
}
