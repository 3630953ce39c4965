//! Access control.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;
use wharfinger_auth::{
    AccessController, FIRST_USER, Htpasswd, HtpasswdError, Silly, Token, TokenOptions,
};
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
        make_if_missing(&htpasswd.path).map_err(|error| in_file(&error))?;
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

/// Makes a missing file of users. The password of its user stands nowhere else: a person at the
/// terminal is told it, and else it goes to a file beside. Logs are kept and sent about, and what a
/// service prints is in them too, so it is not told there.
fn make_if_missing(users: &str) -> Result<(), HtpasswdError> {
    let mut out = std::io::stdout();
    let kept = (!out.is_terminal()).then(|| format!("{users}.password"));
    let path = Path::new(users);
    let Some(password) = Htpasswd::make_if_missing(path, kept.as_deref().map(Path::new))? else {
        return Ok(());
    };
    match kept {
        Some(kept) => warn!(
            "{users} was missing and has been made, for the user {FIRST_USER}; the password is in \
             {kept}"
        ),
        None => {
            warn!("{users} was missing and has been made, for the user {FIRST_USER}");
            let _ = writeln!(out, "made {users}; user {FIRST_USER}, password {password}");
            let _ = out.flush();
        }
    }
    Ok(())
}
