//! What a connection may ask for: one shape of a line for each.

use serde::{Deserialize, Serialize};

use super::cache::CacheRequest;
use super::canary::CanaryRequest;
use super::{AuditRequest, DiffRequest, ImportRequest, ReportRequest, WarmRequest};
use crate::decide::Request;

/// What a connection may ask for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Asked {
    /// Tags of their upstreams, now.
    Audit {
        /// Which.
        audit: AuditRequest,
    },
    /// Something of the cache.
    Cache {
        /// What.
        cache: CacheRequest,
    },
    /// A canary, until the client closes its side.
    Canary {
        /// Where it is.
        canary: CanaryRequest,
    },
    /// What changed at a tag.
    Diff {
        /// At which, and between what.
        diff: DiffRequest,
    },
    /// A list of claims, in the lines that follow.
    Import {
        /// How, and how many.
        import: ImportRequest,
    },
    /// Something of webhooks.
    Notify {
        /// What.
        notify: NotifyRequest,
    },
    /// What was pulled.
    Report {
        /// Since when.
        report: ReportRequest,
    },
    /// Content in the cache.
    Warm {
        /// Of what.
        warm: WarmRequest,
    },
    /// Something of the ledger.
    Ledger(Request),
}

/// What is asked of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyRequest {
    /// How it is with each.
    Status,
}
