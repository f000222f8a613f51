//! `af orgs …`, `af members …` and `af join`: who belongs to what.

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};

use super::functions::utc;
use super::quotas;
use crate::args::members::{ChangeRole, Group, Invite, Join, Member, Members, Orgs};
use crate::client::{Api, text};
use crate::config::{Config, Environment, Server, Session, clean_url};
use crate::output::Output;

/// Runs `af orgs …`.
pub async fn orgs(command: Orgs, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Orgs::List => {
            let organizations = api.list("/v1/organizations").await?;
            output.table(
                &organizations,
                &[("ID", "id"), ("NAME", "name"), ("PLAN", "plan")],
                "no organizations",
            );
        }
        Orgs::Create { name } => {
            let made = api.send(Method::POST, "/v1/organizations", &json!({ "name": name })).await?;
            output.result(&made, &format!("created {}", text(&made, "id")));
        }
        Orgs::Update { id, name } => {
            let path = format!("/v1/organizations/{id}");
            let updated = api.send(Method::PATCH, &path, &json!({ "name": name })).await?;
            output.result(&updated, &format!("updated {id}: {}", text(&updated, "name")));
        }
        Orgs::Quotas { id } => {
            let id = match id {
                Some(id) => id,
                None => {
                    let project = api.get(&format!("/v1/projects/{}", api.project().await?)).await?;
                    text(&project, "organizationId").to_owned()
                }
            };
            quotas::show(&api, &format!("/v1/organizations/{id}"), output).await?;
        }
        Orgs::Delete { id } => {
            api.delete(&format!("/v1/organizations/{id}")).await?;
            output.result(&json!({ "deleted": id }), &format!("deleted {id}"));
        }
    }
    Ok(())
}

/// Runs `af members …`.
pub async fn members(command: Members, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Members::List(group) => {
            let members = api.list(&format!("{}/members", root(&api, &group).await?)).await?;
            let columns = [("ID", "userId"), ("NAME", "name"), ("EMAIL", "email"), ("ROLE", "role")];
            output.table(
                &members,
                &columns,
                "no members of its own; those of its organization are: add --org ID",
            );
            Ok(())
        }
        Members::Invite(options) => invite(&api, &options, output).await,
        Members::Invitations(group) => invitations(&api, &group, output).await,
        Members::Withdraw { invitation } => {
            api.delete(&format!("/v1/invitations/{invitation}")).await?;
            output.result(&json!({ "withdrawn": invitation }), &format!("withdrew {invitation}"));
            Ok(())
        }
        Members::Role(options) => role(&api, &options, output).await,
        Members::Remove(options) => remove(&api, &options, output).await,
    }
}

async fn invite(api: &Api, options: &Invite, output: &Output) -> anyhow::Result<()> {
    let path = format!("{}/invitations", root(api, &options.group).await?);
    let made =
        api.send(Method::POST, &path, &json!({ "role": options.role, "email": options.email })).await?;
    let until = utc(made.get("expiresAt").and_then(Value::as_i64).unwrap_or_default());
    let message = format!(
        "{}\nwhoever has this code can become {} with `af join CODE --api-url {}`, once, until {until}",
        text(&made, "code"),
        text(&made, "role"),
        api.url(),
    );
    output.result(&made, &message);
    Ok(())
}

async fn invitations(api: &Api, group: &Group, output: &Output) -> anyhow::Result<()> {
    let mut open = api.list(&format!("{}/invitations", root(api, group).await?)).await?;
    for invitation in &mut open {
        let until = utc(invitation.get("expiresAt").and_then(Value::as_i64).unwrap_or_default());
        if let Some(fields) = invitation.as_object_mut() {
            fields.insert("until".into(), until.into());
        }
    }
    let columns =
        [("ID", "id"), ("ROLE", "role"), ("EMAIL", "email"), ("BY", "inviterId"), ("UNTIL", "until")];
    output.table(&open, &columns, "no open invitations; make one with `af members invite`");
    Ok(())
}

async fn role(api: &Api, options: &ChangeRole, output: &Output) -> anyhow::Result<()> {
    let path = format!("{}/members/{}", root(api, &options.group).await?, options.user);
    api.change(Method::PUT, &path, &json!({ "role": options.role })).await?;
    let value = json!({ "userId": options.user, "role": options.role });
    output.result(&value, &format!("{} is {} now", options.user, options.role));
    Ok(())
}

async fn remove(api: &Api, options: &Member, output: &Output) -> anyhow::Result<()> {
    api.delete(&format!("{}/members/{}", root(api, &options.group).await?, options.user)).await?;
    output.result(&json!({ "removed": options.user }), &format!("{} is no member any more", options.user));
    Ok(())
}

async fn root(api: &Api, group: &Group) -> anyhow::Result<String> {
    Ok(match &group.org {
        Some(organization) => format!("/v1/organizations/{organization}"),
        None => format!("/v1/projects/{}", api.project().await?),
    })
}

/// Becomes a member; whoever is not signed in becomes a user, too, and is signed in.
pub async fn join(options: Join, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let mut session = Session::open(environment)?;
    if let Some(url) = &options.api_url {
        let url = clean_url(url)?;
        if url != session.api_url {
            session = Session { api_url: url, server: None };
        }
    }
    let api_url = session.api_url.clone();
    let body = json!({ "code": options.code, "name": options.name });
    let joined = Api::with(session)?.open_to_all(Method::POST, "/v1/invitations/accept", &body).await?;
    let id = ["projectId", "organizationId"].map(|field| text(&joined, field)).concat();
    let mut message = format!("you are {} of {id} now", text(&joined, "role"));
    if let Some(token) = joined.get("token").and_then(Value::as_str) {
        let project_id = joined.get("projectId").and_then(Value::as_str).map(str::to_owned);
        let server = Server { token: token.to_owned(), project_id };
        let path = Config::sign_in(environment, &api_url, server)
            .with_context(|| format!("your token could not be stored; it is {token}"))?;
        message.push_str(&format!("\nsigned in; your token is stored in {}", path.display()));
    }
    output.result(&joined, &message);
    Ok(())
}
