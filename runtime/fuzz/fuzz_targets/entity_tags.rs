//! A list of entity tags matches what is in it and nothing else. Input: the list, a line break, the tag's text.

#![no_main]

#[path = "../../../control-api/src/domain/entity_tags.rs"]
mod entity_tags;

use entity_tags::{have, have_strong};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (list, tag) = text.split_once('\n').unwrap_or((text, ""));
    // As this platform makes them.
    let tag: String = tag.chars().filter(char::is_ascii_hexdigit).collect();
    let tag = format!("\"{tag}\"");
    let (strong, weak) = (have_strong(list, &tag), have(list, &tag));
    assert!(!strong || weak, "what is strongly the same is weakly the same");
    assert!(!weak || list.contains(&tag) || list.contains('*'), "it is in the list");
    assert!(have_strong(&format!("{list}, {tag}"), &tag) && have_strong(&format!("{tag},{list}"), &tag));
    assert_eq!(have_strong(&format!("{list}, W/{tag}"), &tag), strong, "a weak tag is no strong one");
    assert!(have(&format!("{list}, W/{tag}"), &tag));
});
