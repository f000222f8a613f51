//! DAG-CBOR documents: which links they have, and where a path of names leads in one.

use af_contract::ContentId;
use cid::Cid;
use ipld_core::ipld::Ipld;

use super::error::DocumentError;

/// Where names lead in a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Followed {
    /// To a link, behind so many of the names.
    Link(Cid, usize),
    /// To a value within the document.
    Value,
    /// Nowhere: there is no field of that name.
    Nothing(usize),
}

/// Follows names until the first link. The decoder bounds how deep values may be.
///
/// # Errors
/// When the block is no document.
pub fn follow(id: &ContentId, block: &[u8], names: &[String]) -> Result<Followed, DocumentError> {
    let document = decode(id, block)?;
    let mut value = &document;
    for (place, name) in names.iter().enumerate() {
        // An error is a number or a text, which has no fields, or a list and no index.
        match value.get(name.as_str()).ok().flatten() {
            Some(Ipld::Link(link)) => return Ok(Followed::Link(*link, place + 1)),
            Some(inner) => value = inner,
            None => return Ok(Followed::Nothing(place)),
        }
    }
    Ok(Followed::Value)
}

/// All links of a document, in their order.
///
/// # Errors
/// When the block is no document.
pub fn links(id: &ContentId, block: &[u8]) -> Result<Vec<Cid>, DocumentError> {
    let document = decode(id, block)?;
    let (mut found, mut pending) = (Vec::new(), vec![&document]);
    while let Some(value) = pending.pop() {
        match value {
            Ipld::Link(link) => found.push(*link),
            Ipld::List(values) => pending.extend(values.iter().rev()),
            Ipld::Map(fields) => pending.extend(fields.values().rev()),
            _ => {}
        }
    }
    Ok(found)
}

fn decode(id: &ContentId, block: &[u8]) -> Result<Ipld, DocumentError> {
    serde_ipld_dagcbor::from_slice(block)
        .map_err(|error| DocumentError { id: *id, reason: error.to_string().chars().take(200).collect() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use af_contract::Codec;

    use super::*;

    fn names(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn names_lead_to_links_and_no_further() {
        let link = Cid::try_from(crate::identify(Codec::Raw, b"x").to_string()).unwrap();
        let inner = Ipld::Map(BTreeMap::from([("single".to_owned(), Ipld::Link(link))]));
        let list = Ipld::List(vec![Ipld::Integer(1), Ipld::Link(link)]);
        let document = Ipld::Map(BTreeMap::from([("files".to_owned(), inner), ("list".to_owned(), list)]));
        let block = serde_ipld_dagcbor::to_vec(&document).unwrap();
        let id = crate::identify(Codec::DagCbor, &block);
        for (path, expected) in [
            ("files/single", Followed::Link(link, 2)),
            ("files/single/more", Followed::Link(link, 2)),
            ("list/1", Followed::Link(link, 2)),
            ("files", Followed::Value),
            ("list/0", Followed::Value),
            ("list/0/x", Followed::Nothing(2)),
            ("list/2", Followed::Nothing(1)),
            ("list/x", Followed::Nothing(1)),
            ("other/x", Followed::Nothing(0)),
        ] {
            assert_eq!(follow(&id, &block, &names(path)).unwrap(), expected, "{path}");
        }
        assert_eq!(links(&id, &block).unwrap(), [link, link]);
    }

    #[test]
    fn documents_that_are_too_deep_or_cut_off_are_refused() {
        let deep = [0x81].repeat(1 << 20);
        let id = crate::identify(Codec::DagCbor, &deep);
        for block in [&deep[..], &[0x81], &[]] {
            assert!(links(&id, block).is_err());
            assert!(follow(&id, block, &names("a")).is_err());
        }
    }
}
