//! The page for a directory that has none of its own. Its links are relative, so they are right wherever the directory is.

use std::fmt::Write;

use af_contract::ContentId;

use super::error::DagError;
use super::reading::Reading;
use super::target::Target;
use crate::serving::path;
use crate::unixfs::Listing;

/// Part of the page's entity tag: to be counted up when the page changes.
pub(super) const VERSION: &str = "1";

/// Makes the page.
///
/// # Errors
/// When the directory cannot be read, or is too large.
pub fn page(directory: ContentId, target: &Target, reading: &mut Reading) -> Result<String, DagError> {
    let mut listing = Listing::new(directory);
    while let Some(id) = listing.wanted() {
        listing.feed(&reading.block(&id)?)?;
    }
    let directory = listing.finish()?;
    let mut title = String::from("/ipfs/");
    escape(&target.cid.to_string(), &mut title);
    for name in &target.names {
        title.push('/');
        escape(name, &mut title);
    }
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Index of {title}</title>\
         <style>body{{font-family:sans-serif}}td{{padding:0 1em 0 0}}td+td{{text-align:right}}</style></head>\n\
         <body><h1>Index of {title}</h1>\n<table>\n"
    );
    if !target.names.is_empty() {
        out.push_str("<tr><td><a href=\"../\">..</a></td><td></td></tr>\n");
    }
    for entry in directory.entries() {
        out.push_str("<tr><td><a href=\"./");
        let mut reference = String::new();
        path::encode(&entry.name, &mut reference);
        escape(&reference, &mut out);
        out.push_str("\">");
        escape(&entry.name, &mut out);
        // Of the DAG, as the directory says: no entry is read for its page. Writing to a string does not fail.
        let _written = writeln!(out, "</a></td><td>{}</td></tr>", entry.size);
    }
    out.push_str("</table></body></html>\n");
    Ok(out)
}

fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            c => into.push(c),
        }
    }
}
