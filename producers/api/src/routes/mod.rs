//! The routes, one module a resource.

pub mod auth;
pub mod tasks;
