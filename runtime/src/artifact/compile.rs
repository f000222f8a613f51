//! Compiles components: in this process, or in a worker process that has limits of its own, because what a
//! hostile component may cost a compiler is bounded by nothing else.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use af_contract::limits::CODE_BYTES;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr};
use rustix::process::{Pid, Resource, Rlimit, setpriority_process, setrlimit};
use wasmtime::Engine;

use crate::sandbox::HostKind;

/// What a worker may use. StarlingMonkey, the largest engine that is common, takes 30 s of CPU time and 0.4 GiB.
const CPU_SECONDS: u64 = 180;
const ADDRESS_SPACE: u64 = 6 << 30;

/// A compiled component: Cranelift makes three to five bytes of one.
const NATIVE_BYTES: u64 = 10 * CODE_BYTES;

/// Of what a worker says about a failure.
const MESSAGE_BYTES: u64 = 4 << 10;

/// Workers yield to everything else.
const NICENESS: i32 = 10;

/// Where components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process. For tools that compile what they trust.
    Here,
    /// In a process of this program, which has to hand its arguments after the first to [`worker`].
    Worker {
        /// The program, and the first argument that makes it a worker.
        program: PathBuf,
        /// See `program`.
        argument: &'static str,
    },
}

/// Why there is no native code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component's fault.
    #[error("{0}")]
    Refused(String),
    /// The component's fault, too, unless the machine is very slow.
    #[error("compiling it takes more time or memory than a component may use")]
    TooMuch,
    /// Ours.
    #[error("the compiler cannot be run")]
    Worker(#[from] io::Error),
}

impl Compiler {
    /// Native code of a component for one of the engines.
    ///
    /// # Errors
    /// When the component is none, uses too much, or the worker cannot be started.
    pub fn compile(
        &self,
        kind: HostKind,
        engine: &Engine,
        component: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::Here => {
                let compiled = engine.precompile_component(component);
                compiled.map_err(|error| CompileError::Refused(format!("{error:#}")))
            }
            Self::Worker { program, argument } => {
                let mut command = Command::new(program);
                command.args([argument, kind.name()]).env_clear();
                let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                converse(piped.spawn()?, component)
            }
        }
    }
}

/// Gives a worker its component and takes what it makes of it.
fn converse(mut worker: Child, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let pipes = (worker.stdin.take(), worker.stdout.take(), worker.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::other("the worker has no pipes").into());
    };
    let (native, message) = thread::scope(|scope| {
        // One that ends early says why in its message.
        scope.spawn(move || stdin.write_all(component));
        let message = scope.spawn(move || read(stderr, MESSAGE_BYTES));
        (read(stdout, NATIVE_BYTES), message.join())
    });
    let over = native.as_ref().is_ok_and(|native| native.len() as u64 >= NATIVE_BYTES);
    if over || native.is_err() {
        // It may be waiting for somebody to read on.
        worker.kill()?;
    }
    let status = worker.wait()?;
    match status.code() {
        Some(0) if !over => Ok(native?),
        Some(1) => {
            let message = message.ok().and_then(Result::ok).unwrap_or_default();
            Err(CompileError::Refused(String::from_utf8_lossy(&message).trim().to_owned()))
        }
        // Ended by a signal: CPU time is up, or an allocation failed.
        _ => Err(CompileError::TooMuch),
    }
}

fn read(pipe: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The whole life of a worker: gives up all that it does not need, reads a component from standard input and writes
/// native code for the named engine to standard output.
///
/// # Errors
/// When there is no engine of that name, the system refuses the limits, or the component cannot be compiled.
pub fn worker(kind: &str) -> Result<(), CompileError> {
    confine()?;
    let kind = HostKind::parse(kind).ok_or_else(|| CompileError::Refused("no such engine".into()))?;
    let refused = |error: wasmtime::Error| CompileError::Refused(format!("{error:#}"));
    let engine = Engine::new(&kind.config()).map_err(refused)?;
    let component = read(io::stdin().lock(), 2 * CODE_BYTES)?;
    let native = engine.precompile_component(&component).map_err(refused)?;
    io::stdout().lock().write_all(&native)?;
    Ok(())
}

/// No files, no network, no core dump; so much time and memory and no more.
fn confine() -> io::Result<()> {
    let limit = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    limit(Resource::Cpu, CPU_SECONDS)?;
    limit(Resource::As, ADDRESS_SPACE)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    // Only less polite without it.
    let _refused = setpriority_process(None::<Pid>, NICENESS);
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5));
    let ruleset = ruleset.and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V5)));
    // Kernels that know no landlock, or less of it, enforce what they know.
    let confined = ruleset.and_then(|ruleset| ruleset.create()).and_then(|created| created.restrict_self());
    confined.map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Sandbox, SandboxConfig};

    #[test]
    fn a_worker_compiles_for_the_same_engine() {
        let sandbox = Sandbox::new(&SandboxConfig { instances: 10, ..SandboxConfig::default() }).unwrap();
        let component = wat::parse_str("(component (core module (memory 1)))").unwrap();
        for kind in HostKind::ALL {
            assert_eq!(HostKind::parse(kind.name()), Some(kind));
            let native = Engine::new(&kind.config()).unwrap().precompile_component(&component).unwrap();
            let engine = &sandbox.host_of(kind).engine;
            // SAFETY: it was compiled above.
            let loaded = unsafe { wasmtime::component::Component::deserialize(engine, &native) };
            assert!(loaded.is_ok(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_component_is_refused_with_a_reason() {
        let kind = HostKind::Plain;
        let engine = Engine::new(&kind.config()).unwrap();
        assert!(matches!(Compiler::Here.compile(kind, &engine, b"junk"), Err(CompileError::Refused(_))));
        let missing = Compiler::Worker { program: "/does/not/exist".into(), argument: "x" };
        assert!(matches!(missing.compile(kind, &engine, b"junk"), Err(CompileError::Worker(_))));
    }
}
