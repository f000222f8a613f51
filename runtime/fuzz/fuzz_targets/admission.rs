//! Any bytes are judged, and a component that is accepted stays one when its memory is taken out of it.

#![no_main]

#[path = "../../../control-api/src/domain/component.rs"]
mod component;
#[path = "../../src/artifact/image.rs"]
mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let judged = component::judge(bytes);
    let split = image::split(bytes);
    if judged.is_ok()
        && let Some(split) = split
    {
        assert_eq!(component::judge(&split.component).ok(), judged.ok());
        assert_eq!(split.memory.len() % (64 << 10), 0);
    }
});
