//! Who may do what.
//!
//! An [`AccessController`] looks at what a client shows (the `Authorization` header) and at what it
//! wants to do ([`Access`]), and gives a [`Grant`] or a [`Refusal`]. There are three, by the names
//! that CNCF Distribution gave them: [`Htpasswd`] knows users by their passwords, [`Token`] trusts
//! another service that gives out tokens, [`Silly`] lets everybody in who shows anything.

mod access;
mod htpasswd;
mod silly;
mod token;

pub use access::{Access, AccessController, Action, Asked, Grant, Refusal, Resource, Shown};
pub use htpasswd::{FIRST_USER, Htpasswd, HtpasswdError, basic};
pub use silly::Silly;
pub use token::{ALGORITHMS, Token, TokenError, TokenOptions};
