//! `_redirects`: what a site answers where it has no file
//! (<https://specs.ipfs.tech/http-gateways/web-redirects-file/>).
//!
//! A path is matched in one pass over each rule, so all rules together cost no more than reading the file.

use af_content::serving::path::{self, FilePath};
use af_contract::limits;
use http::StatusCode;

/// What the file may have, bytes: the specification's limit.
pub const FILE_BYTES: u64 = 64 << 10;

/// The name of the rest of a path, for which `*` stands.
const SPLAT: &str = "splat";

/// The rules of a site, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects {
    rules: Vec<Rule>,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client is to go elsewhere.
    Elsewhere(StatusCode, String),
    /// The client is sent the file at this path of the site.
    File(StatusCode, String),
}

/// Why a file is no list of rules. The site's owner has to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectsError {
    /// Larger than [`FILE_BYTES`].
    #[error("the site's _redirects has more than {FILE_BYTES} bytes")]
    TooLarge,
    /// No text.
    #[error("the site's _redirects is not UTF-8")]
    Utf8,
    /// No rule.
    #[error("line {line} of the site's _redirects: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    from: Vec<Part>,
    /// Whether anything may follow.
    splat: bool,
    to: Vec<Piece>,
    status: StatusCode,
}

/// One name of the path that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(String),
}

/// A piece of where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What was at this place of the path.
    Name(usize),
    /// What followed.
    Rest,
}

impl Redirects {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is too large, or a line is neither a rule nor a comment.
    pub fn parse(file: &[u8]) -> Result<Self, RedirectsError> {
        if file.len() as u64 > FILE_BYTES {
            return Err(RedirectsError::TooLarge);
        }
        let text = std::str::from_utf8(file).map_err(|_| RedirectsError::Utf8)?;
        let mut rules = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let rule = Rule::parse(line);
            rules.extend(rule.map_err(|reason| RedirectsError::Line { line: number + 1, reason })?);
        }
        Ok(Self { rules })
    }

    /// What the first rule for this path says. The query goes with a redirect that has none of its own.
    #[must_use]
    pub fn find(&self, path: &FilePath<'_>, query: Option<&str>) -> Option<Outcome> {
        self.rules.iter().find_map(|rule| rule.apply(path, query))
    }
}

impl Rule {
    /// None for a comment.
    fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        // A comment may also end a line: no target begins like one.
        let mut fields = line.split_whitespace().take_while(|field| !field.starts_with('#'));
        let Some(from) = fields.next() else { return Ok(None) };
        let to = fields.next().ok_or("it does not say where the path leads")?;
        let status = fields.next().map_or(Ok(StatusCode::MOVED_PERMANENTLY), status)?;
        if fields.next().is_some() {
            return Err("it has more than a path, where it leads, and a status");
        }
        let (from, splat) = parts(from)?;
        if !to.starts_with('/') && !status.is_redirection() {
            return Err("a file can be sent from the site itself only; begin with /");
        }
        Ok(Some(Self { to: pieces(to, &from, splat)?, from, splat, status }))
    }

    fn apply(&self, path: &FilePath<'_>, query: Option<&str>) -> Option<Outcome> {
        let names = path.names();
        let (names, rest) = names.split_at_checked(self.from.len())?;
        if !rest.is_empty() && !self.splat {
            return None;
        }
        let fits = |(part, name): (&Part, &std::borrow::Cow<'_, str>)| match part {
            Part::Text(text) => text == name,
            Part::Placeholder(_) => true,
        };
        if !self.from.iter().zip(names).all(fits) {
            return None;
        }
        let to = self.target(names, rest, path.ends_with_slash())?;
        if !self.status.is_redirection() {
            let path = to.split(['?', '#']).next().unwrap_or_default().to_owned();
            return Some(Outcome::File(self.status, path));
        }
        Some(Outcome::Elsewhere(self.status, with_query(to, query)))
    }

    /// None when it would be longer than a URL may be: a short rule can repeat a long path many times.
    fn target<S: AsRef<str>>(&self, names: &[S], rest: &[S], slash: bool) -> Option<String> {
        let mut to = String::new();
        for piece in &self.to {
            match piece {
                Piece::Text(text) => to.push_str(text),
                Piece::Name(place) => path::encode(names.get(*place)?.as_ref(), &mut to),
                Piece::Rest => {
                    for (number, name) in rest.iter().enumerate() {
                        if number > 0 {
                            to.push('/');
                        }
                        path::encode(name.as_ref(), &mut to);
                    }
                    if slash && !rest.is_empty() {
                        to.push('/');
                    }
                }
            }
            if to.len() > limits::URL_BYTES {
                return None;
            }
        }
        // Two slashes would begin a host, which an empty rest can leave to a placeholder behind it.
        let path = to.trim_start_matches('/');
        Some(if to.starts_with("//") { format!("/{path}") } else { to })
    }
}

fn status(field: &str) -> Result<StatusCode, &'static str> {
    match field {
        "200" | "301" | "302" | "303" | "307" | "308" | "404" | "410" | "451" => {
            StatusCode::from_bytes(field.as_bytes()).map_err(|_| "its status is no number")
        }
        forced if forced.ends_with('!') => Err("it cannot be forced; a file that exists is always sent"),
        _ => Err("its status is none of 200, 301, 302, 303, 307, 308, 404, 410 and 451"),
    }
}

/// The names of a path, and whether anything may follow.
fn parts(from: &str) -> Result<(Vec<Part>, bool), &'static str> {
    let path = from.strip_prefix('/').ok_or("its path does not begin with /")?;
    let (path, splat) = match path.strip_suffix('*') {
        Some(before) if before.is_empty() || before.ends_with('/') => (before, true),
        _ => (path, false),
    };
    if path.contains('*') {
        return Err("an asterisk can only be the last part of its path");
    }
    let mut parts: Vec<Part> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let part = part_of(part)?;
        if matches!(part, Part::Placeholder(_)) && parts.contains(&part) {
            return Err("its path has the same placeholder twice");
        }
        parts.push(part);
    }
    Ok((parts, splat))
}

fn part_of(text: &str) -> Result<Part, &'static str> {
    let Some(name) = text.strip_prefix(':') else {
        let text = path::decoded(text).map_err(|_| "its path has a malformed escape")?;
        return Ok(Part::Text(text.into_owned()));
    };
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err("a placeholder is a colon with letters, digits and underscores");
    }
    if name == SPLAT {
        return Err("a placeholder cannot be named splat; that is what the asterisk is named");
    }
    Ok(Part::Placeholder(name.to_owned()))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where a rule leads, cut at the placeholders that its path has. Other colons are what they are.
fn pieces(to: &str, from: &[Part], splat: bool) -> Result<Vec<Piece>, &'static str> {
    let (origin, mut rest) = split_origin(to)?;
    let mut pieces = Vec::new();
    let mut text = String::new();
    path::encode_written(origin, &mut text);
    while let Some((before, after)) = rest.split_once(':') {
        path::encode_written(before, &mut text);
        let end = after.bytes().position(|byte| !is_name(byte)).unwrap_or(after.len());
        let (name, behind) = after.split_at(end);
        let place = from.iter().position(|part| matches!(part, Part::Placeholder(known) if known == name));
        match place.map(Piece::Name).or((splat && name == SPLAT).then_some(Piece::Rest)) {
            Some(piece) => {
                pieces.extend([Piece::Text(std::mem::take(&mut text)), piece]);
                rest = behind;
            }
            None => {
                text.push(':');
                rest = after;
            }
        }
    }
    path::encode_written(rest, &mut text);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// Scheme and host, in which nothing of a visitor's path is put, and what follows.
fn split_origin(to: &str) -> Result<(&str, &str), &'static str> {
    if to.starts_with('/') && !to.starts_with("//") {
        return Ok(("", to));
    }
    let host = to.strip_prefix("https://").or_else(|| to.strip_prefix("http://"));
    let host = host.ok_or("it leads neither to a path nor to an http:// or https:// URL")?;
    let end = host.find(['/', '?', '#']).unwrap_or(host.len());
    if end == 0 {
        return Err("its URL has no host");
    }
    Ok(to.split_at(to.len() - host.len() + end))
}

/// Puts a query before the fragment, unless there is one.
pub fn with_query(to: String, query: Option<&str>) -> String {
    let Some(query) = query.filter(|_| !to.contains('?')) else { return to };
    let (before, fragment) = to.split_at(to.find('#').unwrap_or(to.len()));
    let mut out = format!("{before}?");
    path::encode_written(query, &mut out);
    out + fragment
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What rules make of a path with a query, as one line.
    fn applied(rules: &str, path: &str) -> String {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let rules = Redirects::parse(rules.as_bytes()).unwrap();
        match rules.find(&FilePath::parse(path).unwrap(), query) {
            Some(Outcome::Elsewhere(status, to)) => format!("{} -> {to}", status.as_u16()),
            Some(Outcome::File(status, path)) => format!("{} = {path}", status.as_u16()),
            None => "none".to_owned(),
        }
    }

    /// The file of the specification's own example.
    const EXAMPLES: &str = "/redirect-one /one.html
/301-redirect-one /one.html 301
/302-redirect-two /two.html 302
/200-index /index.html 200
/posts/:year/:month/:day/:title /articles/:year/:month/:day/:title 301
/splat/* /redirected-splat/:splat 301
/not-found/* /404.html 404
/gone/* /410.html 410
/unavail/* /451.html 451
/* /index.html 200
";

    #[test]
    fn the_examples_of_the_specification() {
        for (path, expected) in [
            ("/redirect-one", "301 -> /one.html"),
            ("/301-redirect-one", "301 -> /one.html"),
            ("/302-redirect-two", "302 -> /two.html"),
            ("/200-index", "200 = /index.html"),
            ("/posts/2022/01/02/hello", "301 -> /articles/2022/01/02/hello"),
            ("/posts/2022/01/02", "200 = /index.html"),
            ("/splat/one.html", "301 -> /redirected-splat/one.html"),
            ("/splat/a/b/", "301 -> /redirected-splat/a/b/"),
            ("/splat", "301 -> /redirected-splat/"),
            ("/not-found/a", "404 = /404.html"),
            ("/gone/a/b", "410 = /410.html"),
            ("/unavail/", "451 = /451.html"),
            ("/anything", "200 = /index.html"),
        ] {
            assert_eq!(applied(EXAMPLES, path), expected, "{path}");
            assert_eq!(applied(&EXAMPLES.replace('\n', "\r\n"), path), expected, "{path}");
        }
    }

    #[test]
    fn rules_and_what_they_make_of_paths() {
        for (rule, path, expected) in [
            ("/a /b", "/a/", "301 -> /b"),
            ("/a/ /b", "/a", "301 -> /b"),
            ("/a /b", "/A", "none"),
            ("/a /b", "/a/b", "none"),
            ("/a /b 303", "/a?x=1&y", "303 -> /b?x=1&y"),
            ("/a /b?z=2 307", "/a?x=1", "307 -> /b?z=2"),
            ("/a /b#top 308", "/a?x=1", "308 -> /b?x=1#top"),
            ("/a https://example.com", "/a", "301 -> https://example.com"),
            ("/a/* https://example.com:8080/x/:splat", "/a/b/c", "301 -> https://example.com:8080/x/b/c"),
            ("/:a/:b /:b/:a/:a-:unknown:", "/1/2", "301 -> /2/1/1-:unknown:"),
            ("/:lang/* /:splat?l=:lang", "/de/x/y", "301 -> /x/y?l=de"),
            ("/:a /x/:ab", "/1", "301 -> /x/:ab"),
            ("/%61 /b", "/a", "301 -> /b"),
            ("/ä/:x /ü/:x", "/%C3%A4/%C3%B6", "301 -> /%C3%BC/%C3%B6"),
            ("/a b 301", "/x", "error"),
            ("/a /b # why", "/a", "301 -> /b"),
            ("# /a /b", "/a", "none"),
            ("", "/a", "none"),
            ("/ /b 302", "/", "302 -> /b"),
            ("/x /y/z.html?q#f 200", "/x", "200 = /y/z.html"),
        ] {
            if expected == "error" {
                Redirects::parse(rule.as_bytes()).unwrap_err();
            } else {
                assert_eq!(applied(rule, path), expected, "{rule} for {path}");
            }
        }
    }

    #[test]
    fn a_visitors_path_chooses_no_host_and_no_header() {
        for (rule, path, expected) in [
            ("/x/* /:splat", "/x//evil.example/", "301 -> /evil.example/"),
            ("/x/* /:splat", "/x/%5Cevil.example", "301 -> /%5Cevil.example"),
            ("/x/* /:splat", "/x/a%0D%0ASet-Cookie:%20b", "301 -> /a%0D%0ASet-Cookie:%20b"),
            ("/:a/* /:splat/:a", "/evil.example/", "301 -> /evil.example"),
            ("/x/:y /y?:y", "/x/a&b%23c%3Fd", "301 -> /y?a&b%23c%3Fd"),
        ] {
            assert_eq!(applied(rule, path), expected, "{rule} for {path}");
        }
        let repeated = format!("/:a /{}", ":a".repeat(30_000));
        assert_eq!(applied(&repeated, &format!("/{}", "a".repeat(16_000))), "none");
    }

    #[test]
    fn faults_name_their_line() {
        for (rule, reason) in [
            ("/a", "where the path leads"),
            ("a /b", "begin with /"),
            ("https://example.com/* /b", "begin with /"),
            ("/a b", "neither to a path"),
            ("/a //example.com", "neither to a path"),
            ("/a ftp://example.com", "neither to a path"),
            ("/a https:///x", "no host"),
            ("/a/*/b /b", "asterisk"),
            ("/a* /b", "asterisk"),
            ("/** /b", "asterisk"),
            ("/a /b 300", "status"),
            ("/a /b 301!", "forced"),
            ("/a /b 200!", "forced"),
            ("/a x=:y /b 301", "status"),
            ("/a /b 301 Country=de", "more than"),
            ("/a https://example.com/ 200", "the site itself"),
            ("/:a/:a /b", "twice"),
            ("/:/x /b", "placeholder"),
            ("/:a-b /b", "placeholder"),
            ("/:splat /b", "asterisk"),
            ("/%4 /b", "escape"),
        ] {
            let error = Redirects::parse(format!("# a comment\n\n{rule}\n").as_bytes()).unwrap_err();
            assert!(matches!(error, RedirectsError::Line { line: 3, .. }), "{rule}: {error}");
            assert!(error.to_string().contains(reason), "{rule}: {error}");
        }
        assert_eq!(Redirects::parse(b"/a \xff"), Err(RedirectsError::Utf8));
        assert_eq!(Redirects::parse(&vec![b'#'; 65_537]), Err(RedirectsError::TooLarge));
        assert_eq!(Redirects::parse(&vec![b'#'; 65_536]), Ok(Redirects::default()));
    }

    proptest::proptest! {
        #[test]
        fn any_rule_leads_to_a_place_that_can_be_named_or_is_refused(
            from in "[/a:*%2f.-]{0,16}",
            to in "(/|https://h)?[/a:*?#%\\\\ä.-]{0,16}(:splat)?",
            status in "( (200|301|404))?",
            path in "[/a%5C2e.ä-]{0,24}",
        ) {
            let Ok(rules) = Redirects::parse(format!("{from} {to}{status}").as_bytes()) else { return Ok(()) };
            let Ok(path) = FilePath::parse(&path) else { return Ok(()) };
            match rules.find(&path, None) {
                Some(Outcome::Elsewhere(_, location)) => {
                    proptest::prop_assert!(http::HeaderValue::try_from(&location).is_ok());
                    let host = location.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next());
                    let inside = location.starts_with('/')
                        && !location.starts_with("//")
                        && !location.contains('\\');
                    proptest::prop_assert!(inside || host.is_some_and(|host| host.is_some()), "{location}");
                }
                Some(Outcome::File(_, file)) => proptest::prop_assert!(file.starts_with('/')),
                None => {}
            }
        }
    }
}
