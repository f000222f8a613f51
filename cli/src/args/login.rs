//! `af login …`

use clap::{Args as Options, Subcommand};

use super::values::duration;

#[derive(Debug, Options)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Login {
    #[command(subcommand)]
    pub command: Option<LoginCommand>,
    /// The control API [default: the one signed in to last, or http://127.0.0.1:4000]
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// The token; read from standard input when left out, unless that is a terminal
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Show an address and a code, and wait until you have approved them in a browser, or in a terminal that is signed in [default:
    /// where there is no token, and standard input is a terminal]
    #[arg(long, conflicts_with = "token")]
    pub browser: bool,
    /// The project to work in; needed when you have several
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum LoginCommand {
    /// Sign in another terminal, which waits for it: it gets a token of yours
    Approve(Approve),
}

#[derive(Debug, Options)]
pub struct Approve {
    /// The code or the address that the other terminal shows
    #[arg(value_name = "CODE|URL")]
    pub code: String,
    /// What its token is called [default: as the terminal says]
    #[arg(short, long)]
    pub name: Option<String>,
    /// For how long its token works, such as 12h or 90d [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expires: Option<humantime::Duration>,
}
