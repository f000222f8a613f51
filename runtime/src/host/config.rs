//! `wasi:config`: a function's settings, which its environment has, too.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::sandbox::State;

/// The drafts that guests import. They differ in names only.
const INTERFACES: [&str; 4] = [
    "wasi:config/runtime@0.2.0-draft",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
];

/// `wasi:config/store.error`. Settings come with the deployment, so that reading them never fails.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap("get", |store: StoreContextMut<State>, (name,): (String,)| {
            let value = store.data().settings().get(name.as_str()).map(|value| value.reveal().to_owned());
            Ok((Ok::<_, Error>(value),))
        })?;
        interface.func_wrap("get-all", |store: StoreContextMut<State>, (): ()| {
            let settings = store.data().settings().iter();
            let all: Vec<_> =
                settings.map(|(name, value)| (name.to_string(), value.reveal().to_owned())).collect();
            Ok((Ok::<_, Error>(all),))
        })?;
    }
    Ok(())
}
