//! Access control.

use std::path::PathBuf;
use std::sync::Arc;

use wharfinger_auth::{AccessController, Htpasswd, Silly, Token, TokenOptions};
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
        let users = Htpasswd::new(&htpasswd.realm, &htpasswd.path);
        let users = users.map_err(|error| unusable("auth.htpasswd.path")(&error))?;
        return Ok(Some(Arc::new(users)));
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
