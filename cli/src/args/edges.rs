//! The options of `af edges`.

use clap::{Args as Options, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Edges {
    /// Make an edge, and show the token that it joins with: once, within an hour
    Add(AddEdge),
    /// List the edges: when each asked last, and what it knew
    List,
    /// Remove an edge: it is told nothing more, and goes on with what it knows until it is stopped
    Remove(RemoveEdge),
}

#[derive(Debug, Options)]
pub struct AddEdge {
    /// 1 to 64 letters, digits, dots, dashes and underscores
    pub name: String,
}

#[derive(Debug, Options)]
pub struct RemoveEdge {
    /// The edge's name or id
    pub name: String,
}
