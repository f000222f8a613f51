//! Which archives there are of a DAG: a gateway's GraphQL knows items by their tags.

use af_contract::ContentId;
use serde::Deserialize;
use serde_json::json;

use super::Arweave;
use crate::sink::IPFS_CID;
use crate::source::gateway::under;
use crate::source::{SourceError, http};

/// Archives of one DAG that are tried, the oldest first: who writes false ones later is not asked.
const ARCHIVES: usize = 4;

/// Characters of an item's id, which is a SHA-256 in base64.
const ID: usize = 43;

const QUERY: &str = "query($tags:[TagFilter!],$owners:[String!]){transactions(first:4,sort:HEIGHT_ASC,tags:$tags,\
                     owners:$owners){edges{node{id}}}}";
/// Not all gateways take a list of owners that is null.
const QUERY_OF_ANYBODY: &str =
    "query($tags:[TagFilter!]){transactions(first:4,sort:HEIGHT_ASC,tags:$tags){edges{node{id}}}}";

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    transactions: Transactions,
}

#[derive(Deserialize)]
struct Transactions {
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    node: Node,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

impl Arweave {
    /// Items that are said to be archives of this DAG.
    pub(super) async fn lookup(&self, root: ContentId) -> Result<Vec<String>, SourceError> {
        let tags = json!([
            { "name": IPFS_CID, "values": [root.to_string()] },
            // Others put files under that tag.
            { "name": "Content-Type", "values": ["application/vnd.ipld.car"] },
        ]);
        let body = match &self.owner {
            Some(owner) => json!({ "query": QUERY, "variables": { "tags": tags, "owners": [owner] } }),
            None => json!({ "query": QUERY_OF_ANYBODY, "variables": { "tags": tags } }),
        };
        let request = self.client.post(under(&self.base, "graphql", "")).json(&body);
        let answer = http::message(http::ask(request).await?).await?;
        parse(&answer)
    }
}

fn parse(answer: &[u8]) -> Result<Vec<String>, SourceError> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_| SourceError::Unexpected("something else than GraphQL of Arweave".to_owned()))?;
    let ids = answer.data.transactions.edges.into_iter().map(|edge| edge.node.id);
    Ok(ids.filter(|id| is_id(id)).take(ARCHIVES).collect())
}

/// An id becomes a path.
fn is_id(id: &str) -> bool {
    id.len() == ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_not_asked_for() {
        let id = "Aru_OPLT08aZMi2pqTaSGKAVEqOiwguIgOsAQRxjrOs";
        let edge = |id: &str| json!({ "node": { "id": id } });
        let edges = [edge("../../etc/passwd"), edge(id), edge(&format!("{}/", &id[1..])), edge("")];
        let answer = json!({ "data": { "transactions": { "edges": edges } } });
        assert_eq!(parse(answer.to_string().as_bytes()).unwrap(), [id]);
        assert!(parse(br#"{"errors":[{"message":"no"}]}"#).is_err());
    }
}
