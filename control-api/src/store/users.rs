//! People and programs that can act.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A user.
#[derive(Debug, sqlx::FromRow)]
pub struct UserRow {
    /// `usr_…`
    pub id: String,
    /// Free text.
    pub name: String,
}

impl Store {
    pub(crate) async fn user(&self, id: &str) -> Result<Option<UserRow>, StoreError> {
        let query = "select id, name from users where id = $1";
        Ok(sql::query_as(query).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn first_user(&self) -> Result<Option<UserRow>, StoreError> {
        let query = "select id, name from users order by id limit 1";
        Ok(sql::query_as(query).fetch_optional(&self.reader).await?)
    }
}

pub(crate) async fn insert(db: &mut Connection, id: &str, name: &str, now: i64) -> Result<(), StoreError> {
    let query = "insert into users (id, name, created_at) values ($1, $2, $3)";
    sql::query(query).bind(id).bind(name).bind(now).execute(db).await?;
    Ok(())
}
