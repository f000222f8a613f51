//! Zones, which clients of Fleek know sites' domains in: a site has exactly one.

use async_graphql::{Context, Enum, ID, InputObject, Object};

use super::asker::{actor, state};
use super::failure::Result;
use super::scalars::Date;
use crate::domain::{Error, sites};
use crate::store::SiteRow;

/// A zone's id is its site's, with this instead of `site_`.
const ZONE: &str = "zone_";

/// Where a site's domains are.
pub(super) struct Zone {
    site: SiteRow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum ZoneStatus {
    Created,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum ZoneType {
    Site,
}

impl Zone {
    pub(super) fn of(site: &SiteRow) -> Self {
        Self { site: site.clone() }
    }
}

#[Object]
impl Zone {
    async fn id(&self) -> ID {
        ID(self.site.id.replacen("site_", ZONE, 1))
    }

    /// Where the site answers.
    async fn origin_url(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(state(ctx)?.invoke_url(&self.site.slug))
    }

    /// Always null: only a site's slug changes it.
    async fn origin_url_changed_at(&self) -> Option<Date> {
        None
    }

    async fn r#type(&self) -> ZoneType {
        ZoneType::Site
    }

    async fn status(&self) -> ZoneStatus {
        ZoneStatus::Created
    }

    async fn created_at(&self) -> Date {
        Date(self.site.created_at)
    }

    async fn updated_at(&self) -> Date {
        Date(self.site.updated_at)
    }
}

#[derive(InputObject)]
pub(super) struct DomainsByZoneIdWhereInput {
    pub(super) zone_id: ID,
}

#[derive(InputObject)]
pub(super) struct ZoneWhereInput {
    pub(super) id: ID,
}

#[derive(InputObject)]
pub(super) struct CreateZoneForSiteWhereInput {
    pub(super) site_id: ID,
}

pub(super) async fn site_of(ctx: &Context<'_>, zone: &str) -> std::result::Result<SiteRow, Error> {
    let not_found = || Error::not_found("zone", zone);
    let site = zone.strip_prefix(ZONE).ok_or_else(not_found)?;
    let site = sites::get(state(ctx)?, actor(ctx)?, &format!("site_{site}")).await;
    site.map_err(|error| match error {
        Error::NotFound { .. } => not_found(),
        error => error,
    })
}
