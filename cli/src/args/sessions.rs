//! What `af up` has to know about who asks its control API: pages and short-lived tokens.

use af_control_api::{SessionConfig, SharedSecret};
use clap::Args as Options;

/// Of `af up`.
#[derive(Debug, Options)]
pub struct Sessions {
    /// An origin, such as https://app.example.com, whose web pages may use the control API, with a token; may be given several
    /// times [default: none]
    #[arg(long = "api-cors-origin", value_name = "ORIGIN", value_parser = origin)]
    pub api_cors_origins: Vec<String>,
    /// A secret of 32 or more characters that other services have, too: short-lived tokens that are signed with it (HS256) are
    /// believed, and issued to those who ask for them; better in the environment
    #[arg(long, value_name = "SECRET", env = "AF_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<SharedSecret>,
    /// Who issues short-lived tokens
    #[arg(long, value_name = "NAME", default_value = "af", env = "AF_JWT_ISSUER")]
    pub jwt_issuer: String,
    /// Whom short-lived tokens are for
    #[arg(long, value_name = "NAME", default_value = "af", env = "AF_JWT_AUDIENCE")]
    pub jwt_audience: String,
}

/// As browsers send it: a scheme, a host and perhaps a port.
fn origin(text: &str) -> Result<String, String> {
    let parsed = url::Url::parse(text).map(|url| url.origin().ascii_serialization());
    match parsed {
        Ok(origin) if origin == text => Ok(origin),
        _ => Err("an origin looks like https://app.example.com, without a path".to_owned()),
    }
}

impl Sessions {
    pub fn config(&self) -> SessionConfig {
        SessionConfig {
            issuer: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
            secret: self.jwt_secret.clone(),
        }
    }
}
