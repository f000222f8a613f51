//! A page of the feed, as a control plane of this version writes it and an edge of this version reads it, also from a newer one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Change, Update};

/// Characters of a kind that is not known, as it is said.
const KIND: usize = 64;

/// What an edge is told, as JSON within an envelope.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedPage {
    /// Which history the revisions are of. Another one: the control plane was restored from a backup.
    pub epoch: String,
    /// The page follows this revision; 0 where the edge asked for another one: what it knows is of no use, and all comes anew.
    pub after: u64,
    /// With the page, the edge knows everything up to this revision.
    pub until: u64,
    /// Whether there are further pages already.
    pub more: bool,
    /// What changed, oldest first.
    pub updates: Vec<Update>,
    /// Kinds of changes that this edge does not know and may do without, one for each such change. They are in the page's text.
    #[serde(skip)]
    pub skipped: Vec<String>,
}

/// Why a page cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It is none.
    #[error("{0}")]
    Form(String),
    /// A newer control plane tells of something that an edge must know.
    #[error("it tells of changes of the kind {0:?}, which af {version} does not know: upgrade this edge", version = env!("CARGO_PKG_VERSION"))]
    Unknown(String),
}

/// A page whose changes may be of any kind.
#[derive(Deserialize)]
struct Any {
    epoch: String,
    after: u64,
    until: u64,
    more: bool,
    updates: Vec<Value>,
}

impl FeedPage {
    /// Reads a page. Of changes whose kind is not known, those that say `"optional": true` are skipped: the control plane says so of a
    /// new kind if an edge that knows nothing of it serves rightly without. Whoever keeps the page keeps its text: a newer version finds
    /// in it what this one has skipped.
    ///
    /// # Errors
    /// When it is none, or has a change of another kind that is not known.
    pub fn read(text: &[u8]) -> Result<Self, PageError> {
        if let Ok(page) = serde_json::from_slice(text) {
            return Ok(page);
        }
        let form = |error: serde_json::Error| PageError::Form(error.to_string());
        let Any { epoch, after, until, more, updates } = serde_json::from_slice(text).map_err(form)?;
        let mut page = Self { epoch, after, until, more, ..Self::default() };
        for update in updates {
            let kind = update.get("kind").and_then(Value::as_str).unwrap_or_default();
            if kind.is_empty() || Change::KINDS.contains(&kind) {
                page.updates.push(serde_json::from_value(update).map_err(form)?);
                continue;
            }
            let said: String = kind.chars().take(KIND).collect();
            if update.get("optional") != Some(&Value::Bool(true)) {
                return Err(PageError::Unknown(said));
            }
            page.skipped.push(said);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

    use super::*;

    fn page(updates: &str) -> Result<FeedPage, PageError> {
        let text =
            format!(r#"{{"epoch":"e","after":1,"until":9,"more":false,"news":[],"updates":[{updates}]}}"#);
        FeedPage::read(text.as_bytes())
    }

    const GONE: &str = r#"{"revision":2,"kind":"site","id":"site_1","state":null}"#;

    #[test]
    fn changes_of_kinds_that_are_not_known_are_skipped_if_they_may_be() {
        let optional = r#"{"revision":3,"kind":"tunnel","optional":true,"id":7}"#;
        let read = page(&format!("{optional},{GONE},{optional}")).unwrap();
        assert_eq!((read.updates.len(), read.updates[0].revision, read.until), (1, 2, 9));
        assert_eq!(read.skipped, ["tunnel", "tunnel"]);
        for must in [r#"{"revision":3,"kind":"tunnel"}"#, r#"{"kind":"tunnel","optional":"true"}"#] {
            let error = page(&format!("{GONE},{must}")).unwrap_err();
            assert_eq!(error, PageError::Unknown("tunnel".into()));
            assert!(error.to_string().contains("upgrade this edge"), "{error}");
        }
    }

    #[test]
    fn a_kind_that_is_known_is_never_skipped() {
        assert!(page(GONE).unwrap().skipped.is_empty());
        for kind in Change::KINDS {
            let broken = format!(r#"{{"revision":3,"kind":"{kind}","optional":true,"state":7}}"#);
            assert!(matches!(page(&broken), Err(PageError::Form(_))), "{kind}");
        }
        for bad in ["7", "{}", r#"{"optional":true}"#, r#"{"kind":["tunnel"],"optional":true}"#] {
            assert!(matches!(page(bad), Err(PageError::Form(_))), "{bad}");
        }
        assert!(matches!(FeedPage::read(b"{"), Err(PageError::Form(_))));
    }

    #[test]
    fn all_kinds_are_known() {
        for kind in Change::KINDS {
            let name = if kind == "domain" { r#""name":"a.example.com""# } else { r#""id":"x_1""# };
            let gone = format!(r#"{{"revision":3,"kind":"{kind}",{name},"state":null}}"#);
            assert_eq!(page(&gone).unwrap().updates.len(), 1, "{kind}");
        }
        let error = serde_json::from_str::<Change>(r#"{"kind":"other"}"#).unwrap_err().to_string();
        let listed = Change::KINDS.map(|kind| format!("`{kind}`")).join(", ");
        assert!(error.contains(&listed), "{error}");
    }
}
