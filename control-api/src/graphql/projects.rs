//! Projects.

use async_graphql::{Context, ID, InputObject, Object};

use super::asker::{self, actor, state};
use super::failure::Result;
use super::scalars::{Date, Listing, PaginationInput};
use crate::domain::Error;
use crate::domain::projects::{self, Change};
use crate::store::ProjectRow;

/// Who owns functions, sites, domains and stored content.
pub(super) struct Project(pub(super) ProjectRow);

#[Object]
impl Project {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Always null: projects have no pictures here.
    async fn avatar(&self) -> Option<String> {
        None
    }

    /// Always false.
    async fn backup_storage_on_arweave(&self) -> bool {
        false
    }

    /// Always false.
    async fn backup_storage_on_filecoin(&self) -> bool {
        false
    }

    async fn created_at(&self) -> Date {
        Date(self.0.created_at)
    }

    async fn updated_at(&self) -> Date {
        Date(self.0.updated_at)
    }
}

#[derive(InputObject)]
struct ProjectWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct CreateProjectDataInput {
    /// 1 to 60 characters.
    name: String,
}

#[derive(InputObject)]
struct UpdateProjectWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct UpdateProjectDataInput {
    name: Option<String>,
}

#[derive(InputObject)]
struct DeleteProjectWhereInput {
    id: ID,
}

/// One id, which clients of the two platforms put into different places.
pub(super) fn one_id(
    what: &str,
    first: Option<ID>,
    second: Option<ID>,
) -> std::result::Result<String, Error> {
    let id = first.or(second).map(|id| id.0);
    id.ok_or_else(|| Error::invalid("invalid_where", format!("say which {what}, with its id")))
}

#[derive(Default)]
pub(super) struct Query;

#[Object(name = "ProjectQuery")]
impl Query {
    /// One project.
    async fn project(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        r#where: Option<ProjectWhereInput>,
    ) -> Result<Project> {
        let id = one_id("project", id, r#where.map(|by| by.id))?;
        Ok(Project(projects::get(state(ctx)?, actor(ctx)?, &id).await?))
    }

    /// The actor's projects, oldest first.
    #[graphql(complexity = "20 * child_complexity")]
    async fn projects(&self, ctx: &Context<'_>, filter: Option<PaginationInput>) -> Result<Listing<Project>> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let read = |after: String| async move { projects::list(state, actor, &after).await };
        Ok(Listing::read(filter, read, |row: &ProjectRow| row.id.clone(), Project).await?)
    }
}

#[derive(Default)]
pub(super) struct Mutation;

#[Object(name = "ProjectMutation")]
impl Mutation {
    /// Makes a project, of the organization in the header `X-Organization-Id` or the actor's own.
    async fn create_project(&self, ctx: &Context<'_>, data: CreateProjectDataInput) -> Result<Project> {
        let organization = asker::organization(ctx);
        Ok(Project(projects::create(state(ctx)?, actor(ctx)?, organization, &data.name).await?))
    }

    /// Renames a project.
    async fn update_project(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        r#where: Option<UpdateProjectWhereInput>,
        data: UpdateProjectDataInput,
    ) -> Result<Project> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let id = one_id("project", id, r#where.map(|by| by.id))?;
        Ok(Project(match data.name {
            Some(name) => {
                let change = Change { name: Some(name), ..Change::default() };
                projects::update(state, actor, &id, change).await?
            }
            None => projects::get(state, actor, &id).await?,
        }))
    }

    /// Deletes a project that has no functions, no sites and no pins. Returns what it was.
    async fn delete_project(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        r#where: Option<DeleteProjectWhereInput>,
    ) -> Result<Project> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let id = one_id("project", id, r#where.map(|by| by.id))?;
        let project = projects::get(state, actor, &id).await?;
        projects::delete(state, actor, &id).await?;
        Ok(Project(project))
    }
}
