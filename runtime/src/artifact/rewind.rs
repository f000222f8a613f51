//! Adds to a component what sets its instances back to how they were when they began, so that a fresh instance
//! need not be made for each request: an exported function of each core module that gives its globals their first
//! values. The memory is the host's to set back ([`super::image`]).
//!
//! Only where nothing else can change: no start function, no data of other modules than the memory's, no code that
//! writes to a table or drops a segment, and no resources of the component's own. Everything else is refused here and gets a new instance each time.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentSection, ComponentTypeSection, Encode, ExportKind, Function,
};
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentType, ConstExpr, DataKind, ExternalKind, Instance, Operator,
    Parser, Payload, TypeRef, ValidPayload, Validator, WasmFeatures,
};

use super::image::{CORE_MODULE, HEADER, push_section, sections};

/// Name of the functions: this and a number from 0 as exports of the component, this alone in modules. What has
/// an export of its own that begins with it never gets here ([`super::image::split`]).
pub(super) const NAME: &str = "af-rewind";

/// Sections of a core module.
const TYPE: u8 = 1;
const FUNCTION: u8 = 3;
const EXPORT: u8 = 7;
const CODE: u8 = 10;

/// `(func)`: no parameters, no results.
const PLAIN_FUNCTION: &[u8] = &[0x60, 0, 0];

/// The name of the component's function with this number; they are numbered without gaps.
pub fn export(number: usize) -> String {
    format!("{NAME}{number}")
}

/// A component whose instances can be set back, or `None` if those of this one cannot.
pub fn add(component: &[u8]) -> Option<Vec<u8>> {
    let parts = Parts::of(component)?;
    let mut changed = component.get(..HEADER)?.to_vec();
    let mut modules = parts.modules.iter();
    for section in sections(component)? {
        let payload = component.get(section.payload)?;
        match (section.id == CORE_MODULE).then(|| modules.next()) {
            None => push_section(&mut changed, section.id, payload),
            Some(module) => match module?.with_function(payload)? {
                Some(module) => push_section(&mut changed, CORE_MODULE, &module),
                None => push_section(&mut changed, CORE_MODULE, payload),
            },
        }
    }
    let counts = Counts::of(&changed)?;
    parts.lift(&mut changed, &counts);
    Validator::new_with_features(WasmFeatures::all()).validate_all(&changed).ok()?;
    Some(changed)
}

/// What of a component matters here.
struct Parts {
    modules: Vec<Module>,
    /// Of core instances, the number of the module; none for those that only rename things.
    instances: Vec<Option<usize>>,
}

impl Parts {
    fn of(component: &[u8]) -> Option<Self> {
        let (mut modules, mut instances, mut depth) = (Vec::new(), Vec::new(), 0_u32);
        let mut inside = false;
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::ModuleSection { unchecked_range, .. } if depth == 0 => {
                    inside = true;
                    modules.push(Module::of(component.get(unchecked_range)?)?);
                }
                Payload::ModuleSection { .. } | Payload::ComponentStartSection { .. } => return None,
                Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) if inside => inside = false,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::InstanceSection(section) if depth == 0 => {
                    for instance in section {
                        instances.push(match instance.ok()? {
                            Instance::Instantiate { module_index, .. } => {
                                Some(usize::try_from(module_index).ok()?)
                            }
                            Instance::FromExports(_) => None,
                        });
                    }
                }
                Payload::ComponentTypeSection(section) => {
                    for ty in section {
                        if matches!(ty.ok()?, ComponentType::Resource { .. }) {
                            return None;
                        }
                    }
                }
                Payload::ComponentCanonicalSection(section) => {
                    for function in section {
                        if !is_plain(&function.ok()?) {
                            return None;
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        if export.ok()?.name.name.starts_with(NAME) {
                            return None;
                        }
                    }
                }
                _ => {}
            }
        }
        Some(Self { modules, instances })
    }

    /// Exports the function of each instance from the component.
    fn lift(&self, component: &mut Vec<u8>, counts: &Counts) {
        let mut types = ComponentTypeSection::new();
        types.function().params([] as [(&str, wasm_encoder::ComponentValType); 0]).result(None);
        let (mut aliases, mut functions) = (ComponentAliasSection::new(), CanonicalFunctionSection::new());
        let mut exports = ComponentExportSection::new();
        let changing = |module: &Option<usize>| {
            module.and_then(|number| self.modules.get(number)).is_some_and(Module::changes)
        };
        let changing = (0_u32..).zip(&self.instances).filter(|(_, module)| changing(module));
        for (number, (instance, _)) in (0_u32..).zip(changing) {
            aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: NAME });
            functions.lift(counts.core_functions + number, counts.types, []);
            let name = format!("{NAME}{number}");
            exports.export(name.as_str(), ComponentExportKind::Func, counts.functions + number, None);
        }
        types.append_to_component(component);
        aliases.append_to_component(component);
        functions.append_to_component(component);
        exports.append_to_component(component);
    }
}

/// Whether a function is of those that WASI 0.2 components have, and none that makes resources.
fn is_plain(function: &CanonicalFunction) -> bool {
    matches!(
        function,
        CanonicalFunction::Lift { .. }
            | CanonicalFunction::Lower { .. }
            | CanonicalFunction::ResourceDrop { .. }
    )
}

/// Where a component's index spaces end.
struct Counts {
    core_functions: u32,
    functions: u32,
    types: u32,
}

impl Counts {
    fn of(component: &[u8]) -> Option<Self> {
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let (mut counts, mut depth) = (None, 0_u32);
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.ok()?;
            if matches!(payload, Payload::End(_)) && depth == 0 {
                let types = validator.types(0)?;
                counts = Some(Self {
                    core_functions: types.function_count(),
                    functions: types.component_function_count(),
                    types: types.component_type_count(),
                });
            }
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
            // Bodies are validated once, at the end.
            if let ValidPayload::End(_) = validator.payload(&payload).ok()? {
                continue;
            }
        }
        counts
    }
}

/// What of a core module can change, and where its function goes.
#[derive(Default)]
struct Module {
    types: u32,
    functions: u32,
    imported_functions: u32,
    globals: u32,
    /// Instructions that set the globals that can change to their first values.
    reset: Vec<wasm_encoder::Instruction<'static>>,
    has_memory: bool,
}

impl Module {
    fn of(module: &[u8]) -> Option<Self> {
        let mut this = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::StartSection { .. } => return None,
                Payload::TypeSection(section) => {
                    this.types = section.count();
                    // One type each: with groups, the count is another.
                    if section.into_iter_err_on_gc_types().any(|ty| ty.is_err()) {
                        return None;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import.ok()?.ty {
                            TypeRef::Func(_) => this.imported_functions += 1,
                            TypeRef::Global(_) => this.globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => this.functions = section.count(),
                Payload::MemorySection(section) => this.has_memory = section.count() > 0,
                Payload::GlobalSection(section) => {
                    for global in section {
                        let global = global.ok()?;
                        if global.ty.mutable {
                            this.reset.push(constant(&global.init_expr)?);
                            this.reset.push(wasm_encoder::Instruction::GlobalSet(this.globals));
                        }
                        this.globals += 1;
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.ok()?;
                        if export.name == NAME || export.kind == ExternalKind::Tag {
                            return None;
                        }
                    }
                }
                Payload::DataSection(section) => {
                    for segment in section {
                        // The host sets the memory back to before this was written there.
                        if matches!(segment.ok()?.kind, DataKind::Active { .. }) {
                            return None;
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader().ok()? {
                        if changes_more(&operator.ok()?) {
                            return None;
                        }
                    }
                }
                _ => {}
            }
        }
        Some(this)
    }

    fn changes(&self) -> bool {
        self.has_memory || !self.reset.is_empty()
    }

    /// The module with its function; `Some(None)` where nothing changes.
    fn with_function(&self, module: &[u8]) -> Option<Option<Vec<u8>>> {
        if !self.changes() {
            return Some(None);
        }
        let mut function = Function::new([]);
        self.reset.iter().for_each(|instruction| {
            function.instruction(instruction);
        });
        if self.has_memory {
            // The host has made it as small as it was: the engine asks for its size when it grows.
            function.instruction(&wasm_encoder::Instruction::I32Const(0));
            function.instruction(&wasm_encoder::Instruction::MemoryGrow(0));
            function.instruction(&wasm_encoder::Instruction::Drop);
        }
        function.instruction(&wasm_encoder::Instruction::End);
        let (mut export, mut code, mut ty) = (Vec::new(), Vec::new(), Vec::new());
        NAME.encode(&mut export);
        ExportKind::Func.encode(&mut export);
        self.imported_functions.checked_add(self.functions)?.encode(&mut export);
        function.encode(&mut code);
        self.types.encode(&mut ty);
        let mut additions = [(TYPE, PLAIN_FUNCTION), (FUNCTION, &ty), (EXPORT, &export), (CODE, &code)]
            .into_iter()
            .peekable();
        let mut out = module.get(..HEADER)?.to_vec();
        for section in sections(module)? {
            let payload = module.get(section.payload)?;
            match additions.next_if(|(id, _)| *id == section.id) {
                Some((id, entry)) => push_section(&mut out, id, &with_entry(payload, entry)?),
                None => push_section(&mut out, section.id, payload),
            }
        }
        // A module that changes and has no functions or exports is odd enough to stay as it is.
        additions.next().is_none().then_some(Some(out))
    }
}

/// A section with one more entry.
fn with_entry(payload: &[u8], entry: &[u8]) -> Option<Vec<u8>> {
    let mut reader = BinaryReader::new(payload, 0);
    let count = reader.read_var_u32().ok()?;
    let mut out = Vec::with_capacity(payload.len() + entry.len() + 1);
    count.checked_add(1)?.encode(&mut out);
    out.extend_from_slice(payload.get(reader.original_position()..)?);
    out.extend_from_slice(entry);
    Some(out)
}

/// A global's first value, if it is a number that is written there.
fn constant(expression: &ConstExpr) -> Option<wasm_encoder::Instruction<'static>> {
    use wasm_encoder::Instruction;
    let mut operators = expression.get_operators_reader();
    let value = match operators.read().ok()? {
        Operator::I32Const { value } => Instruction::I32Const(value),
        Operator::I64Const { value } => Instruction::I64Const(value),
        Operator::F32Const { value } => Instruction::F32Const(wasm_encoder::Ieee32::new(value.bits())),
        Operator::F64Const { value } => Instruction::F64Const(wasm_encoder::Ieee64::new(value.bits())),
        _ => return None,
    };
    matches!(operators.read().ok()?, Operator::End).then_some(value)
}

/// Whether code changes something that cannot be set back.
fn changes_more(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. }
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Store};

    use super::*;

    fn component(inside: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {inside})")).unwrap()
    }

    const CHANGING: &str = r#"
        (core module $main
            (memory (export "m") 1)
            (global $a (mut i32) (i32.const -7))
            (global $b (mut f64) (f64.const 2.5))
            (global $c i32 (i32.const 3))
            (func (export "sum") (result i32)
                (i32.add (global.get $a) (i32.trunc_f64_s (global.get $b))))
            (func (export "change")
                (global.set $a (i32.const 100)) (global.set $b (f64.const 1000))))
        (core module $other
            (import "" "sum" (func $sum (result i32)))
            (global $d (mut i64) (i64.const 40))
            (func (export "all") (result i32) (i32.add (call $sum) (i32.wrap_i64 (global.get $d))))
            (func (export "change") (global.set $d (i64.const 10000))))
        (core instance $m (instantiate $main))
        (core instance $o (instantiate $other (with "" (instance $m))))
        (func (export "all") (result s32) (canon lift (core func $o "all")))
        (func (export "change-main") (canon lift (core func $m "change")))
        (func (export "change-other") (canon lift (core func $o "change")))"#;

    #[test]
    fn globals_of_all_modules_are_set_back() {
        let engine = Engine::default();
        let component = Component::new(&engine, add(&component(CHANGING)).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &component).unwrap();
        let all = instance.get_typed_func::<(), (i32,)>(&mut store, "all").unwrap();
        let mut call = |name: &str| {
            let function = instance.get_typed_func::<(), ()>(&mut store, name).unwrap();
            function.call(&mut store, ()).unwrap();
            all.call(&mut store, ()).unwrap().0
        };
        assert_eq!(call("change-main"), 1140);
        assert_eq!(call("change-other"), 11100);
        assert_eq!(call(&export(0)), 10_000 - 5);
        assert_eq!(call(&export(1)), 35);
        assert!(component.get_export_index(None, export(2).as_str()).is_none());
    }

    #[test]
    fn what_cannot_be_set_back_is_told_apart() {
        let module = |inside: &str| {
            format!(
                r#"(core module $m {inside} (memory 1) (func (export "f"))) (core instance (instantiate $m))"#
            )
        };
        assert!(add(&component(&module(""))).is_some());
        for (why, inside) in [
            ("a start function", module("(func $s) (start $s)")),
            (
                "a table that is written to",
                module("(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))"),
            ),
            (
                "a table that grows",
                module("(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))"),
            ),
            ("a segment that is dropped", module(r#"(data $d "a") (func (data.drop $d))"#)),
            ("elements that are dropped", module("(elem $e func) (func (elem.drop $e))")),
            (
                "a global that depends on another",
                r#"(core module $g (global (export "b") i32 (i32.const 1)))
                (core module $m (import "a" "b" (global $g i32)) (global (mut i32) (global.get $g)))
                (core instance $a (instantiate $g)) (core instance (instantiate $m (with "a" (instance $a))))"#.into(),
            ),
            ("a global that is no number", module("(global (mut funcref) (ref.null func))")),
            ("a name that is taken", module(r#"(func (export "af-rewind"))"#)),
            (
                "data that comes with another module",
                r#"(core module $g (memory (export "b") 1)) (core instance $a (instantiate $g))
                (core module $m (import "a" "b" (memory 1)) (data (i32.const 0) "late"))
                (core instance (instantiate $m (with "a" (instance $a))))"#
                    .into(),
            ),
            ("a nested module", "(component (core module (memory 1)))".into()),
            ("a resource of its own", format!("(type (resource (rep i32))) {}", module(""))),
            (
                "an export that is taken",
                format!(r#"{} (component $c) (export "af-rewind9" (component $c))"#, module("")),
            ),
        ] {
            let Ok(bytes) = wat::parse_str(format!("(component {inside})")) else {
                panic!("{why}: {inside}")
            };
            Validator::new_with_features(WasmFeatures::all()).validate_all(&bytes).expect(why);
            assert!(add(&bytes).is_none(), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_valid_component_or_are_refused(at in 0_usize..2000, value: u8, cut in 0_usize..2000) {
            let mut bytes = component(CHANGING);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut.max(at));
            if let Some(changed) = add(&bytes) {
                let mut validator = Validator::new_with_features(WasmFeatures::all());
                prop_assert!(validator.validate_all(&changed).is_ok());
            }
        }
    }
}
