//! Any bytes are judged, and a component that is accepted stays one when its memory is taken out of it, and when
//! what sets its instances back is added.

#![no_main]

#[path = "../../../control-api/src/domain/component.rs"]
mod component;
#[path = "../../src/artifact/image.rs"]
mod image;
#[path = "../../src/artifact/rewind.rs"]
mod rewind;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (judged, split) = (component::judge(bytes), image::split(bytes));
    if let (Ok(world), Some(split)) = (&judged, split) {
        assert_eq!(component::judge(&split.component).ok().as_ref(), Some(world));
        assert_eq!(split.memory.len() % (64 << 10), 0);
        if let Some(added) = rewind::add(&split.component) {
            assert_eq!(component::judge(&added).ok().as_ref(), Some(world));
            let name = rewind::export(0);
            assert!(added.windows(name.len()).any(|window| window == name.as_bytes()));
        }
    }
});
