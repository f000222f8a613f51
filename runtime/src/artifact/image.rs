//! Takes the initial memory out of a component, so that the host can have it ready: an instance then starts
//! in a memory that holds its data already, instead of copying it or faulting it in page by page.
//!
//! Only the data of the module that defines the component's one memory is taken, and only where nothing
//! but the start of an instance can use it. Everything else of the component stays as it is.

use std::ops::Range;

use wasm_encoder::Encode;
use wasmparser::{DataKind, Instance, Operator, Parser, Payload, TypeRef};

use super::rewind;

/// Changes when other components are rewritten, or others in another way.
pub const VERSION: u32 = 4;

/// A page of linear memory.
const PAGE: u64 = 64 << 10;

/// The largest memory that is taken out, bytes: it is kept on disk as it is. StarlingMonkey has 9.5 MB.
const MEMORY_BYTES: u64 = 32 << 20;

/// Bytes before the first section of a module or component.
pub(super) const HEADER: usize = 8;

/// The section of a component that is a core module.
pub(super) const CORE_MODULE: u8 = 1;

/// Sections of a core module that hold its data, or count it.
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;

/// A component without its initial memory, and that memory.
pub struct Split {
    /// To be compiled.
    pub component: Vec<u8>,
    /// What its memory has to hold when it is instantiated; as long as the memory is at first.
    pub memory: Vec<u8>,
}

/// Splits a component, or tells with `None` that it has to stay whole.
pub fn split(component: &[u8]) -> Option<Split> {
    let (owner, modules) = memory_owner(component)?;
    let memory = Data::of(modules.get(owner)?)?.memory;
    let mut out = component.get(..HEADER)?.to_vec();
    let mut number = 0;
    for section in sections(component)? {
        let payload = component.get(section.payload)?;
        if section.id == CORE_MODULE && number == owner {
            push_section(&mut out, CORE_MODULE, &without_data(payload)?);
        } else {
            push_section(&mut out, section.id, payload);
        }
        number += usize::from(section.id == CORE_MODULE);
    }
    Some(Split { component: out, memory })
}

/// The number of the core module that defines the component's memory, and all core modules. `None` if it is not
/// the only one, is used more than once, or is not instantiated before any code can run.
fn memory_owner(component: &[u8]) -> Option<(usize, Vec<&[u8]>)> {
    let (mut modules, mut instances, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    let mut inside = false;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            // A module in a nested component could be instantiated any number of times.
            Payload::ModuleSection { .. } if depth > 0 => return None,
            Payload::ModuleSection { unchecked_range, .. } => {
                inside = true;
                modules.push(component.get(unchecked_range)?);
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if inside => inside = false,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::InstanceSection(section) if depth == 0 => {
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance.ok()? {
                        instances.push(usize::try_from(module_index).ok()?);
                    }
                }
            }
            // Whoever is set back is set back by functions of ours, never by the component's own of that name.
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    if export.ok()?.name.name.starts_with(rewind::NAME) {
                        return None;
                    }
                }
            }
            // Imported and aliased modules would shift the numbers.
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if matches!(import.ok()?.ty, wasmparser::ComponentTypeRef::Module(_)) {
                        return None;
                    }
                }
            }
            Payload::ComponentAliasSection(section) if depth == 0 => {
                for alias in section {
                    if brings_a_module(&alias.ok()?) {
                        return None;
                    }
                }
            }
            _ => {}
        }
    }
    let defines: Vec<usize> =
        (0..modules.len()).filter(|number| modules.get(*number).is_some_and(|m| defines_memory(m))).collect();
    let [owner] = defines.as_slice() else { return None };
    let first = instances.iter().position(|module| module == owner)?;
    let (before, after) = instances.split_at(first);
    let runs_code = before.iter().any(|number| modules.get(*number).is_none_or(|module| has_start(module)));
    (!runs_code && !after.get(1..)?.contains(owner)).then_some((*owner, modules))
}

fn brings_a_module(alias: &wasmparser::ComponentAlias) -> bool {
    use wasmparser::{ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind};
    matches!(
        alias,
        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. }
    )
}

fn payloads(module: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    // A fault ends it; what is not valid is refused when it is compiled.
    Parser::new(0).parse_all(module).map_while(Result::ok)
}

fn defines_memory(module: &[u8]) -> bool {
    payloads(module).any(|payload| matches!(payload, Payload::MemorySection(section) if section.count() > 0))
}

fn has_start(module: &[u8]) -> bool {
    payloads(module).any(|payload| matches!(payload, Payload::StartSection { .. }))
}

/// A module's initial memory.
struct Data {
    memory: Vec<u8>,
}

impl Data {
    /// `None` if the data depends on anything, or is used for anything but the start.
    fn of(module: &[u8]) -> Option<Self> {
        let mut memory = None;
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if matches!(import.ok()?.ty, TypeRef::Memory(_)) {
                            return None;
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    let mut section = section.into_iter();
                    let ty = section.next()?.ok()?;
                    let plain = !ty.memory64 && !ty.shared && ty.page_size_log2.is_none();
                    if !plain || section.next().is_some() || !(1..=MEMORY_BYTES / PAGE).contains(&ty.initial)
                    {
                        return None;
                    }
                    memory = Some(vec![0; usize::try_from(ty.initial * PAGE).ok()?]);
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader().ok()? {
                        if matches!(operator.ok()?, Operator::MemoryInit { .. } | Operator::DataDrop { .. }) {
                            return None;
                        }
                    }
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        let segment = segment.ok()?;
                        // One that is never used.
                        let DataKind::Active { offset_expr, .. } = segment.kind else { continue };
                        place(memory.as_mut()?, constant(&offset_expr)?, segment.data)?;
                    }
                }
                _ => {}
            }
        }
        memory.map(|memory| Self { memory })
    }
}

/// A segment out of bounds has to trap where it is defined to.
fn place(memory: &mut [u8], offset: usize, data: &[u8]) -> Option<()> {
    memory.get_mut(offset..offset.checked_add(data.len())?)?.copy_from_slice(data);
    Some(())
}

fn constant(expression: &wasmparser::ConstExpr) -> Option<usize> {
    let mut operators = expression.get_operators_reader();
    let Operator::I32Const { value } = operators.read().ok()? else { return None };
    let Operator::End = operators.read().ok()? else { return None };
    usize::try_from(value.cast_unsigned()).ok()
}

fn without_data(module: &[u8]) -> Option<Vec<u8>> {
    let mut out = module.get(..HEADER)?.to_vec();
    for section in sections(module)? {
        if ![DATA, DATA_COUNT].contains(&section.id) {
            push_section(&mut out, section.id, module.get(section.payload)?);
        }
    }
    Some(out)
}

/// A section of a module or component.
pub(super) struct Section {
    pub id: u8,
    pub payload: Range<usize>,
}

pub(super) fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    let (mut found, mut at) = (Vec::new(), HEADER);
    while let Some(id) = bytes.get(at) {
        let mut reader = wasmparser::BinaryReader::new(bytes.get(at + 1..)?, 0);
        let size = usize::try_from(reader.read_var_u32().ok()?).ok()?;
        let start = at + 1 + reader.original_position();
        let end = start.checked_add(size).filter(|end| *end <= bytes.len())?;
        found.push(Section { id: *id, payload: start..end });
        at = end;
    }
    Some(found)
}

pub(super) fn push_section(out: &mut Vec<u8>, id: u8, payload: &[u8]) {
    out.push(id);
    payload.encode(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmparser::{Validator, WasmFeatures};

    use super::*;

    /// A component around core modules, which come with their instances.
    fn component(inside: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {inside})")).unwrap()
    }

    fn valid(component: &[u8]) -> bool {
        Validator::new_with_features(WasmFeatures::all()).validate_all(component).is_ok()
    }

    const WITH_DATA: &str = r#"
        (core module $shim (table (export "t") 1 funcref))
        (core module $main
            (memory (export "m") 2)
            (global (mut i32) (i32.const 5))
            (func (export "f") (result i32) (i32.load (i32.const 8)))
            (data (i32.const 8) "first")
            (data (i32.const 65540) "second")
            (data (i32.const 10) "!"))
        (core instance (instantiate $shim))
        (core instance (instantiate $main))"#;

    #[test]
    fn data_becomes_the_memory_and_nothing_else_changes() {
        let whole = component(WITH_DATA);
        let split = split(&whole).unwrap();
        assert!(valid(&split.component));
        assert_eq!(split.memory.len(), 2 << 16);
        assert_eq!(&split.memory[8..13], b"fi!st");
        assert_eq!(&split.memory[65540..65546], b"second");
        assert_eq!(split.memory.iter().filter(|byte| **byte != 0).count(), 11);
        let kinds = |bytes: &[u8]| sections(bytes).unwrap().iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(kinds(&split.component), kinds(&whole));
        assert!(super::split(&split.component).unwrap().memory.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_could_tell_the_difference_stays_whole() {
        let main = |inside: &str| format!("(core module $m {inside}) (core instance (instantiate $m))");
        for (why, inside) in [
            ("no memory", main("")),
            ("two memories", main("(memory 1) (memory 1)")),
            ("out of bounds", main(r#"(memory 1) (data (i32.const 65535) "ab")"#)),
            ("an offset that is not known", main(r#"(import "a" "b" (global $g i32)) (memory 1) (data (global.get $g) "a")"#)),
            ("data that code uses", main(r#"(memory 1) (data $d "a") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))"#)),
            ("data that code drops", main(r#"(memory 1) (data $d "a") (func (data.drop $d))"#)),
            ("64 bits", main("(memory i64 1)")),
            ("a memory of no pages", main("(memory 0)")),
            ("more memory than is worth keeping", main("(memory 65535)")),
            ("instantiated twice", r"(core module $m (memory 1)) (core instance (instantiate $m)) (core instance (instantiate $m))".into()),
            ("never instantiated", "(core module $m (memory 1))".into()),
            ("a function that is named like one of ours", r#"(core module $m (memory 1) (func (export "f"))) (core instance $i (instantiate $m))
                (func (export "af-rewind0") (canon lift (core func $i "f")))"#.into()),
            ("a nested module", r"(component (core module (memory 1)))".into()),
            ("an imported module", r#"(import "a" (core module $i)) (core module $m (memory 1)) (core instance (instantiate $m))"#.into()),
            ("code that runs before", r"(core module $first (func $s) (start $s)) (core module $m (memory 1))
                (core instance (instantiate $first)) (core instance (instantiate $m))".into()),
        ] {
            // Some are no valid components, but all are told apart here and not by the compiler.
            let Ok(bytes) = wat::parse_str(format!("(component {inside})")) else { panic!("{why}: {inside}") };
            assert!(split(&bytes).is_none(), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_or_refused(at in 0_usize..1000, value: u8, cut in 0_usize..1000) {
            let mut bytes = component(WITH_DATA);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut.max(at));
            let was_valid = valid(&bytes);
            if let Some(split) = split(&bytes) {
                prop_assert!(!was_valid || valid(&split.component));
            }
        }
    }
}
