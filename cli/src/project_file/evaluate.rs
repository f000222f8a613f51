//! Runs a project's file that is a program, with Node.js, for the object that it exports.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// A file that computes its object needs milliseconds; Node.js needs a second to start on a busy machine.
const TIME: Duration = Duration::from_secs(20);

/// What of Node.js's complaints is read.
const COMPLAINT_BYTES: u64 = 64 << 10;

/// Prints the default export as JSON. What the file prints itself must not come between.
const SCRIPT: &str = r"
const { pathToFileURL } = require('node:url');
const path = process.argv[1];
if (path.endsWith('.ts') && !process.features.typescript) process.exit(9);
for (const print of ['log', 'info', 'debug', 'table', 'dir']) console[print] = console.error;
import(pathToFileURL(path)).then(async (file) => {
  const project = await file.default;
  if (project === null || typeof project !== 'object') process.exit(8);
  process.stdout.write(JSON.stringify(project));
}).catch((error) => {
  process.stderr.write(`\n\u0000${String(error?.stack ?? error).split('\n').find((line) => /^\w*(Error|Exception)\b/.test(line)) ?? error}`);
  process.exit(7);
});
";

/// Why a program gives no project.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Not installed.
    #[error("it needs Node.js, and `node` cannot be started ({0}); write an af.config.json instead")]
    Node(io::Error),
    /// Too old for TypeScript.
    #[error(
        "it needs Node.js 22.18 or newer, which reads TypeScript; with an older one, write an af.config.js or an af.config.json"
    )]
    TypeScript,
    /// It threw, or is none.
    #[error("{0}")]
    Failed(String),
    /// It exports something else.
    #[error("it has no default export that is an object")]
    Export,
    /// Longer than [`TIME`].
    #[error("it did not end within {} seconds", TIME.as_secs())]
    Time,
    /// More than it may.
    #[error("its object has more than {0} bytes as JSON")]
    TooLarge(u64),
    /// Not JSON, or the pipe broke.
    #[error("its output cannot be read: {0}")]
    Output(io::Error),
}

/// The object that a file exports.
pub async fn evaluate(path: &Path, most: u64) -> Result<Value, EvaluateError> {
    let path = path.canonicalize().map_err(EvaluateError::Output)?;
    let mut node = Command::new("node");
    node.arg("--input-type=commonjs").arg("--eval").arg(SCRIPT).arg("--").arg(&path);
    node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = node.spawn().map_err(EvaluateError::Node)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(read(stdout, most), read(stderr, COMPLAINT_BYTES), child.wait()) };
    let ended = tokio::time::timeout(TIME, all).await;
    let (output, complaint, status) = ended.map_err(|_| EvaluateError::Time)?;
    let output = output.map_err(EvaluateError::Output)?;
    if output.len() as u64 > most {
        return Err(EvaluateError::TooLarge(most));
    }
    judge(status.map_err(EvaluateError::Output)?, &complaint.unwrap_or_default())?;
    serde_json::from_slice(&output).map_err(|error| EvaluateError::Output(error.into()))
}

fn judge(status: ExitStatus, complaint: &[u8]) -> Result<(), EvaluateError> {
    match status.code() {
        Some(0) => Ok(()),
        Some(9) => Err(EvaluateError::TypeScript),
        Some(8) => Err(EvaluateError::Export),
        _ => {
            let text = String::from_utf8_lossy(complaint);
            // The script marks its own line; without it, Node.js itself has ended.
            let line = text.rsplit('\0').next().unwrap_or_default().trim();
            let line = line.lines().next_back().unwrap_or("Node.js ended without a reason");
            Err(EvaluateError::Failed(line.chars().take(400).collect()))
        }
    }
}

/// Reads as much as `most` and one byte, then closes the pipe, so that whoever writes more ends.
async fn read(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
