//! Which interfaces a component may import and must export. Admission (control plane) and linking
//! (edge) both follow this table; a test in af-runtime holds the linker against it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The HTTP world that a component implements, as its exports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum World {
    /// `wasi:http/proxy` 0.2: exports `wasi:http/incoming-handler@0.2.x`.
    #[serde(rename = "wasi:http/proxy@0.2")]
    Proxy02,
    /// `wasi:http/service` 0.3: exports `wasi:http/handler@0.3.x`.
    #[serde(rename = "wasi:http/service@0.3")]
    Service03,
}

impl World {
    /// The export that makes a component one of this world, without its patch version.
    #[must_use]
    pub const fn export(self) -> &'static str {
        match self {
            Self::Proxy02 => "wasi:http/incoming-handler@0.2",
            Self::Service03 => "wasi:http/handler@0.3",
        }
    }

    /// The world that an export such as `wasi:http/incoming-handler@0.2.12` stands for.
    #[must_use]
    pub fn of_export(name: &str) -> Option<Self> {
        [Self::Service03, Self::Proxy02]
            .into_iter()
            .find(|world| Interface::parse(name).is_some_and(|i| i.track == world.export()))
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy02 => "wasi:http/proxy@0.2",
            Self::Service03 => "wasi:http/service@0.3",
        })
    }
}

/// An interface name with a version: `wasi:http/types@0.2.6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Name and compatible version, as Wasmtime's linker matches them: `wasi:http/types@0.2`.
    pub track: &'a str,
    /// The rest of the version: 6.
    pub patch: u64,
}

impl<'a> Interface<'a> {
    /// Splits `wasi:http/types@0.2.6`. Versions before 1.0 are compatible within their minor version.
    /// Pre-releases (`0.3.0-rc`) are compatible with nothing, so they are no interface here.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let (_, version) = name.split_once('@')?;
        let mut parts = version.split('.');
        let numbers = [parts.next()?, parts.next()?, parts.next()?].map(|part| part.parse::<u64>().ok());
        match (numbers, parts.next()) {
            ([Some(_), Some(_), Some(patch)], None) => {
                let track = name.rsplit_once('.').map(|(track, _)| track)?;
                Some(Self { track, patch })
            }
            _ => None,
        }
    }
}

/// Whether the platform links an import of this full name.
#[must_use]
pub fn is_linked(import: &str) -> bool {
    DRAFTS.contains(&import)
        || Interface::parse(import).is_some_and(|given| {
            LINKED.iter().any(|(track, patch)| *track == given.track && given.patch <= *patch)
        })
}

/// Every interface that the edge links, with the newest patch version that guests of it were run with.
pub const LINKED: &[(&str, u64)] = &[
    ("wasi:cli/environment@0.2", 12),
    ("wasi:cli/exit@0.2", 12),
    ("wasi:cli/stderr@0.2", 12),
    ("wasi:cli/stdin@0.2", 12),
    ("wasi:cli/stdout@0.2", 12),
    ("wasi:cli/terminal-input@0.2", 12),
    ("wasi:cli/terminal-output@0.2", 12),
    ("wasi:cli/terminal-stderr@0.2", 12),
    ("wasi:cli/terminal-stdin@0.2", 12),
    ("wasi:cli/terminal-stdout@0.2", 12),
    ("wasi:clocks/monotonic-clock@0.2", 12),
    ("wasi:clocks/wall-clock@0.2", 12),
    ("wasi:filesystem/preopens@0.2", 12),
    ("wasi:filesystem/types@0.2", 12),
    ("wasi:http/outgoing-handler@0.2", 12),
    ("wasi:http/types@0.2", 12),
    ("wasi:io/error@0.2", 12),
    ("wasi:io/poll@0.2", 12),
    ("wasi:io/streams@0.2", 12),
    ("wasi:random/insecure-seed@0.2", 12),
    ("wasi:random/insecure@0.2", 12),
    ("wasi:random/random@0.2", 12),
    ("wasi:sockets/instance-network@0.2", 12),
    ("wasi:sockets/ip-name-lookup@0.2", 12),
    ("wasi:sockets/network@0.2", 12),
    ("wasi:sockets/tcp-create-socket@0.2", 12),
    ("wasi:sockets/tcp@0.2", 12),
    ("wasi:sockets/udp-create-socket@0.2", 12),
    ("wasi:sockets/udp@0.2", 12),
    ("wasi:cli/environment@0.3", 2),
    ("wasi:cli/exit@0.3", 2),
    ("wasi:cli/stderr@0.3", 2),
    ("wasi:cli/stdin@0.3", 2),
    ("wasi:cli/stdout@0.3", 2),
    ("wasi:cli/terminal-input@0.3", 2),
    ("wasi:cli/terminal-output@0.3", 2),
    ("wasi:cli/terminal-stderr@0.3", 2),
    ("wasi:cli/terminal-stdin@0.3", 2),
    ("wasi:cli/terminal-stdout@0.3", 2),
    ("wasi:cli/types@0.3", 2),
    ("wasi:clocks/monotonic-clock@0.3", 2),
    ("wasi:clocks/system-clock@0.3", 2),
    ("wasi:clocks/types@0.3", 2),
    ("wasi:filesystem/preopens@0.3", 2),
    ("wasi:filesystem/types@0.3", 2),
    ("wasi:http/client@0.3", 2),
    ("wasi:http/types@0.3", 2),
    ("wasi:random/insecure-seed@0.3", 2),
    ("wasi:random/insecure@0.3", 2),
    ("wasi:random/random@0.3", 2),
    ("wasi:sockets/ip-name-lookup@0.3", 2),
    ("wasi:sockets/types@0.3", 2),
];

/// Every interface that has no release yet and that the edge links, in the versions that guests were
/// made with. Drafts are compatible with nothing but themselves.
pub const DRAFTS: &[&str] = &[
    "wasi:config/runtime@0.2.0-draft",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:logging/logging",
    "wasi:logging/logging@0.1.0-draft",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_tells_the_world() {
        assert_eq!(World::of_export("wasi:http/incoming-handler@0.2.12"), Some(World::Proxy02));
        assert_eq!(World::of_export("wasi:http/handler@0.3.2"), Some(World::Service03));
        assert_eq!(World::of_export("wasi:http/handler@0.30.0"), None);
        assert_eq!(World::of_export("wasi:http/handler@0.3.0-rc-2026-01-01"), None);
        assert_eq!(World::of_export("wasi:cli/run@0.2.6"), None);
    }

    #[test]
    fn only_known_imports_are_linked() {
        assert!(is_linked("wasi:io/streams@0.2.0"));
        assert!(!is_linked("wasi:io/streams@0.2.13"), "a newer patch may have functions that are not there");
        assert!(!is_linked("wasi:io/streams"));
        assert!(is_linked("wasi:keyvalue/store@0.2.0-draft2"));
        assert!(!is_linked("wasi:keyvalue/store@0.2.0-draft3"));
        assert!(!is_linked("wasi:gpu/gpu@0.2.0"));
    }
}
