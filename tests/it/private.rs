//! Credentials and private content: what is cached for one is not thereby another's (A).

mod isolation;
mod own;
mod users;
