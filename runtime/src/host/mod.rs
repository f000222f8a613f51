//! What a guest may call. `af_contract::guest_world::LINKED` lists the same interfaces for admission.

mod config;
pub mod egress;
mod filesystem;
mod grants;
mod keyvalue;
pub mod log;
mod logging;
mod outbound;

use wasmtime::Engine;
use wasmtime::component::Linker;

pub use self::filesystem::{Assets, Files, FilesystemView, Piped};
pub use self::grants::{Given, Grants, Services};
pub use self::keyvalue::{CopyError, KeyValue, StoreError, Stores};
pub use self::outbound::{Outbound, Trust};
use crate::sandbox::State;

/// Links WASI 0.2 and drafts. What a guest was given nothing for, such as sockets, is linked too, because every
/// Rust guest imports it, and denies.
pub fn linker_02(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    filesystem::add_to_linker_02(&mut linker)?;
    config::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Links WASI 0.3, and 0.2, of which guests of 0.3 import parts.
pub fn linker_03(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = linker_02(engine)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    filesystem::add_to_linker_03(&mut linker)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use af_contract::guest_world::{DRAFTS, LINKED};

    use super::*;

    #[test]
    fn what_admission_accepts_is_linked() {
        let engine = Engine::default();
        // A name that is there cannot be defined again.
        let defined = |linker: fn(&Engine) -> wasmtime::Result<Linker<State>>, name: &str| {
            linker(&engine).unwrap().root().func_wrap(name, |_, (): ()| Ok(())).is_err()
        };
        // They hold type names only, so there is nothing to link.
        let types_only = ["wasi:cli/types@0.3", "wasi:clocks/types@0.3"];
        for (track, patch) in LINKED.iter().filter(|(track, _)| !types_only.contains(track)) {
            let found = |linker| (0..=*patch).rev().any(|patch| defined(linker, &format!("{track}.{patch}")));
            assert!(found(linker_03), "{track} is not linked");
            assert!(track.ends_with("@0.3") || found(linker_02), "{track} is not linked for WASI 0.2");
        }
        for name in DRAFTS {
            assert!(defined(linker_02, name) && defined(linker_03, name), "{name} is not linked");
        }
        assert!(!defined(linker_03, "acme:gpu/gpu@1.0.0"));
    }
}
