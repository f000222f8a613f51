//! From options to the gateway that serves content by CID.

use std::fs;

use af_content::DiskStore;
use af_content::gateway::{Access, Gateway, Token};
use anyhow::{Context, bail};

use crate::args::gateway::{Gateway as Options, GatewayAccess};
use crate::config::Environment;

/// The gateway for what is in `store`; none unless the options say so.
pub fn gateway(
    store: &DiskStore,
    options: &Options,
    environment: &Environment,
) -> anyhow::Result<Option<Gateway>> {
    let access = match options.gateway {
        GatewayAccess::Off => return Ok(None),
        GatewayAccess::Public => Access::Public,
        GatewayAccess::Private => Access::Private(token(options, environment)?),
    };
    Ok(Some(Gateway::new(store.clone(), access)))
}

fn token(options: &Options, environment: &Environment) -> anyhow::Result<Token> {
    let text = match (&options.gateway_token_file, &environment.gateway_token) {
        (Some(path), _) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the gateway's token from {}", path.display()))?,
        (None, Some(token)) => token.clone(),
        (None, None) => {
            bail!("a private gateway needs a token: --gateway-token-file FILE, or AF_GATEWAY_TOKEN")
        }
    };
    Ok(Token::new(text.trim())?)
}
