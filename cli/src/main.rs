//! `af`: the server, every role of a cluster, and the client, in one binary.

mod args;
mod client;
mod commands;
mod config;
mod failure;
mod output;
mod project_file;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::args::Args;
use crate::config::Environment;
use crate::output::Output;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let environment = Environment::read();
    let output = Output::new(args.json, environment.no_color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&anyhow::Error::new(error).context("cannot start"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(args.command, &environment, &output));
    // What was cut may still sit in a blocking thread; it holds nothing that a restart would miss.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            client::exit_code(&error)
        }
    }
}
