//! What a guest may call. `af_contract::guest_world::LINKED` lists the same interfaces for admission.

pub mod log;
mod outbound;

use wasmtime::Engine;
use wasmtime::component::Linker;

pub use self::outbound::Outbound;
use crate::sandbox::State;

/// Links WASI 0.2 and 0.3. What a guest was given nothing for, such as files and sockets, is linked
/// too, because every Rust guest imports it, and denies.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use af_contract::guest_world::LINKED;

    use super::*;

    #[test]
    fn what_admission_accepts_is_linked() {
        let engine = Engine::default();
        // A name that is there cannot be defined again.
        let defined = |name: &str| {
            let mut linker = linker(&engine).unwrap();
            linker.root().func_wrap(name, |_, (): ()| Ok(())).is_err()
        };
        // They hold type names only, so there is nothing to link.
        let types_only = ["wasi:cli/types@0.3", "wasi:clocks/types@0.3"];
        for (track, patch) in LINKED.iter().filter(|(track, _)| !types_only.contains(track)) {
            let found = (0..=*patch).rev().any(|patch| defined(&format!("{track}.{patch}")));
            assert!(found, "{track} is not linked");
        }
        assert!(!defined("acme:gpu/gpu@1.0.0"));
    }
}
