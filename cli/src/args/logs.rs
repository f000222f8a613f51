//! `af functions logs`.

use clap::Args as Options;

#[derive(Debug, Options)]
pub struct Logs {
    /// The function's name or id
    pub name: String,
    /// Go on with what it logs from now on, until Ctrl-C; with --json, one line of it a line
    #[arg(short, long)]
    pub follow: bool,
}
