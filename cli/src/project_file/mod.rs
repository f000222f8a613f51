//! The project's file in the working directory, `af.config.{json,js,ts}`: its functions and sites. The command line
//! has the last word.

mod document;
mod evaluate;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::document::document;
pub use self::document::{FunctionEntry, SiteEntry};
pub use self::evaluate::EvaluateError;

/// Names without their endings; the second is what Fleek's users have, and counts only without the first.
const NAMES: [&str; 2] = ["af.config", "fleek.config"];

/// The file as JSON, bytes: two full route tables, and much more than anybody writes by hand.
const MOST_BYTES: u64 = 1 << 20;

/// A project's file.
#[derive(Debug, Default)]
pub struct ProjectFile {
    /// Its name; `None`: there is no file.
    path: Option<PathBuf>,
    /// In the order in which they stand.
    pub functions: Vec<FunctionEntry>,
    /// In the order in which they stand.
    pub sites: Vec<SiteEntry>,
}

/// Why a project's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectFileError {
    /// Which one counts cannot be told.
    #[error("both {0} and {1} are here; remove one of them")]
    Several(String, String),
    /// The system's word.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// More than [`MOST_BYTES`].
    #[error("{0} has more than {MOST_BYTES} bytes")]
    TooLarge(String),
    /// Not JSON.
    #[error("{path} is not JSON: {error}")]
    Syntax {
        /// Which file.
        path: String,
        /// Where, and why.
        error: serde_json::Error,
    },
    /// A program that does not give an object.
    #[error("{path} cannot be used: {error}")]
    Evaluate {
        /// Which file.
        path: String,
        /// Why.
        error: EvaluateError,
    },
    /// JSON that is no project.
    #[error("{path}: {place}: {error}")]
    Shape {
        /// Which file.
        path: String,
        /// As JavaScript has it: `functions[0].routes`.
        place: String,
        /// Why.
        error: String,
    },
}

impl ProjectFile {
    /// Reads the file of the working directory, where there is one.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn here() -> Result<Self, ProjectFileError> {
        Self::find(Path::new(".")).await
    }

    /// Reads the file of a directory, where there is one. Its parents do not count: a file that nobody sees would.
    ///
    /// # Errors
    /// When there are several, or it cannot be used.
    pub async fn find(dir: &Path) -> Result<Self, ProjectFileError> {
        for name in NAMES {
            let mut found = ["json", "js", "ts"].iter().map(|end| dir.join(format!("{name}.{end}")));
            let mut found = found.by_ref().filter(|path| path.is_file());
            match (found.next(), found.next()) {
                (None, _) => {}
                (Some(path), None) => return Self::read(&path).await,
                (Some(one), Some(other)) => {
                    return Err(ProjectFileError::Several(shown(&one), shown(&other)));
                }
            }
        }
        Ok(Self::default())
    }

    async fn read(path: &Path) -> Result<Self, ProjectFileError> {
        let shown = || shown(path);
        let value = if path.extension().is_some_and(|end| end == "json") {
            json(path)?
        } else {
            let evaluated = evaluate::evaluate(path, MOST_BYTES).await;
            evaluated.map_err(|error| ProjectFileError::Evaluate { path: shown(), error })?
        };
        let (functions, sites) = document(value).map_err(|fault| ProjectFileError::Shape {
            path: shown(),
            place: fault.place,
            error: fault.error,
        })?;
        Ok(Self { path: Some(path.to_owned()), functions, sites })
    }

    /// What the file says of a function.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&FunctionEntry> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// What the file says of a site, which has no name in it but its slug.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<&SiteEntry> {
        self.sites.iter().find(|site| site.slug == name)
    }

    /// The file's name, for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.as_deref().map(shown).unwrap_or_default()
    }

    /// Whether there is a file.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.path.is_some()
    }
}

fn json(path: &Path) -> Result<Value, ProjectFileError> {
    let failed = |source| ProjectFileError::Read { path: shown(path), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(failed)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(ProjectFileError::TooLarge(shown(path)));
    }
    serde_json::from_slice(&bytes).map_err(|error| ProjectFileError::Syntax { path: shown(path), error })
}

/// The name alone: it is in the working directory.
fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    /// What a directory with these files gives.
    async fn found(files: &[(&str, &str)]) -> Result<ProjectFile, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        ProjectFile::find(dir.path()).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_file_is_found_here_and_nowhere_else() {
        assert!(!found(&[]).await.unwrap().is_there());
        let one = r#"{"functions": [{"name": "one"}]}"#;
        let two = r#"{"functions": [{"name": "two"}]}"#;
        let file = found(&[("fleek.config.json", one)]).await.unwrap();
        assert_eq!((file.name().as_str(), file.function("one").is_some()), ("fleek.config.json", true));
        let file = found(&[("fleek.config.json", one), ("af.config.json", two)]).await.unwrap();
        assert!(file.function("one").is_none() && file.function("two").is_some());
        let several = found(&[("af.config.js", ""), ("af.config.json", two)]).await.unwrap_err();
        assert_eq!(several, "both af.config.json and af.config.js are here; remove one of them");

        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::write(dir.path().join("af.config.json"), one).unwrap();
        assert!(!ProjectFile::find(&below).await.unwrap().is_there());
    }

    #[tokio::test]
    async fn what_is_no_project_is_refused_with_its_place() {
        for (text, said) in [
            ("{", "af.config.json is not JSON: EOF while parsing an object at line 1 column 1"),
            ("[]", "af.config.json: the file: it is no object"),
            (
                r#"{"function": []}"#,
                "af.config.json: the file: unknown field `function`, expected `sites` or `functions`",
            ),
            (r#"{"functions": {}}"#, "af.config.json: functions: it is no array"),
            (r#"{"functions": [{}]}"#, "af.config.json: functions[0]: missing field `name`"),
            (
                r#"{"functions": [{"name": "a-b"}, {"name": 7}]}"#,
                "af.config.json: functions[1]: invalid type: integer `7`, expected a string",
            ),
            (r#"{"functions": [{"name": "x"}]}"#, "af.config.json: functions[0].name: "),
            (
                r#"{"functions": [{"name": "one"}, {"name": "one"}]}"#,
                "af.config.json: functions[1].name: another function of the file has it, too",
            ),
            (
                r#"{"functions": [{"name": "one", "type": "site"}]}"#,
                "af.config.json: functions[0].type: \"site\" is not a type; use \"function\"",
            ),
            (
                r#"{"functions": [{"name": "one", "route": {}}]}"#,
                "af.config.json: functions[0]: unknown field `route`, expected one of `name`, `type`, `routes`",
            ),
            (
                r#"{"functions": [{"name": "one", "routes": {}}]}"#,
                "af.config.json: functions[0].routes: Routes object cannot be empty",
            ),
            (
                r#"{"functions": [{"name": "one", "routes": {"a": "https://b"}}]}"#,
                "af.config.json: functions[0].routes: Invalid path pattern \"a\". Path patterns must start with \"/\"",
            ),
            (
                r#"{"functions": [{"name": "one", "triggers": [{"cron": "@hourly", "path": "/"}, {"cron": "@often", "path": "/"}]}]}"#,
                "af.config.json: functions[0].triggers[1]: \"@often\" is not a cron expression",
            ),
            (
                r#"{"functions": [{"name": "one", "triggers": [{"cron": "@hourly", "paths": "/"}]}]}"#,
                "af.config.json: functions[0].triggers[0]: unknown field `paths`",
            ),
            (
                r#"{"functions": [{"name": "one", "reuse": 0}]}"#,
                "af.config.json: functions[0].reuse: 0 is not from 1 to 10000",
            ),
            (r#"{"functions": [{"name": "one", "egress": ["a b"]}]}"#, "af.config.json: functions[0]: "),
            (r#"{"sites": [{"slug": "docs"}]}"#, "af.config.json: sites[0]: missing field `distDir`"),
            (r#"{"sites": [{"slug": "Docs!", "distDir": "dist"}]}"#, "af.config.json: sites[0].slug: "),
        ] {
            let error = found(&[("af.config.json", text)]).await.unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
        let large = format!(r#"{{"functions": [], "x": "{}"}}"#, "x".repeat(1 << 20));
        assert!(found(&[("af.config.json", &large)]).await.unwrap_err().contains("more than 1048576 bytes"));
    }

    #[tokio::test]
    async fn everything_that_a_function_can_have_is_read_in_its_order() {
        let file = found(&[(
            "af.config.json",
            r#"{
                "sites": [{"slug": "docs", "distDir": "dist", "buildCommand": "npm run build"}],
                "functions": [{
                    "name": "api", "type": "function", "path": "api.wasm", "assets": "public",
                    "routes": {"/b/*": "https://b.example", "/a/*": "https://a.example"},
                    "triggers": [{"cron": "*/5  * * * *", "path": "/tick"}],
                    "reuse": 8, "concurrency": 4, "egress": ["*.example.com"], "stores": ["sessions"],
                    "envFile": ".env", "private": true
                }]
            }"#,
        )]);
        let file = file.await.unwrap();
        let api = file.function("api").unwrap();
        assert_eq!(
            api.routes.as_ref().unwrap().to_string(),
            r#"{"/b/*":"https://b.example","/a/*":"https://a.example"}"#
        );
        assert_eq!(api.triggers[0].to_string(), "*/5 * * * *=/tick");
        assert_eq!((api.reuse, api.concurrency), (Some(8), Some(4)));
        assert_eq!(
            (api.egress[0].to_string(), api.stores[0].to_string()),
            ("*.example.com".into(), "sessions".into())
        );
        assert!(api.private);
        assert_eq!(api.path.as_deref(), Some(Path::new("api.wasm")));
        assert_eq!(file.sites[0].build_command.as_deref(), Some("npm run build"));
    }

    #[tokio::test]
    async fn a_program_gives_its_default_export() {
        for text in [
            "console.log('noise'); export default { functions: [{ name: ['a', 'p', 'i'].join('') }] };",
            "module.exports = { functions: [{ name: 'api' }] };",
            "export default Promise.resolve({ functions: [{ name: 'api' }] });",
        ] {
            let file = found(&[("af.config.js", text)]).await.unwrap();
            assert!(file.function("api").is_some(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_program_that_gives_no_project_is_refused() {
        for (text, said) in [
            ("export default {", "SyntaxError"),
            ("throw new Error('not today');", "not today"),
            ("export default undefined;", "it has no default export that is an object"),
            ("export default { functions: 7 };", "functions: it is no array"),
            ("export default { functions: 'x'.repeat(2 ** 21) };", "more than 1048576 bytes"),
        ] {
            let error = found(&[("af.config.js", text)]).await.unwrap_err();
            assert!(error.starts_with("af.config.js") && error.contains(said), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn typescript_is_read_or_the_reason_why_not_told() {
        let text = "export default { functions: [{ name: 'api' as string }] };";
        match found(&[("af.config.ts", text)]).await {
            Ok(file) => assert!(file.function("api").is_some()),
            Err(error) => {
                assert!(error.contains("needs Node.js 22.18 or newer") && !error.contains('\n'), "{error}")
            }
        }
    }
}
