//! `af pat …` and `af keys …`

use clap::{Args as Options, Subcommand};

use super::values::duration;

#[derive(Debug, Subcommand)]
pub enum Pat {
    /// Make a personal access token; it is shown once
    Create(CreateToken),
    /// List your tokens
    List,
    /// Give a token another secret
    Rotate(Rotate),
    /// Delete a token; whoever has it is refused from then on
    Delete(Token),
}

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key of the project, which works whoever is its member; it is shown once
    Create(CreateKey),
    /// List the project's keys
    List,
    /// Give a key another secret
    Rotate(Rotate),
    /// Delete a key; whoever has it is refused from then on
    Delete(Token),
}

/// Which token.
#[derive(Debug, Options)]
pub struct Token {
    /// Its name or id
    pub token: String,
}

/// What a token is for.
#[derive(Debug, Options)]
pub struct Bounds {
    /// For nothing but this function: its name or id
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
    /// For nothing else, such as functions:read or deployments:*; may be given several times [default: all that you may]
    #[arg(long = "scope", value_name = "NOUN:VERB", value_delimiter = ',')]
    pub scopes: Vec<String>,
    /// When it ends, such as 90d; at most 10 years [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expires: Option<humantime::Duration>,
}

#[derive(Debug, Options)]
pub struct CreateToken {
    /// 1 to 100 letters, digits, spaces, dashes, underscores and dots
    #[arg(short, long)]
    pub name: String,
    /// For nothing but this project
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    #[command(flatten)]
    pub bounds: Bounds,
}

#[derive(Debug, Options)]
pub struct CreateKey {
    /// 1 to 100 letters, digits, spaces, dashes, underscores and dots
    #[arg(short, long)]
    pub name: String,
    /// As what member it acts: admin, developer, billing or viewer
    #[arg(long, default_value = "developer")]
    pub role: String,
    #[command(flatten)]
    pub bounds: Bounds,
}

#[derive(Debug, Options)]
pub struct Rotate {
    #[command(flatten)]
    pub token: Token,
    /// For so long the old secret works, too; at most a week
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub overlap: humantime::Duration,
}
