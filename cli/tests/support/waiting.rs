//! A real `af login` that waits for somebody.
#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::Value;

use crate::support::Home;

/// `af login` that waits to be approved.
pub struct Waiting {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Waiting {
    pub fn start(home: &Home, options: &[&str]) -> Self {
        let mut af = home.af();
        af.args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = af.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    /// What it says on standard error next.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it says nothing");
        line
    }

    pub fn shown(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// What it printed in the end.
    pub fn signed_in(mut self) -> String {
        let status = self.child.wait().unwrap();
        let (mut said, mut why) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.stderr.read_to_string(&mut why).unwrap();
        assert!(status.success(), "{why}");
        said
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}
