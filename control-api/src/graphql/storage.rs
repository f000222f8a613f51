//! Stored content, as clients of the older platforms see it.

use af_content::unixfs::Profile;
use af_contract::ContentId;
use async_graphql::{Context, ID, InputObject, Object, SimpleObject, Upload};

use super::asker::{actor, project, state};
use super::domains::Domain;
use super::failure::Result;
use super::projects::Project;
use super::scalars::{Date, Listing, PaginationInput};
use super::zones::Zone;
use crate::domain::storage::{self, Kept};
use crate::domain::{Error, storage_upload};
use crate::store::PinRow;

/// Pages of pins that are looked through for a file name.
const PAGES: usize = 10;

/// Content that a project keeps.
pub(super) struct Pin(PinRow);

#[Object]
impl Pin {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn cid(&self) -> ID {
        ID(self.0.cid.clone())
    }

    /// Without its extension.
    async fn filename(&self) -> Option<&str> {
        Some(parts(self.0.name.as_deref()?).0)
    }

    /// Without the dot.
    async fn extension(&self) -> Option<&str> {
        parts(self.0.name.as_deref()?).1
    }

    /// Of all its blocks, bytes.
    async fn size(&self) -> f64 {
        // Exact to eight petabytes.
        #[expect(clippy::cast_precision_loss, reason = "pins are smaller")]
        let size = self.0.bytes as f64;
        size
    }

    /// Always null: nothing is on Arweave.
    async fn arweave_pin(&self) -> Option<ArweavePin> {
        None
    }

    async fn project_id(&self) -> ID {
        ID(self.0.project_id.clone())
    }

    async fn created_at(&self) -> Date {
        Date(self.0.created_at)
    }
}

/// A name and its extension.
fn parts(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, Some(extension)),
        _ => (name, None),
    }
}

/// A copy on Arweave. There are none.
#[derive(SimpleObject)]
pub(super) struct ArweavePin {
    bundlr_id: String,
}

/// A copy on Filecoin. There are none.
#[derive(SimpleObject)]
pub(super) struct FilecoinDeal {
    cid: String,
    deal_id: i32,
}

/// A gateway of a project's own. There are none: the platform's serves all projects.
#[derive(SimpleObject)]
pub(super) struct PrivateGateway {
    id: ID,
    name: String,
    slug: String,
    primary_domain: Option<Domain>,
    project: Project,
    zone: Option<Zone>,
    created_at: Date,
    updated_at: Date,
}

#[derive(InputObject)]
struct PinWhereInput {
    cid: String,
}

#[derive(InputObject)]
struct PinsByFilenameWhereInput {
    filename: String,
    extension: Option<String>,
}

#[derive(InputObject)]
struct FilecoinDealsWhereInput {
    cid: String,
}

#[derive(InputObject)]
struct StoreFileDataInput {
    /// At most 10 MiB; larger ones go to `POST /v1/projects/{project}/storage`.
    file: Upload,
    /// The file's own name when it is left out.
    name: Option<String>,
}

fn content_id(cid: &str) -> std::result::Result<ContentId, Error> {
    ContentId::parse(cid).map_err(|error| Error::invalid("invalid_cid", error))
}

#[derive(Default)]
pub(super) struct Query;

#[Object(name = "StorageQuery")]
impl Query {
    /// What a project keeps under a CID.
    async fn pin(&self, ctx: &Context<'_>, r#where: PinWhereInput) -> Result<Pin> {
        let project = project(ctx).await?;
        let kept = storage::get(state(ctx)?, actor(ctx)?, &project, &content_id(&r#where.cid)?).await?;
        Ok(Pin(kept.pin))
    }

    /// What a project keeps, oldest first.
    #[graphql(complexity = "20 * child_complexity")]
    async fn pins(&self, ctx: &Context<'_>, filter: Option<PaginationInput>) -> Result<Listing<Pin>> {
        let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
        let project = project.as_str();
        let read = |after: String| async move { storage::list(state, actor, project, &after).await };
        Ok(Listing::read(filter, read, |kept: &Kept| kept.pin.id.clone(), |kept| Pin(kept.pin)).await?)
    }

    /// What a project keeps under a file name, among its first thousand pins.
    #[graphql(complexity = "20 * child_complexity")]
    async fn pins_by_filename(
        &self,
        ctx: &Context<'_>,
        r#where: PinsByFilenameWhereInput,
    ) -> Result<Listing<Pin>> {
        let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
        let wanted = (r#where.filename.as_str(), r#where.extension.as_deref());
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let page = storage::list(state, actor, &project, &after).await?;
            let pins = page.items.into_iter().map(|kept| kept.pin);
            found.extend(pins.filter(|pin| pin.name.as_deref().map(parts) == Some(wanted)).map(Pin));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        Ok(Listing::whole(found))
    }

    /// Always empty: nothing is on Filecoin.
    async fn filecoin_deals(
        &self,
        ctx: &Context<'_>,
        r#where: FilecoinDealsWhereInput,
    ) -> Result<Listing<FilecoinDeal>> {
        actor(ctx)?;
        content_id(&r#where.cid)?;
        Ok(Listing::whole(Vec::new()))
    }

    /// Always empty: the platform's gateway serves all projects.
    async fn private_gateways(&self, ctx: &Context<'_>) -> Result<Listing<PrivateGateway>> {
        actor(ctx)?;
        Ok(Listing::whole(Vec::new()))
    }
}

#[derive(Default)]
pub(super) struct Mutation;

#[Object(name = "StorageMutation")]
impl Mutation {
    /// Stores and pins a file that comes with the request.
    async fn store_file(&self, ctx: &Context<'_>, data: StoreFileDataInput) -> Result<Pin> {
        let (state, actor, project) = (state(ctx)?.clone(), actor(ctx)?.clone(), project(ctx).await?);
        let unreadable = |error| Error::Internal(Box::new(error));
        let file = data.file.value(ctx).map_err(unreadable)?;
        let name = data.name.or(Some(file.filename)).filter(|name| !name.is_empty());
        let (sender, chunks) = tokio::sync::mpsc::channel(1);
        // The receiver has room for it.
        let _sent = sender.send(Ok(file.content)).await;
        drop(sender);
        let storing = async move {
            storage_upload::receive_file(&state, &actor, &project, (name, Profile::default()), chunks).await
        };
        let kept = tokio::spawn(storing).await.map_err(|error| Error::Internal(Box::new(error)))??;
        Ok(Pin(kept.pin))
    }
}
