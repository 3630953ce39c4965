//! Access control.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;
use wharfinger_auth::{AccessController, FIRST_USER, Htpasswd, Silly, Token, TokenOptions};
use wharfinger_config::Config;

use super::{Unusable, unusable};

/// Who decides what requests may do; `None` lets everybody do everything.
pub(crate) fn access_controller(
    config: &Config,
) -> Result<Option<Arc<dyn AccessController>>, Unusable> {
    let auth = &config.auth;
    if let Some(silly) = &auth.silly {
        return Ok(Some(Arc::new(Silly {
            realm: silly.realm.clone(),
            service: silly.service.clone(),
        })));
    }
    if let Some(htpasswd) = &auth.htpasswd {
        let in_file = unusable("auth.htpasswd.path");
        let made = Htpasswd::make_if_missing(Path::new(&htpasswd.path));
        if let Some(password) = made.map_err(|error| in_file(&error))? {
            tell_once(&htpasswd.path, &password);
        }
        let users = Htpasswd::new(&htpasswd.realm, &htpasswd.path);
        return Ok(Some(Arc::new(users.map_err(|error| in_file(&error))?)));
    }
    if let Some(token) = &auth.token {
        let file = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        let trusted = Token::new(TokenOptions {
            realm: token.realm.clone(),
            autoredirect: token.autoredirect,
            autoredirectpath: token.autoredirectpath.clone(),
            service: token.service.clone(),
            issuer: token.issuer.clone(),
            rootcertbundle: file(&token.rootcertbundle),
            jwks: file(&token.jwks),
            signingalgorithms: token.signingalgorithms.clone(),
        });
        let trusted = trusted
            .map_err(|error| unusable(format!("auth.token.{}", error.key))(&error.reason))?;
        return Ok(Some(Arc::new(trusted)));
    }
    Ok(None)
}

/// Tells the person at the terminal a password that stands nowhere else. Logs are kept and sent
/// about, so it is not told there.
fn tell_once(file: &str, password: &str) {
    warn!("{file} was missing and has been made, for the user {FIRST_USER}");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "made {file}; user {FIRST_USER}, password {password}");
    let _ = out.flush();
}
