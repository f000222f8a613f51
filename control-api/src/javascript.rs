//! The platform's JavaScript build (`sdk-guest/js`), where the operator has installed it: a child process with limits, which
//! makes a component of one source file.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Bytes of a source file. Bundled, since a build imports nothing else.
pub const SOURCE_BYTES: u64 = 5 << 20;

/// CPU time, seconds; the engine is initialised in a quarter of that.
const CPU_SECONDS: u32 = 120;

/// Until it is given up. Others may have the CPU.
const PATIENCE: Duration = Duration::from_secs(300);

/// JavaScript's heap, MiB. Address space cannot be limited: an engine reserves gigabytes of it for each memory.
const HEAP_MB: u32 = 1024;

/// What the child may write to one file, in blocks of 512 bytes: 100 MiB.
const FILE_BLOCKS: u32 = 200 << 10;

/// What is kept of what it says, bytes.
const SAID_BYTES: u64 = 4 << 10;

/// Where the build is.
#[derive(Clone, Debug)]
pub struct JavaScriptBuild {
    /// A directory with `build.mjs`, `node_modules` and, in it or beside it, `wit`.
    pub dir: PathBuf,
    /// Where `node` is looked for: the operator's `PATH`.
    pub path: OsString,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Of the source file; what the build says.
    #[error("the JavaScript build refused the file: {0}")]
    Refused(String),
    /// It took too long, or was ended from outside.
    #[error(
        "the JavaScript build was ended before it was done: it has {CPU_SECONDS} s of CPU time and {HEAP_MB} MiB of memory"
    )]
    Ended,
    /// Ours.
    #[error("the JavaScript build could not be run; the server's log says more")]
    Io(#[from] io::Error),
}

impl JavaScriptBuild {
    /// Builds a component.
    ///
    /// # Errors
    /// When the file is refused, the limits are reached, or the child cannot be run.
    pub async fn build(&self, source: &[u8]) -> Result<Vec<u8>, BuildError> {
        let work = tempfile::tempdir()?;
        let (input, output) = (work.path().join("function.js"), work.path().join("function.wasm"));
        tokio::fs::write(&input, source).await?;
        // The shell sets limits that children inherit; a limit that it cannot set ends it.
        let limits =
            format!("ulimit -t {CPU_SECONDS} && ulimit -f {FILE_BLOCKS} && ulimit -c 0 && exec \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(limits).arg("sh").arg("node");
        command.arg(format!("--max-old-space-size={HEAP_MB}")).arg(self.dir.join("build.mjs"));
        command.arg(&input).arg(&output).current_dir(work.path());
        // Nothing of the server's own environment, which may hold keys.
        command.env_clear().env("HOME", work.path()).env("TMPDIR", work.path()).env("AF_JS_SEALED", "1");
        command.env("PATH", &self.path);
        if self.dir.join("wit").is_dir() {
            command.env("AF_WIT", self.dir.join("wit"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let said = run(child).await?;
        if let Some(said) = said {
            return Err(BuildError::Refused(self.without_paths(&said, work.path())));
        }
        Ok(tokio::fs::read(&output).await?)
    }

    /// What is said to whoever deploys tells nothing of where things are here.
    fn without_paths(&self, said: &str, work: &Path) -> String {
        let packages = self.dir.join("node_modules").canonicalize().ok();
        let places = packages.as_deref().into_iter().chain([self.dir.as_path(), work]);
        places.fold(said.to_owned(), |said, place| said.replace(&*place.to_string_lossy(), ""))
    }
}

/// `None`: it went well; else what it said last.
async fn run(mut child: Child) -> Result<Option<String>, BuildError> {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut said = Vec::new();
    let mut stderr = child.stderr.take();
    let running = async {
        if let Some(stderr) = &mut stderr {
            stderr.take(SAID_BYTES).read_to_end(&mut said).await?;
            // What it says beyond that must not block it.
            tokio::io::copy(stderr, &mut tokio::io::sink()).await?;
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(PATIENCE, running).await;
    // Whatever it has started besides.
    if let Some(group) = group {
        let _already_gone = kill_process_group(group, Signal::KILL);
    }
    let status = ended.map_err(|_| BuildError::Ended)??;
    match status.code() {
        Some(0) => Ok(None),
        Some(code @ 1..=125) => {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            tracing::debug!(code, said, "the JavaScript build refused a file");
            Ok(Some(said))
        }
        Some(code) => {
            Err(io::Error::other(format!("the JavaScript build ended with {code}; is Node.js installed?"))
                .into())
        }
        None => Err(BuildError::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_server_are_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let packages = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(packages.path(), dir.path().join("node_modules")).unwrap();
        let build = JavaScriptBuild { dir: dir.path().to_owned(), path: OsString::new() };
        let said = format!(
            "{}/wizer: {}/build.mjs: /work/function.js:1: wrong",
            packages.path().canonicalize().unwrap().display(),
            dir.path().display()
        );
        let told = build.without_paths(&said, Path::new("/work"));
        assert_eq!(told, "/wizer: /build.mjs: /function.js:1: wrong");
    }
}
