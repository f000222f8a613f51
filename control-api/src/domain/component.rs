//! Judges a component before it is accepted: valid, an HTTP function, and importing only what the
//! platform links. The edge compiles nothing that was not judged here.

use std::collections::HashSet;

use af_contract::World;
use af_contract::guest_world::is_linked;
use wasmparser::component_types::{ComponentEntityType, ComponentItem};
use wasmparser::types::TypesRef;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

/// Why a file is not a function.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component; build for wasm32-wasip2, \
         or convert it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Something else, such as JavaScript source.
    #[error(
        "this is not a WebAssembly component: the file starts with {0}; \
         source code has to be built into a component first"
    )]
    NotWasm(String),
    /// Broken, or made with features that the platform does not have.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// No HTTP handler.
    #[error(
        "the component exports no HTTP handler; it must export wasi:http/incoming-handler@0.2.x or \
         wasi:http/handler@0.3.x, and exports {exports}",
        exports = list(.0)
    )]
    NoHandler(Vec<String>),
    /// Imports that nobody provides.
    #[error("the component imports what the platform does not have: {}", list(.0))]
    UnknownImports(Vec<String>),
}

impl ComponentError {
    /// The stable code of the problem document.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::CoreModule | Self::NotWasm(_) => "not_a_component",
            Self::Invalid(_) => "component_invalid",
            Self::NoHandler(_) => "no_http_handler",
            Self::UnknownImports(_) => "unknown_import",
        }
    }
}

/// What a component is that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The HTTP world that it exports.
    pub world: World,
    /// The interfaces that somebody has to provide, in the component's order.
    pub imports: Vec<String>,
}

/// Whether a component can be run, and what it is.
///
/// # Errors
/// When it cannot be run; the error says why.
pub fn judge(file: &[u8]) -> Result<Judged, ComponentError> {
    if !file.starts_with(b"\0asm") {
        return Err(ComponentError::NotWasm(start(file)));
    }
    if !Parser::is_component(file) {
        return Err(ComponentError::CoreModule);
    }
    let types = Validator::new_with_features(features())
        .validate_all(file)
        .map_err(|error| ComponentError::Invalid(error.to_string()))?;
    let surface = surface(file).map_err(|error| ComponentError::Invalid(error.to_string()))?;
    let needed = needed(types.as_ref(), surface.imports);
    let unknown: Vec<String> = needed.iter().filter(|import| !is_linked(import)).cloned().collect();
    if !unknown.is_empty() {
        return Err(ComponentError::UnknownImports(unknown));
    }
    let worlds = surface.exports.iter().filter_map(|export| World::of_export(export));
    // A component of both worlds is run as the newer one.
    match worlds.max_by_key(|world| *world == World::Service03) {
        Some(world) => Ok(Judged { world, imports: needed }),
        None => Err(ComponentError::NoHandler(surface.exports)),
    }
}

/// What Wasmtime 48 has on in the edge's configuration: its defaults, without garbage collection and threads.
fn features() -> WasmFeatures {
    let without = WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS;
    let with = WasmFeatures::COMPONENT_MODEL | WasmFeatures::CM_ASYNC;
    (WasmFeatures::WASM3 - without) | with
}

struct Surface {
    imports: Vec<String>,
    exports: Vec<String>,
}

/// The imports that somebody has to provide. Tools leave instances behind that only name types of others.
fn needed(types: TypesRef<'_>, imports: Vec<String>) -> Vec<String> {
    let mut known = HashSet::new();
    let mut is_needed = |import: &String| {
        let Some(ComponentEntityType::Instance(id)) =
            types.component_item_for_import(import).map(|item| item.ty)
        else {
            return true;
        };
        let Some(instance) = types.get(id) else { return true };
        let is_type = |item: &ComponentItem| matches!(item.ty, ComponentEntityType::Type { .. });
        let mut fresh = false;
        for resource in instance.explicit_resources.keys() {
            fresh |= known.insert(*resource);
        }
        fresh || !instance.exports.values().all(is_type)
    };
    imports.into_iter().filter(|import| is_needed(import)).collect()
}

/// Names of the outermost component's imports and exported instances.
fn surface(file: &[u8]) -> wasmparser::Result<Surface> {
    let mut surface = Surface { imports: Vec::new(), exports: Vec::new() };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(file) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    surface.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        surface.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(surface)
}

fn start(file: &[u8]) -> String {
    if file.is_empty() {
        return "nothing, since it is empty".into();
    }
    let start = file.get(..file.len().min(16)).unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(start))
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        text.push_str("nothing");
    } else if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<World, ComponentError> {
        judge(&wat::parse_str(text).unwrap()).map(|judged| judged.world)
    }

    #[test]
    fn a_core_module_is_refused() {
        assert_eq!(judged("(module)"), Err(ComponentError::CoreModule));
    }

    #[test]
    fn other_files_are_refused() {
        for file in [&b""[..], b"\0as", b"export default {}", b"PK\x03\x04"] {
            assert!(matches!(judge(file), Err(ComponentError::NotWasm(_))), "{file:?}");
        }
    }

    #[test]
    fn a_truncated_or_damaged_component_is_refused() {
        let whole = wat::parse_str("(component (core module (func (result i32) i32.const 1)))").unwrap();
        for cut in 9..whole.len() {
            assert!(matches!(
                judge(&whole[..cut]),
                Err(ComponentError::Invalid(_) | ComponentError::NoHandler(_))
            ));
        }
    }

    #[test]
    fn a_component_without_a_handler_is_refused() {
        let error = judged(
            "(component (component $c) (instance $i (instantiate $c)) (export \"my:own/api@1.0.0\" (instance $i)))",
        );
        assert_eq!(error, Err(ComponentError::NoHandler(vec!["my:own/api@1.0.0".into()])));
    }

    #[test]
    fn unknown_imports_are_named() {
        let error = judged(
            "(component (import \"acme:gpu/gpu@1.0.0\" (instance (export \"run\" (func)))) (import \"wasi:io/poll@0.2.1\" (instance)))",
        );
        assert_eq!(error, Err(ComponentError::UnknownImports(vec!["acme:gpu/gpu@1.0.0".into()])));
    }

    #[test]
    fn an_import_that_only_names_types_of_others_is_needed_by_nobody() {
        let component = |extra: &str| {
            format!(
                "(component
                    (import \"wasi:http/types@0.2.1\" (instance $types (export \"response\" (type (sub resource)))))
                    (alias export $types \"response\" (type $response))
                    (import \"acme:gpu/gpu@1.0.0\" (instance
                        (alias outer 1 $response (type $response))
                        (export \"response\" (type (eq $response)))
                        {extra}))
                    (component $c) (instance $i (instantiate $c))
                    (export \"wasi:http/incoming-handler@0.2.3\" (instance $i)))"
            )
        };
        assert_eq!(judged(&component("")), Ok(World::Proxy02));
        for extra in ["(export \"run\" (func))", "(export \"own\" (type (sub resource)))"] {
            let unknown = Err(ComponentError::UnknownImports(vec!["acme:gpu/gpu@1.0.0".into()]));
            assert_eq!(judged(&component(extra)), unknown);
        }
    }

    #[test]
    fn the_export_decides_the_world() {
        let with = |name: &str| {
            judged(&format!(
                "(component (component $c) (instance $i (instantiate $c)) (export \"{name}\" (instance $i)))"
            ))
        };
        assert_eq!(with("wasi:http/incoming-handler@0.2.3"), Ok(World::Proxy02));
        assert_eq!(with("wasi:http/handler@0.3.0"), Ok(World::Service03));
    }

    #[test]
    fn imports_and_exports_of_inner_components_do_not_count() {
        let error = judged(
            "(component (component (import \"acme:gpu/gpu@1.0.0\" (instance))
                (component $c) (instance $i (instantiate $c)) (export \"wasi:http/handler@0.3.0\" (instance $i))))",
        );
        assert_eq!(error, Err(ComponentError::NoHandler(vec![])));
    }
}
