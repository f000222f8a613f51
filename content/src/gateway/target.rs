//! Which content a request names: a CID, and names below it.

use std::borrow::Cow;

use af_contract::{Cid, ContentId, ContentIdError};

use super::GatewayError;
use crate::serving::path::{self, FilePath};

/// Names of a path. Twice as deep as what can be deployed, and no more work than one request may be.
const NAMES: usize = 64;

/// The namespace of immutable content.
const IPFS: &str = "/ipfs/";

/// What a request names.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the path begins.
    pub root: ContentId,
    /// As it was written.
    pub cid: Cid,
    /// Below it.
    pub names: Vec<String>,
    /// Whether it asks for a directory.
    pub slash: bool,
    /// Of all of it, as it was written: `/ipfs/{cid}/…`
    pub written: String,
    style: Style,
}

/// Where the CID stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In the path.
    Path,
    /// In the host, so that each root is an origin of its own.
    Host,
}

impl Target {
    /// Reads a URL's path, `/ipfs/{cid}/…`
    ///
    /// # Errors
    /// When it is of another namespace, the CID cannot be used, or what is below has no names.
    pub fn of_path(path: &str) -> Result<Self, GatewayError> {
        let rest = path.strip_prefix(IPFS).ok_or(GatewayError::Namespace)?;
        let (cid, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self::new(cid, below, Style::Path)
    }

    /// Reads a host's first label and a URL's path.
    ///
    /// # Errors
    /// As [`Self::of_path`].
    pub fn of_host(label: &str, path: &str) -> Result<Self, GatewayError> {
        Self::new(label, path, Style::Host)
    }

    fn new(text: &str, below: &str, style: Style) -> Result<Self, GatewayError> {
        let (cid, root) = root(text)?;
        let path = FilePath::parse(below)?;
        if path.names().len() > NAMES {
            return Err(GatewayError::TooDeep(NAMES));
        }
        Ok(Self {
            root,
            cid,
            names: path.names().iter().map(|name| Cow::into_owned(name.clone())).collect(),
            slash: path.ends_with_slash(),
            written: format!("{IPFS}{text}{below}"),
            style,
        })
    }

    /// Where the CID stands.
    #[must_use]
    pub const fn style(&self) -> Style {
        self.style
    }

    /// The path of this directory on the same host. Made of the names, so it never leads to another one.
    pub(super) fn as_directory(&self) -> String {
        let mut out = match self.style {
            Style::Path => format!("{IPFS}{}/", self.cid),
            Style::Host => "/".to_owned(),
        };
        for name in &self.names {
            path::encode(name, &mut out);
            out.push('/');
        }
        out
    }

    /// The CID as a host's label, in the one form that does not depend on case; `None` for content within the CID.
    #[must_use]
    pub fn label(&self) -> Option<String> {
        (!self.root.is_inline()).then(|| self.root.to_string())
    }

    /// What is below the CID, as it was written; begins with a slash.
    #[must_use]
    pub fn below(&self) -> &str {
        let rest = self.written.get(IPFS.len()..).unwrap_or_default();
        rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/")
    }
}

fn root(text: &str) -> Result<(Cid, ContentId), ContentIdError> {
    let cid = Cid::try_from(text)
        .map_err(|source| ContentIdError::Syntax { text: text.chars().take(100).collect(), source })?;
    Ok((cid, ContentId::try_from(cid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    #[test]
    fn paths_and_hosts_name_content() {
        let target = Target::of_path(&format!("/ipfs/{CID}/a/%C4%85%2Etxt")).unwrap();
        assert_eq!(target.root, ContentId::parse(CID).unwrap());
        assert_eq!(
            (target.names.as_slice(), target.slash),
            (&["a".to_owned(), "ą.txt".to_owned()][..], false)
        );
        assert_eq!(target.written, format!("/ipfs/{CID}/a/%C4%85%2Etxt"));
        assert_eq!(target.as_directory(), format!("/ipfs/{CID}/a/%C4%85.txt/"));
        assert_eq!(target.below(), "/a/%C4%85%2Etxt");
        let root = Target::of_path(&format!("/ipfs/{CID}")).unwrap();
        assert_eq!((root.names.len(), root.slash, root.below()), (0, false, "/"));
        let host = Target::of_host(CID, "//evil.example/").unwrap();
        assert_eq!((host.as_directory().as_str(), host.slash), ("/evil.example/", true));
        assert_eq!(host.written, format!("/ipfs/{CID}//evil.example/"));
    }

    #[test]
    fn both_versions_and_inline_content_are_roots() {
        let v0 = Target::of_path("/ipfs/Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").unwrap();
        assert!(v0.root.to_string().starts_with("bafybei"));
        let empty = Target::of_path("/ipfs/bafkqaaa").unwrap();
        assert_eq!((empty.root.content(), empty.label()), (Some(&b""[..]), None));
        let hello = Target::of_path("/ipfs/bafkqabtimvwgy3yk/").unwrap();
        assert_eq!(hello.root.content(), Some(&b"hello\n"[..]));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let long = format!("/ipfs/{CID}{}", "/a".repeat(NAMES + 1));
        for path in ["/ipfs/", "/ipfs//", "/ipfs/x", "/ipns/x", "/", "", "/ipfs", "/IPFS/x", &long] {
            assert!(Target::of_path(path).is_err(), "{path}");
        }
        for below in ["/..", "/%2e%2e/x", "/a%2Fb", "/%00", "/%", "/%ff"] {
            assert!(
                matches!(Target::of_path(&format!("/ipfs/{CID}{below}")), Err(GatewayError::Path(_))),
                "{below}"
            );
        }
        // dag-json, and 129 bytes of inline content.
        let hash = af_contract::Multihash::wrap(0x12, &[0; 32]).unwrap();
        assert!(Target::of_path(&format!("/ipfs/{}", Cid::new_v1(0x129, hash))).is_err());
        let long =
            cid::CidGeneric::<256>::new_v1(0x55, cid::multihash::Multihash::wrap(0, &[7; 129]).unwrap());
        assert!(Target::of_path(&format!("/ipfs/{long}")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_a_target_or_refused(below in "[/.%a-f0-9?#\\\\]{0,80}") {
            let Ok(target) = Target::of_path(&format!("/ipfs/{CID}{below}")) else { return Ok(()) };
            let location = target.as_directory();
            proptest::prop_assert!(location.starts_with("/ipfs/") && !location.contains("//"));
            proptest::prop_assert!(http::HeaderValue::try_from(&location).is_ok());
            let again = Target::of_path(&location).unwrap();
            proptest::prop_assert_eq!(again.names, target.names);
        }
    }
}
