//! Proofs of edges that count once, where several servers may be shown the same one.

use super::sql::{self, Pool};
use super::{Store, StoreError};

impl Store {
    /// Uses a proof; `false`: a server of this database has used it. SQLite has one server, which knows by itself.
    pub(crate) async fn use_proof(&self, hash: &[u8], until: i64) -> Result<bool, StoreError> {
        let Pool::Postgres(_) = &self.reader else { return Ok(true) };
        // A statement of its own waits for no other writer: edges prove themselves each second.
        let query = "insert into used_proofs (hash, until_at) values ($1, $2) on conflict (hash) do nothing";
        Ok(sql::query(query).bind(hash).bind(until).execute(&self.reader).await? > 0)
    }

    /// Forgets proofs that ended before this second.
    pub(crate) async fn forget_proofs(&self, before: i64) -> Result<(), StoreError> {
        let Pool::Postgres(_) = &self.reader else { return Ok(()) };
        sql::query("delete from used_proofs where until_at < $1").bind(before).execute(&self.reader).await?;
        Ok(())
    }
}
