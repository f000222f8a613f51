//! Slugs: first labels of host names, of which functions and sites have the same.

use super::sql::{self, Connection};
use super::{Store, StoreError};

const PROJECT: &str = "select project_id from functions where slug = $1
    union all select project_id from sites where slug = $1";

impl Store {
    /// The project of whatever has a slug.
    pub(crate) async fn project_of_slug(&self, slug: &str) -> Result<Option<String>, StoreError> {
        Ok(sql::query_scalar(PROJECT).bind(slug).fetch_optional(&self.reader).await?)
    }
}

/// Whether anything has the slug.
pub(crate) async fn is_taken(db: &mut Connection, slug: &str) -> Result<bool, StoreError> {
    let project: Option<String> = sql::query_scalar(PROJECT).bind(slug).fetch_optional(db).await?;
    Ok(project.is_some())
}
