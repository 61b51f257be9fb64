//! The stage itself is tested: a fake that does not break as told proves nothing.

mod apart;
mod clients;
mod faults;
mod program;
mod tokens;
