//! `af env …` and `af secrets …`

use std::path::PathBuf;

use clap::{Args as Options, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Env {
    /// List settings with their values
    List(Of),
    /// Set settings; functions that are concerned are deployed again
    Set(SetSettings),
    /// Remove settings; functions that are concerned are deployed again
    Unset(Unset),
}

#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// List secrets: names, who set them and when, never values
    List(Of),
    /// Set secrets, whose values are typed, or read from standard input; functions that are concerned are deployed again
    Set(SetSecrets),
    /// Remove secrets; functions that are concerned are deployed again
    Unset(Unset),
    /// Set all secrets of a file in dotenv format at once
    Import(Import),
}

/// Whose they are.
#[derive(Debug, Options)]
pub struct Of {
    /// The function's name or id [default: those of the project, which all its functions have]
    #[arg(short, long, value_name = "NAME", alias = "function-id")]
    pub name: Option<String>,
}

/// Whose they are, and why they change.
#[derive(Debug, Options)]
pub struct Change {
    #[command(flatten)]
    pub of: Of,
    /// Why; shown in lists of deployments [default: what was changed]
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

#[derive(Debug, Options)]
pub struct SetSettings {
    /// What to set; a name without a value is typed, or read from standard input
    #[arg(required = true, value_name = "NAME[=VALUE]")]
    pub settings: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Options)]
pub struct SetSecrets {
    /// What to set, without the value, which would stay in the shell's history
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Options)]
pub struct Unset {
    /// What to remove
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Options)]
pub struct Import {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub change: Change,
}
