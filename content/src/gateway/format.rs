//! In which format content is asked for: by the URL first (IPIP-523), else by the `Accept` header.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;

use http::HeaderMap;
use http::header::ACCEPT;

use super::GatewayError;
use super::accept::{self, MediaRange};
use super::entity_bytes::EntityBytes;

/// A block as it is.
pub(super) const RAW_TYPE: &str = "application/vnd.ipld.raw";
/// Many blocks.
pub(super) const CAR_TYPE: &str = "application/vnd.ipld.car";
/// A document.
pub(super) const DAG_CBOR_TYPE: &str = "application/vnd.ipld.dag-cbor";

/// What is recognised and not served: a client that takes nothing else must not get something else.
const OTHER_TYPES: [&str; 5] = [
    "application/x-tar",
    "application/vnd.ipld.dag-json",
    "application/cbor",
    "application/vnd.ipfs.ipns-record",
    "application/vnd.ipld.dag-pb",
];

/// A format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// As a site has it: files, and pages for directories.
    Files,
    /// One block.
    Raw,
    /// All blocks that are needed to verify the content.
    Car(CarTerms),
    /// A document's block.
    DagCbor,
}

/// What of a DAG a CAR has. Its order is always depth first, parents before children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarTerms {
    /// How far below the end of the path.
    pub scope: Scope,
    /// Of a file, the blocks of these bytes only.
    pub bytes: Option<EntityBytes>,
    /// Of blocks that occur several times.
    pub duplicates: Duplicates,
}

/// How far below the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One block.
    Block,
    /// A file, or a directory without what is in it.
    Entity,
    /// Everything.
    All,
}

/// Blocks that occur several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// Each block is sent once.
    Left,
    /// Each is sent wherever it occurs.
    Sent,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The format.
    pub format: Format,
    /// What the URL lacks to say the same without the header.
    pub missing: String,
}

/// What a URL asks for besides the content's name. Of a parameter that is given twice, the first one counts.
#[derive(Debug, Default)]
pub struct Parameters<'a> {
    format: Option<Cow<'a, str>>,
    pub(super) filename: Option<Cow<'a, str>>,
    pub(super) download: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    bytes: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    order: Option<Cow<'a, str>>,
    duplicates: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Reads a URL's query. What is not known is ignored.
    #[must_use]
    pub fn parse(query: Option<&'a str>) -> Self {
        let mut all = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let place = match name.as_ref() {
                "format" => &mut all.format,
                "filename" => &mut all.filename,
                "download" => &mut all.download,
                "dag-scope" => &mut all.scope,
                "entity-bytes" => &mut all.bytes,
                "car-version" => &mut all.version,
                "car-order" => &mut all.order,
                "car-dups" => &mut all.duplicates,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        all
    }

    /// The format that is asked for.
    ///
    /// # Errors
    /// When it is not supported, or a parameter of it has no meaning.
    pub fn choose(&self, headers: &HeaderMap) -> Result<Choice, GatewayError> {
        let mut missing = String::new();
        let format = match self.format.as_deref() {
            Some(name) => self.named(name, headers, &mut missing)?,
            None => self.accepted(headers, &mut missing)?,
        };
        Ok(Choice { format, missing })
    }

    fn named(&self, name: &str, headers: &HeaderMap, missing: &mut String) -> Result<Format, GatewayError> {
        match name {
            "raw" => Ok(Format::Raw),
            "dag-cbor" => Ok(Format::DagCbor),
            "car" => {
                // The header may say the rest.
                let ranges = accept::ranges(headers);
                let named = ranges.iter().find(|range| range.name.eq_ignore_ascii_case(CAR_TYPE));
                Ok(Format::Car(self.car(named.filter(|range| car_supported(range)), missing)?))
            }
            "tar" => Err(GatewayError::Format("tar")),
            "ipns-record" => Err(GatewayError::Parameter("format", name.to_owned())),
            // No conversion from one codec to another (IPIP-524).
            "json" | "cbor" | "dag-json" => Err(GatewayError::NotAcceptable),
            other => Err(GatewayError::Parameter("format", other.chars().take(40).collect())),
        }
    }

    fn accepted(&self, headers: &HeaderMap, missing: &mut String) -> Result<Format, GatewayError> {
        if !headers.contains_key(ACCEPT) {
            return Ok(Format::Files);
        }
        for range in accept::ranges(headers) {
            let is = |name: &&str| range.name.eq_ignore_ascii_case(name);
            if is(&RAW_TYPE) {
                lacks(missing, "format", "raw");
                return Ok(Format::Raw);
            }
            if is(&CAR_TYPE) {
                if !car_supported(&range) {
                    continue;
                }
                lacks(missing, "format", "car");
                return Ok(Format::Car(self.car(Some(&range), missing)?));
            }
            if is(&DAG_CBOR_TYPE) {
                lacks(missing, "format", "dag-cbor");
                return Ok(Format::DagCbor);
            }
            if !OTHER_TYPES.iter().any(is) {
                return Ok(Format::Files);
            }
        }
        Err(GatewayError::NotAcceptable)
    }

    /// The URL's parameters before the header's.
    fn car(&self, range: Option<&MediaRange<'_>>, missing: &mut String) -> Result<CarTerms, GatewayError> {
        let refused =
            |name, value: &str| Err(GatewayError::Parameter(name, value.chars().take(40).collect()));
        match self.version.as_deref() {
            None | Some("1") => {}
            Some(other) => return refused("car-version", other),
        }
        match self.order.as_deref() {
            None | Some("dfs" | "unk") => {}
            Some(other) => return refused("car-order", other),
        }
        let duplicates = match (self.duplicates.as_deref(), range.and_then(|range| range.parameter("dups"))) {
            (Some("y"), _) => Duplicates::Sent,
            (Some("n"), _) | (None, None) => Duplicates::Left,
            (Some(other), _) => return refused("car-dups", other),
            (None, Some(named)) => {
                lacks(missing, "car-dups", named);
                if named == "y" { Duplicates::Sent } else { Duplicates::Left }
            }
        };
        let bytes = self.bytes.as_deref().map(EntityBytes::from_str).transpose()?;
        let scope = match self.scope.as_deref() {
            None | Some("all") if bytes.is_none() => Scope::All,
            // Bytes are of an entity.
            None | Some("all" | "entity") => Scope::Entity,
            Some("block") => Scope::Block,
            Some(other) => return refused("dag-scope", other),
        };
        Ok(CarTerms { scope, bytes, duplicates })
    }
}

/// Whether a CAR of this kind can be sent.
fn car_supported(range: &MediaRange<'_>) -> bool {
    let is = |name, known: &[&str]| range.parameter(name).is_none_or(|value| known.contains(&value));
    is("version", &["1"]) && is("order", &["dfs", "unk", ""]) && is("dups", &["y", "n"])
}

fn lacks(missing: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _written = write!(missing, "{}{name}={value}", if missing.is_empty() { "" } else { "&" });
}

impl CarTerms {
    /// As a header says it.
    pub(super) const fn media_type(&self) -> &'static str {
        match self.duplicates {
            Duplicates::Left => "application/vnd.ipld.car; version=1; order=dfs; dups=n",
            Duplicates::Sent => "application/vnd.ipld.car; version=1; order=dfs; dups=y",
        }
    }
}

impl Scope {
    /// As a URL says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Entity => "entity",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn choose(query: &str, accept: &str) -> Result<Choice, GatewayError> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        }
        Parameters::parse(Some(query)).choose(&headers)
    }

    fn chosen(query: &str, accept: &str) -> String {
        match choose(query, accept) {
            Ok(Choice { format: Format::Car(terms), .. }) => {
                let dups = if terms.duplicates == Duplicates::Sent { "y" } else { "n" };
                let bytes = terms.bytes.map_or(String::new(), |bytes| bytes.to_string());
                format!("car {} {dups} {bytes}", terms.scope.name()).trim().to_owned()
            }
            Ok(choice) => format!("{:?}", choice.format).to_lowercase(),
            Err(error) => error.status().0.as_str().to_owned(),
        }
    }

    #[test]
    fn headers_and_the_format_that_is_sent() {
        for (accept, expected) in [
            ("", "files"),
            ("*/*", "files"),
            ("text/html,application/xhtml+xml,*/*;q=0.8", "files"),
            ("image/avif,image/*", "files"),
            ("application/json", "files"),
            ("application/vnd.ipld.raw", "raw"),
            ("application/vnd.ipld.raw;q=0.5, application/vnd.ipld.car", "car all n"),
            ("application/vnd.ipld.raw, application/vnd.ipld.car;q=0.5", "raw"),
            ("application/vnd.ipld.car, */*;q=0.5", "car all n"),
            ("application/vnd.ipld.car;version=1;order=dfs;dups=y", "car all y"),
            (
                "application/vnd.ipld.car;order=foo, application/vnd.ipld.car;order=dfs;dups=y;q=0.5",
                "car all y",
            ),
            ("application/vnd.ipld.car;version=2", "406"),
            ("application/vnd.ipld.car;version=2, */*;q=0.1", "files"),
            ("application/vnd.ipld.dag-cbor", "dagcbor"),
            ("application/vnd.ipld.dag-json", "406"),
            ("application/x-tar", "406"),
            ("application/x-tar, */*;q=0", "406"),
            ("text/html;q=0", "406"),
        ] {
            assert_eq!(chosen("", accept), expected, "{accept}");
        }
    }

    #[test]
    fn what_the_url_says_comes_first() {
        let car = "application/vnd.ipld.car;order=unk;dups=y";
        for (query, accept, expected) in [
            ("format=raw", car, "raw"),
            ("format=car", "application/vnd.ipld.raw", "car all n"),
            ("format=car", car, "car all y"),
            ("format=car&car-dups=n", car, "car all n"),
            ("car-dups=n", car, "car all n"),
            ("format=car&dag-scope=block&car-order=dfs&car-version=1", "", "car block n"),
            ("format=car&dag-scope=entity", "", "car entity n"),
            ("format=car&entity-bytes=0:5", "", "car entity n 0:5"),
            ("format=car&entity-bytes=0:5&dag-scope=all", "", "car entity n 0:5"),
            ("format=car&format=raw", "", "car all n"),
            ("format=raw&entity-bytes=x&dag-scope=x", "", "raw"),
            ("format=car&dag-scope=x", "", "400"),
            ("format=car&entity-bytes=5", "", "400"),
            ("format=car&car-version=2", "", "400"),
            ("format=car&car-order=bfs", "", "400"),
            ("format=car&car-dups=maybe", "", "400"),
            ("format=tar", "", "501"),
            ("format=dag-json", "", "406"),
            ("format=ipns-record", "", "400"),
            ("format=zip", "", "400"),
            ("format=", "", "400"),
            ("filename=a&x=y", "", "files"),
        ] {
            assert_eq!(chosen(query, accept), expected, "{query} {accept}");
        }
    }

    #[test]
    fn what_a_url_lacks_to_say_the_same_is_told() {
        let missing = |query, accept| choose(query, accept).unwrap().missing;
        assert_eq!(missing("", "application/vnd.ipld.raw"), "format=raw");
        assert_eq!(missing("", "application/vnd.ipld.car;dups=y"), "format=car&car-dups=y");
        assert_eq!(missing("format=car", "application/vnd.ipld.car;dups=y"), "car-dups=y");
        assert_eq!(missing("format=raw", "application/vnd.ipld.car;dups=y"), "");
        assert_eq!(missing("", "*/*"), "");
    }

    proptest::proptest! {
        #[test]
        fn any_query_and_header_is_a_format_or_refused(query in "[a-z=&%0-9:*-]{0,80}", accept in "[a-z/*;=q.0-9, ]{0,80}") {
            if let Ok(choice) = choose(&query, &accept) {
                proptest::prop_assert!(HeaderValue::try_from(choice.missing).is_ok());
            }
        }
    }
}
