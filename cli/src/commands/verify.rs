//! `af verify`: whether a file, a folder, a CAR or what others have under a CID is what it should be.

mod here;

use std::path::Path;

use af_contract::{Codec, ContentId};
use anyhow::bail;
use serde_json::json;

use self::here::{Found, Kind};
use super::fetch::Fetched;
use crate::args::content::{Fetch, Verify};
use crate::args::values;
use crate::client::Finding;
use crate::config::Environment;
use crate::output::{Output, counted};

/// Says what something is, and fails when it should be something else.
pub async fn verify(options: Verify, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    if Path::new(&options.what).exists() {
        let (options, found) =
            tokio::task::spawn_blocking(move || Found::read(&options).map(|found| (options, found)))
                .await??;
        judge(&found, &options)?;
        report(&found, output);
        return Ok(());
    }
    let cid = match values::cid(&options.what) {
        Ok(cid) => cid,
        Err(why) => bail!("{} is neither a file or folder here nor a CID: {why}", options.what),
    };
    if options.profile.is_some() {
        bail!("--profile is for a file or folder here; a CID has its blocks already");
    }
    let fetch = Fetch {
        cid,
        sources: options.sources,
        #[cfg(feature = "bitswap")]
        peers: options.peers,
        output: None,
        car: false,
        blocks: None,
        max_mb: 4096,
    };
    let fetched = Fetched::new(&fetch, environment, output).await?;
    expect("CID", options.cid.as_ref(), &cid)?;
    match (&options.blake3, &fetched.blake3) {
        (Some(_), None) => bail!("{cid} is no file, so it has no BLAKE3 of its own"),
        (expected, Some(found)) => expect("BLAKE3", expected.as_ref(), found)?,
        (None, None) => {}
    }
    fetched.report(output);
    Ok(())
}

fn judge(found: &Found, options: &Verify) -> anyhow::Result<()> {
    if let Some(expected) = &options.cid
        && !found.roots.contains(expected)
    {
        return Err(other_cid(found, expected, options).into());
    }
    if let Some(expected) = &options.blake3 {
        match (found.blake3, found.of_file) {
            (_, Some(of_file)) if of_file == *expected => {}
            (None, _) => bail!("a folder has no BLAKE3 of its own; compare its CID, with --cid"),
            (Some(of_car), Some(of_file)) if of_car != *expected => {
                let detail = format!(
                    "WRONG: the BLAKE3 of the file in it is {of_file}, that of the CAR itself {of_car}, not {expected}"
                );
                return Err(Finding::new("wrong", detail).into());
            }
            (Some(blake3), _) => expect("BLAKE3", Some(expected), &blake3)?,
        }
    }
    if found.missing > 0 {
        let blocks = counted(found.missing as u64, "block");
        let detail = format!("INCOMPLETE: {blocks} that the CAR links to, but does not have");
        return Err(Finding::new("incomplete", detail).into());
    }
    Ok(())
}

/// It has another CID than it should have; whether it is wrong depends on what is known of that one.
fn other_cid(found: &Found, expected: &ContentId, options: &Verify) -> Finding {
    let roots = found.roots.iter().map(ContentId::to_string).collect::<Vec<_>>().join(", ");
    let (what, left_out) = match found.kind {
        Kind::Car => return Finding::new("wrong", format!("WRONG: its CID is {roots}, not {expected}")),
        Kind::File => ("file", String::new()),
        Kind::Folder if found.left_out == 0 => ("folder", String::new()),
        Kind::Folder => {
            let names = counted(found.left_out as u64, "name");
            ("folder", format!("; {names} in it that begin with a dot were left out"))
        }
    };
    // What is one block has one CID of that kind. What is a node may be one of many trees of the same bytes.
    if expected.codec() != Codec::DagPb {
        return Finding::new("wrong", format!("WRONG: its CID is {roots}, not {expected}"));
    }
    if let Some(profile) = options.profile {
        let detail = format!(
            "NOT PROVEN: under {profile} the CID of this {what} is {roots}, not {expected}{left_out}; without --profile, all known ways to make blocks are tried"
        );
        return Finding::new("not_proven", detail);
    }
    let next = match found.blake3 {
        Some(blake3) => format!(
            "run `af fetch {expected} --source gateway=https://trustless-gateway.link` and compare the BLAKE3 that it shows with this file's, {blake3}"
        ),
        None => format!(
            "run `af fetch {expected} --source gateway=https://trustless-gateway.link -o NAME` and compare the folders"
        ),
    };
    let detail = format!(
        "NOT PROVEN: made into blocks in no known way does this {what} have the CID {expected} (under {} it is {roots}{left_out}). It is another {what}, or its blocks were made in a way that is not known, which cannot be told from the {what} alone. To find out, {next}",
        options.profile.unwrap_or_default()
    );
    Finding::new("not_proven", detail)
}

fn report(found: &Found, output: &Output) {
    let roots: Vec<String> = found.roots.iter().map(ContentId::to_string).collect();
    let mut fields = vec![("CID", roots.join(", "))];
    fields.extend(found.chunking.map(|chunking| ("made with", chunking.to_string())));
    let name = if found.kind == Kind::Car { "BLAKE3 of the CAR" } else { "BLAKE3" };
    fields.extend(found.blake3.map(|blake3| (name, blake3.to_string())));
    fields.extend(found.of_file.map(|blake3| ("BLAKE3 of the file", blake3.to_string())));
    fields.push(("blocks", format!("{}, {}", found.blocks, counted(found.bytes, "byte"))));
    if found.left_out > 0 {
        let names = counted(found.left_out as u64, "name");
        fields.push(("left out", format!("{names} that begin with a dot")));
    }
    fields.push(("verdict", "every block is what its CID says".to_owned()));
    let value = json!({
        "roots": found.roots, "blake3Hash": found.blake3, "fileBlake3Hash": found.of_file,
        "chunking": found.chunking.map(|chunking| chunking.to_string()), "blocks": found.blocks, "bytes": found.bytes,
        "leftOut": found.left_out, "verified": true,
    });
    output.result(&value, &output.fields(&fields));
}

fn expect<T: PartialEq + std::fmt::Display>(
    what: &str,
    expected: Option<&T>,
    found: &T,
) -> Result<(), Finding> {
    match expected {
        Some(expected) if expected != found => {
            Err(Finding::new("wrong", format!("WRONG: its {what} is {found}, not {expected}")))
        }
        _ => Ok(()),
    }
}
