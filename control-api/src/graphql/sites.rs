//! Sites: what domains lead to, as clients of the older platforms see it.

use af_contract::ContentId;
use async_graphql::{Context, Enum, ID, InputObject, Object};

use super::asker::{actor, project, state};
use super::domains::Domain;
use super::failure::Result;
use super::loaders::{self, NewestOfSite, Owned};
use super::scalars::{Date, Listing, PaginationInput};
use super::zones::Zone;
use crate::domain::sites::{self, NewSite};
use crate::domain::{Error, site_deployments};
use crate::store::{SiteDeploymentRow, SiteRow};

/// A directory of files that is served.
pub(super) struct Site(SiteRow);

/// One immutable version of a site.
pub(super) struct Deployment(SiteDeploymentRow);

/// What has become of a deployment: those that failed are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum DeploymentStatus {
    /// It is complete.
    Success,
}

/// Where content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum StorageType {
    /// By CID.
    Ipfs,
}

/// A name of IPNS. There are none here.
pub(super) struct IpnsRecord {
    id: ID,
}

#[Object]
impl IpnsRecord {
    async fn id(&self) -> &ID {
        &self.id
    }
}

#[Object]
impl Site {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The first label of its host name.
    async fn slug(&self) -> &str {
        &self.0.slug
    }

    async fn project_id(&self) -> ID {
        ID(self.0.project_id.clone())
    }

    #[graphql(complexity = "5 * child_complexity")]
    async fn domains(&self, ctx: &Context<'_>) -> Result<Vec<Domain>> {
        let key = Owned { project: self.0.project_id.clone(), site: self.0.id.clone() };
        Ok(loaders::one(ctx, key).await?.unwrap_or_default().into_iter().map(Domain).collect())
    }

    /// The first of its domains that is verified.
    async fn primary_domain(&self, ctx: &Context<'_>) -> Result<Option<Domain>> {
        let key = Owned { project: self.0.project_id.clone(), site: self.0.id.clone() };
        let domains = loaders::one(ctx, key).await?.unwrap_or_default();
        Ok(domains.into_iter().find(|domain| domain.status == "VERIFIED").map(Domain))
    }

    /// The one that its domains are in.
    async fn zones(&self) -> Vec<Zone> {
        vec![Zone::of(&self.0)]
    }

    /// Always empty: there is no IPNS here.
    async fn ipns_records(&self) -> Vec<IpnsRecord> {
        Vec::new()
    }

    /// The ten newest.
    #[graphql(complexity = "10 * child_complexity")]
    async fn deployments(&self, ctx: &Context<'_>) -> Result<Vec<Deployment>> {
        let key = NewestOfSite { project: self.0.project_id.clone(), site: self.0.id.clone() };
        Ok(loaders::one(ctx, key).await?.unwrap_or_default().into_iter().map(Deployment).collect())
    }

    async fn created_at(&self) -> Date {
        Date(self.0.created_at)
    }

    async fn updated_at(&self) -> Date {
        Date(self.0.updated_at)
    }
}

#[Object]
impl Deployment {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn site_id(&self) -> ID {
        ID(self.0.site_id.clone())
    }

    async fn status(&self) -> DeploymentStatus {
        DeploymentStatus::Success
    }

    async fn storage_type(&self) -> StorageType {
        StorageType::Ipfs
    }

    /// Of its directory.
    async fn cid(&self) -> &str {
        &self.0.root_cid
    }

    async fn created_at(&self) -> Date {
        Date(self.0.created_at)
    }

    /// A deployment does not change.
    async fn updated_at(&self) -> Date {
        Date(self.0.created_at)
    }
}

#[derive(InputObject)]
struct SiteWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct SiteBySlugWhereInput {
    slug: String,
}

#[derive(InputObject)]
struct SitesWhereInput {
    name: Option<String>,
}

#[derive(InputObject)]
struct CreateSiteDataInput {
    /// 3 to 30 letters, digits and dashes; unique in the project.
    name: String,
}

#[derive(InputObject)]
struct DeleteSiteWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct DeploymentWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct CreateCustomIpfsDeploymentDataInput {
    /// Of a directory that the project has stored, or that this server's sources have.
    cid: String,
    site_id: ID,
}

#[derive(Default)]
pub(super) struct Query;

#[Object(name = "SiteQuery")]
impl Query {
    /// One site.
    async fn site(&self, ctx: &Context<'_>, r#where: SiteWhereInput) -> Result<Site> {
        Ok(Site(sites::get(state(ctx)?, actor(ctx)?, &r#where.id).await?))
    }

    /// A site of the project by its slug.
    async fn site_by_slug(&self, ctx: &Context<'_>, r#where: SiteBySlugWhereInput) -> Result<Site> {
        let project = project(ctx).await?;
        Ok(Site(sites::by_slug(state(ctx)?, actor(ctx)?, &project, &r#where.slug).await?))
    }

    /// A project's sites, oldest first.
    #[graphql(complexity = "20 * child_complexity")]
    async fn sites(
        &self,
        ctx: &Context<'_>,
        filter: Option<PaginationInput>,
        r#where: Option<SitesWhereInput>,
    ) -> Result<Listing<Site>> {
        let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
        let name = r#where.and_then(|by| by.name);
        let (project, name) = (project.as_str(), name.as_deref());
        let read = |after: String| async move { sites::list(state, actor, project, name, &after).await };
        Ok(Listing::read(filter, read, |row: &SiteRow| row.id.clone(), Site).await?)
    }

    /// One deployment of a site.
    async fn deployment(&self, ctx: &Context<'_>, r#where: DeploymentWhereInput) -> Result<Deployment> {
        Ok(Deployment(site_deployments::get(state(ctx)?, actor(ctx)?, &r#where.id).await?))
    }
}

#[derive(Default)]
pub(super) struct Mutation;

#[Object(name = "SiteMutation")]
impl Mutation {
    /// Makes a site. It answers once it has a deployment.
    async fn create_site(&self, ctx: &Context<'_>, data: CreateSiteDataInput) -> Result<Site> {
        let project = project(ctx).await?;
        let new = NewSite { name: data.name, slug: None };
        Ok(Site(sites::create(state(ctx)?, actor(ctx)?, &project, &new).await?))
    }

    /// Deletes a site, its deployments and its domains. Returns what it was.
    async fn delete_site(&self, ctx: &Context<'_>, r#where: DeleteSiteWhereInput) -> Result<Site> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let site = sites::get(state, actor, &r#where.id).await?;
        sites::delete(state, actor, &r#where.id).await?;
        Ok(Site(site))
    }

    /// Makes a directory what a site serves. It is complete when the answer comes.
    async fn create_custom_ipfs_deployment(
        &self,
        ctx: &Context<'_>,
        data: CreateCustomIpfsDeploymentDataInput,
    ) -> Result<Deployment> {
        let (state, actor) = (state(ctx)?.clone(), actor(ctx)?.clone());
        let root = ContentId::parse(&data.cid).map_err(|error| Error::invalid("invalid_cid", error))?;
        let create = async move {
            Box::pin(site_deployments::create(&state, &actor, &data.site_id, root, None)).await
        };
        // A client that goes away must not stop it between its steps.
        let created = tokio::spawn(create).await.map_err(|error| Error::Internal(Box::new(error)));
        Ok(Deployment(created??))
    }
}
