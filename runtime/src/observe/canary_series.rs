//! The series about which requests go where beside the split: clients that stay with their deployment, and copies for shadows.
//!
//! Threads: counted from anywhere without a lock, once the series are at hand.

#[cfg(feature = "server")]
use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counts events of requests that were dropped. One for the process, as the rings are.
#[cfg(feature = "server")]
pub(super) fn evidence_dropped() -> &'static Counter {
    static COUNTER: LazyLock<Counter> = LazyLock::new(Counter::default);
    &COUNTER
}

/// Counts pairs of answers that were dropped. One for the process, as their channel is.
#[cfg(feature = "server")]
pub(crate) fn pairs_dropped() -> &'static Counter {
    static COUNTER: LazyLock<Counter> = LazyLock::new(Counter::default);
    &COUNTER
}

/// Counts answers that were dropped before labels could be compared with them. One for the process, as their channel is.
#[cfg(feature = "server")]
pub(crate) fn answers_dropped() -> &'static Counter {
    static COUNTER: LazyLock<Counter> = LazyLock::new(Counter::default);
    &COUNTER
}

/// The reason why a request that a shadow should have had was not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCopied {
    /// The shadow had no slot for a copy, or somebody waited for one.
    NoSlot,
    /// The copies under way hold as much memory as they may.
    NoMemory,
    /// The shadow has no ready instance.
    NotReady,
    /// Only a scoring script could answer it, and the shadow has none.
    NoScript,
}

impl NotCopied {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::NoSlot, Self::NoMemory, Self::NotReady, Self::NoScript];

    /// The value of the label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoSlot => "no_slot",
            Self::NoMemory => "no_memory",
            Self::NotReady => "not_ready",
            Self::NoScript => "no_script",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEndpoint {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    endpoint: String,
    deployment: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    endpoint: String,
    deployment: String,
    reason: &'static str,
}

/// The series, by their labels.
#[derive(Debug, Default)]
pub(super) struct CanaryFamilies {
    sticky_misses: Family<ByEndpoint, Counter>,
    copies: Family<ByOutcome, Counter>,
    not_copied: Family<ByReason, Counter>,
}

impl CanaryFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        #[cfg(feature = "server")]
        registry.register(
            "evidence_dropped",
            "Events of requests that the comparison of deployments never saw, because nobody took them in time",
            evidence_dropped().clone(),
        );
        #[cfg(feature = "server")]
        registry.register(
            "mirror_pairs_dropped",
            "Pairs of answers, of a deployment and its shadow, that were not compared because nobody took them in time",
            pairs_dropped().clone(),
        );
        #[cfg(feature = "server")]
        registry.register(
            "feedback_answers_dropped",
            "Requests and answers that no label can find, because nobody took them in time or the disk was full",
            answers_dropped().clone(),
        );
        registry.register(
            "mirrored_requests",
            "Copies of requests that a shadow got, by how they ended; no client saw their answers",
            self.copies.clone(),
        );
        registry.register(
            "mirror_dropped",
            "Requests that a shadow should have got and did not, by reason; their clients noticed nothing",
            self.not_copied.clone(),
        );
        registry.register(
            "sticky_misses",
            "Requests to an endpoint with cohorts that did not say whose they are, and were split one by one",
            self.sticky_misses.clone(),
        );
    }

    pub(super) fn sticky_misses(&self, endpoint: &str) -> StickyMisses {
        let endpoint = endpoint.to_owned();
        StickyMisses(
            self.sticky_misses
                .get_or_create_owned(&ByEndpoint { endpoint }),
        )
    }

    pub(super) fn forget_sticky_misses(&self, endpoint: &str) {
        let endpoint = endpoint.to_owned();
        self.sticky_misses.remove(&ByEndpoint { endpoint });
    }

    /// The series of a shadow, whose copies end in one of these ways.
    pub(super) fn shadow(
        &self,
        endpoint: &str,
        deployment: &str,
        outcomes: impl Iterator<Item = &'static str>,
    ) -> ShadowMetrics {
        let copies = outcomes.map(|outcome| {
            let labels = ByOutcome {
                endpoint: endpoint.to_owned(),
                deployment: deployment.to_owned(),
                outcome,
            };
            (outcome, self.copies.get_or_create_owned(&labels))
        });
        let not_copied = |reason: NotCopied| {
            let labels = ByReason {
                endpoint: endpoint.to_owned(),
                deployment: deployment.to_owned(),
                reason: reason.label(),
            };
            self.not_copied.get_or_create_owned(&labels)
        };
        ShadowMetrics {
            copies: copies.collect(),
            not_copied: NotCopied::ALL.map(not_copied),
        }
    }

    pub(super) fn forget_shadow(
        &self,
        endpoint: &str,
        deployment: &str,
        outcomes: impl Iterator<Item = &'static str>,
    ) {
        for outcome in outcomes {
            self.copies.remove(&ByOutcome {
                endpoint: endpoint.to_owned(),
                deployment: deployment.to_owned(),
                outcome,
            });
        }
        for reason in NotCopied::ALL {
            self.not_copied.remove(&ByReason {
                endpoint: endpoint.to_owned(),
                deployment: deployment.to_owned(),
                reason: reason.label(),
            });
        }
    }
}

/// Counts requests that do not say whose they are.
#[derive(Debug, Clone)]
pub struct StickyMisses(Counter);

impl StickyMisses {
    /// One more.
    pub fn count(&self) {
        self.0.inc();
    }
}

/// Series of the copies that a shadow gets. Those of its live requests, if it has any, are others.
#[derive(Debug, Clone)]
pub struct ShadowMetrics {
    /// By the label of the outcome.
    copies: Vec<(&'static str, Counter)>,
    /// In the order of [`NotCopied`].
    not_copied: [Counter; NotCopied::ALL.len()],
}

impl ShadowMetrics {
    /// A copy has ended so.
    pub fn ended(&self, outcome: &'static str) {
        if let Some(counter) = self.counter(outcome) {
            counter.inc();
        }
    }

    /// A request was not copied.
    pub fn not_copied(&self, reason: NotCopied) {
        let [no_slot, no_memory, not_ready, no_script] = &self.not_copied;
        let counter = match reason {
            NotCopied::NoSlot => no_slot,
            NotCopied::NoMemory => no_memory,
            NotCopied::NotReady => not_ready,
            NotCopied::NoScript => no_script,
        };
        counter.inc();
    }

    /// Copies that ended so.
    #[must_use]
    pub fn count(&self, outcome: &'static str) -> u64 {
        self.counter(outcome).map_or(0, Counter::get)
    }

    /// Requests that were not copied, in the order of [`NotCopied::ALL`].
    #[must_use]
    pub fn counts_not_copied(&self) -> [u64; NotCopied::ALL.len()] {
        self.not_copied.each_ref().map(Counter::get)
    }

    fn counter(&self, outcome: &'static str) -> Option<&Counter> {
        let mut known = self.copies.iter();
        known
            .find(|(label, _)| *label == outcome)
            .map(|(_, counter)| counter)
    }
}
