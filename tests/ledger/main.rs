//! The ledger on disk, under everything that disks, kernels and people do to it.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod common;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod index;
#[cfg(test)]
mod log;
#[cfg(test)]
mod power;
#[cfg(test)]
mod start;
#[cfg(test)]
mod versions;
