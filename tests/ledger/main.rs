//! The ledger on disk, under everything that disks, kernels and people do to it.

mod common;
mod crash;
mod disk;
mod index;
mod log;
mod power;
mod start;
