//! One module a command.

mod deploy;
mod functions;
mod login;
mod package;
mod plan;
mod routes;
mod server;
mod settings;
mod triggers;

use af_runtime::artifact::compile;

use crate::args::Command;
use crate::config::Environment;
use crate::output::Output;

/// Runs a command to its end.
pub async fn run(command: Command, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Up(options) => server::up(*options, environment, output).await,
        Command::Login(options) => login::login(options, environment, output).await,
        Command::Whoami => login::whoami(environment, output).await,
        Command::CompileWorker { kind } => Ok(compile::worker(&kind)?),
        Command::Functions(command) => functions::run(command, environment, output).await,
    }
}
