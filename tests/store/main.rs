//! The blob store on real file systems: full ones, and ones that lose what was not synced.

#[cfg(test)]
mod common;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod power;
