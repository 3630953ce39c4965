//! What the tests of the crate share.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod schema1;
