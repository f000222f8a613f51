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
