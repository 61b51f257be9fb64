//! `immutag doctor`: which clients of this host immutag protects, and which can go round it.

mod finding;
mod live;
