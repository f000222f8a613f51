//! `af orgs …`, `af members …` and `af join`

use clap::{Args as Options, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Orgs {
    /// List the organizations that you are a member of
    List,
    /// Make an organization
    Create {
        /// 1 to 60 characters
        #[arg(short, long)]
        name: String,
    },
    /// Give an organization another name
    Update {
        /// Its id
        id: String,
        /// 1 to 60 characters
        #[arg(short, long)]
        name: String,
    },
    /// Show an organization's plan, its limits, and what is used of those that are its own
    Quotas {
        /// Its id [default: the one of the project that you work in]
        id: Option<String>,
    },
    /// Delete an organization that has no projects
    Delete {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Members {
    /// List the members
    List(Group),
    /// Make an invitation: whoever gets its code can become a member
    Invite(Invite),
    /// List the invitations that nobody has used yet
    Invitations(Group),
    /// Take an invitation back: its code is good for nothing any more
    Withdraw {
        /// The invitation's id, from `af members invitations`
        invitation: String,
    },
    /// Give a member another role
    Role(ChangeRole),
    /// Make somebody no member any more
    Remove(Member),
}

/// Of what.
#[derive(Debug, Options)]
pub struct Group {
    /// An organization's id [default: the project's own members]
    #[arg(long, value_name = "ID")]
    pub org: Option<String>,
}

#[derive(Debug, Options)]
pub struct Invite {
    /// owner, admin, developer, billing or viewer
    #[arg(long, default_value = "developer")]
    pub role: String,
    /// Who is meant; nothing is sent
    #[arg(long)]
    pub email: Option<String>,
    #[command(flatten)]
    pub group: Group,
}

#[derive(Debug, Options)]
pub struct ChangeRole {
    /// The member's id
    pub user: String,
    /// owner, admin, developer, billing or viewer
    pub role: String,
    #[command(flatten)]
    pub group: Group,
}

#[derive(Debug, Options)]
pub struct Member {
    /// The member's id
    pub user: String,
    #[command(flatten)]
    pub group: Group,
}

#[derive(Debug, Options)]
pub struct Join {
    /// From `af members invite`
    pub code: String,
    /// Who you are, where you are not signed in; you are, afterwards
    #[arg(long)]
    pub name: Option<String>,
    /// The control API [default: the one signed in to last, or http://127.0.0.1:4000]
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
}
