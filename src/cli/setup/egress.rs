//! Rules under which only immutag reaches registries: the one closure for clients that always ask
//! the registry itself when immutag does not answer (Docker's classic store,
//! `BuildKit`).

mod kubernetes;
mod network;
mod nftables;

use clap::{Args, Subcommand};

use self::kubernetes::KubernetesArgs;
use self::nftables::NftablesArgs;
use super::setting::{Refusal, Setting};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct EgressArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Network policies: only immutag's pods reach the outside
    Kubernetes(KubernetesArgs),
    /// A file for nft: only immutag's user reaches registries from this host
    Nftables(NftablesArgs),
}

/// The rules.
pub(super) fn setting(args: &EgressArgs, config: &Config) -> Result<Setting, Refusal> {
    match &args.what {
        What::Kubernetes(args) => Ok(kubernetes::setting(args)),
        What::Nftables(args) => nftables::setting(args, config),
    }
}
