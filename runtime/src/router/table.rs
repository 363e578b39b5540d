//! The immutable view that requests see, and the pointer to it.
//!
//! Threads: read by every request on the edge without a lock; published by the controller, one pointer swap.
//! Not here: how the split decides (`spec`), the life of a request (`score`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::router::assigned::Arm;
#[cfg(feature = "server")]
use crate::router::mirror::Shadow;
use crate::router::{Deployment, EndpointAuth, Routes, StickyRoutes};
use crate::spec::{DeploymentName, EndpointName, Percent, Picker, TrafficSplit, place_on_line};

/// The split sends traffic to a deployment that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the traffic of endpoint {endpoint} names {deployment}, which is not among its deployments"
)]
pub struct MissingDeployment {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The name in its split.
    pub deployment: DeploymentName,
}

/// One endpoint under one table.
#[derive(Debug)]
pub struct Endpoint {
    name: EndpointName,
    auth: EndpointAuth,
    routes: Routes,
    deployments: Vec<Arc<Deployment>>,
    /// For each range of the cohorts its end and the entry of the split; none where there are no cohorts.
    cohorts: Vec<(u16, usize)>,
    /// For each entry of the split, the index of its deployment; none for an entry of 0 % that is not deployed.
    arms: Vec<Option<usize>>,
    turns: Arc<Turns>,
    #[cfg(feature = "server")]
    shadows: Vec<Shadow>,
}

/// Decides request after request, through all tables that have the same split.
#[derive(Debug)]
struct Turns {
    /// Differs between any two of the process.
    number: u32,
    picker: Picker,
    /// Number of the next request that the split decides.
    ticket: AtomicU64,
}

impl Turns {
    fn new(split: &TrafficSplit) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Random keys, so that nobody outside can tell which of the next requests meets which deployment.
        let seed = RandomState::new().hash_one(0);
        Arc::new(Self {
            // Relaxed: a number need only differ from the others; it is handed on with the turns.
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            picker: Picker::new(split, seed),
            ticket: AtomicU64::new(0),
        })
    }

    /// The arm whose turn it is, and the block that says so.
    fn next(&self) -> Option<(usize, u64)> {
        // Relaxed: each ticket is given once in any ordering, and nothing else is read on the strength of it.
        let ticket = self.ticket.fetch_add(1, Ordering::Relaxed);
        let arm = self.picker.pick(ticket)?;
        Some((arm, ticket / self.picker.block_len()))
    }
}

impl Endpoint {
    /// Turns start anew with each new split, and go on (`previous`) where the split is the same, entries in the same order: a
    /// change of anything else leaves the blocks of requests aligned and exact.
    ///
    /// # Errors
    ///
    /// [`MissingDeployment`] when the split gives weight to a deployment that is not in `deployments`.
    pub fn new(
        name: EndpointName,
        auth: EndpointAuth,
        routes: impl Into<Routes>,
        deployments: Vec<Arc<Deployment>>,
        previous: Option<&Self>,
    ) -> Result<Arc<Self>, MissingDeployment> {
        let routes = routes.into();
        let split = &routes.split;
        let mut arms = Vec::with_capacity(split.entries().len());
        for (arm, percent) in split.entries() {
            let index = deployments.iter().position(|known| known.name == *arm);
            if index.is_none() && *percent != Percent::ZERO {
                return Err(MissingDeployment {
                    endpoint: name,
                    deployment: arm.clone(),
                });
            }
            arms.push(index);
        }
        let turns = previous
            .filter(|previous| previous.routes.split == *split)
            .map_or_else(|| Turns::new(split), |previous| Arc::clone(&previous.turns));
        Ok(Arc::new(Self {
            #[cfg(feature = "server")]
            shadows: shadows(&routes, &deployments, previous),
            name,
            auth,
            cohorts: arms_of_cohorts(&routes),
            routes,
            deployments,
            arms,
            turns,
        }))
    }

    /// The name as it was written.
    #[must_use]
    pub fn name(&self) -> &EndpointName {
        &self.name
    }

    /// The credentials that open it.
    #[must_use]
    pub fn auth(&self) -> &EndpointAuth {
        &self.auth
    }

    /// The split in force.
    #[must_use]
    pub fn split(&self) -> &TrafficSplit {
        &self.routes.split
    }

    /// Who gets copies of requests.
    #[cfg(feature = "server")]
    pub(super) fn shadows(&self) -> &[Shadow] {
        &self.shadows
    }

    /// By what clients are known that stay where they are, and where they belong.
    #[must_use]
    pub fn sticky(&self) -> Option<&StickyRoutes> {
        self.routes.sticky.as_ref()
    }

    /// Every deployment, with traffic or without.
    #[must_use]
    pub fn deployments(&self) -> &[Arc<Deployment>] {
        &self.deployments
    }

    /// Whether a scoring script may answer here. Of a deployment that is not ready yet nobody knows.
    #[must_use]
    pub fn may_run_a_script(&self) -> bool {
        let mut deployments = self.deployments.iter();
        deployments.any(|one| one.instances.is_empty() || one.runs_a_script())
    }

    /// By name, without case.
    #[must_use]
    pub fn deployment(&self, name: &str) -> Option<&Arc<Deployment>> {
        self.deployments
            .iter()
            .find(|known| known.name.key().eq_ignore_ascii_case(name))
    }

    /// The deployment of a client at this point of the line where there are cohorts, else the one whose turn it is by the split; none
    /// when no deployment has weight. Each call is one request.
    pub(super) fn next_by_split(&self, client: Option<u64>) -> Option<(&Arc<Deployment>, Arm)> {
        let (arm, block) = match (self.arm_of(client), &self.routes.sticky) {
            (Some(arm), _) => (arm, None),
            (None, sticky) => {
                if let Some(sticky) = sticky.as_ref().filter(|_| client.is_none()) {
                    sticky.misses.count();
                }
                let (arm, block) = self.turns.next()?;
                (arm, Some(block))
            }
        };
        let index = self.arms.get(arm).copied().flatten();
        let index = index.expect("the constructor saw a deployment behind every arm with weight");
        let (_, share) = self.split().entries().get(arm)?;
        let arm = Arm {
            split: self.turns.number,
            block,
            share: *share,
        };
        Some((self.deployments.get(index)?, arm))
    }

    /// The entry of the split in whose cohort a client is.
    fn arm_of(&self, client: Option<u64>) -> Option<usize> {
        let place = place_on_line(client?);
        let at = self.cohorts.partition_point(|(end, _)| *end <= place);
        self.cohorts.get(at).map(|(_, arm)| *arm)
    }
}

/// The shadows that are there; others get copies when they are.
#[cfg(feature = "server")]
fn shadows(
    routes: &Routes,
    deployments: &[Arc<Deployment>],
    previous: Option<&Endpoint>,
) -> Vec<Shadow> {
    let before = previous.map_or(&[][..], |previous| &previous.shadows);
    let shadows = routes.shadows.iter().filter_map(|route| {
        let deployment = deployments.iter().find(|one| one.name == route.name)?;
        let is_live = routes.split.percent_of(&route.name) > Percent::ZERO;
        let seed = RandomState::new().hash_one(0);
        Some(Shadow::new(
            route.clone(),
            deployment,
            is_live,
            (before, seed),
        ))
    });
    shadows.collect()
}

/// The end of each range of the cohorts, and its entry in the split. Cohorts that are not of this split count for nothing: each
/// request is decided by itself then.
fn arms_of_cohorts(routes: &Routes) -> Vec<(u16, usize)> {
    let cohorts = routes
        .sticky
        .iter()
        .flat_map(|sticky| sticky.cohorts.ends());
    let entries = routes.split.entries();
    let arms = cohorts.map(|(end, name)| {
        let is_arm = |(arm, percent): &(_, _)| arm == name && *percent != Percent::ZERO;
        Some((end, entries.iter().position(is_arm)?))
    });
    arms.collect::<Option<_>>().unwrap_or_default()
}

/// All endpoints at one revision.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// Of this process; 0 for the one before any.
    number: u64,
    /// By the name in lower case.
    endpoints: HashMap<String, Arc<Endpoint>>,
}

impl RoutingTable {
    /// A table of these endpoints; of two with one name the later counts.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            // Relaxed: a number need only differ from the others; it is handed on with the table.
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            endpoints: endpoints
                .into_iter()
                .map(|endpoint| (endpoint.name.key().to_owned(), endpoint))
                .collect(),
        }
    }

    /// Tells it from every other table of the process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// By name, without case.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Arc<Endpoint>> {
        // Nearly every client writes lower case; then no text is made.
        self.endpoints
            .get(name)
            .or_else(|| self.endpoints.get(&name.to_ascii_lowercase()))
    }

    /// The only endpoint, when there is exactly one.
    #[must_use]
    pub fn only(&self) -> Option<&Arc<Endpoint>> {
        let mut endpoints = self.endpoints.values();
        endpoints.next().filter(|_| endpoints.next().is_none())
    }

    /// All endpoints, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }
}

/// The pointer to the current table.
#[derive(Debug, Default)]
pub struct Router {
    table: ArcSwap<RoutingTable>,
}

impl Router {
    /// A router with an empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The current table. A look, not a share: it costs no reference count, and is not for keeping (clone the [`Arc`] for
    /// that).
    #[must_use]
    pub fn table(&self) -> Guard<Arc<RoutingTable>> {
        self.table.load()
    }

    /// Requests that look from now on see this table: one pointer swap.
    pub fn publish(&self, table: RoutingTable) {
        // A swap of the pointer with Release, and Acquire where it is loaded: who sees the table sees all of it. The old one lives
        // until the last request that looked at it has gone.
        self.table.store(Arc::new(table));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::Metrics;
    use crate::router::AdmissionControl;

    fn deployment(name: &str) -> Arc<Deployment> {
        Arc::new(Deployment {
            name: name.parse().unwrap(),
            admission: AdmissionControl::new(1),
            instances: Vec::new(),
            request_timeout: Duration::from_secs(5),
            metrics: Metrics::new().deployment("iris", name),
        })
    }

    fn endpoint(
        name: &str,
        split: &str,
        previous: Option<&Endpoint>,
    ) -> Result<Arc<Endpoint>, MissingDeployment> {
        Endpoint::new(
            name.parse().unwrap(),
            EndpointAuth::Open,
            TrafficSplit::parse(split).unwrap(),
            vec![deployment("blue"), deployment("green")],
            previous,
        )
    }

    fn picks(endpoint: &Endpoint, count: usize) -> Vec<String> {
        let picks = (0..count).map(|_| endpoint.next_by_split(None));
        picks.map(|pick| pick.unwrap().0.name.to_string()).collect()
    }

    fn greens(picks: &[String]) -> usize {
        picks.iter().filter(|pick| *pick == "green").count()
    }

    #[test]
    fn traffic_for_a_deployment_that_is_not_there_is_refused() {
        let message = endpoint("iris", "red:100", None).unwrap_err().to_string();
        assert_eq!(
            message,
            "the traffic of endpoint iris names red, which is not among its deployments"
        );
        // One that is to come may stand there with 0 %.
        assert!(endpoint("iris", "red:0,blue:100", None).is_ok());
    }

    #[test]
    fn the_split_is_in_the_order_written_not_in_that_of_the_deployments() {
        let endpoint = endpoint("iris", "green:100,blue:0", None).unwrap();
        assert_eq!(greens(&picks(&endpoint, 300)), 300);
    }

    #[test]
    fn blocks_go_on_through_tables_with_the_same_split() {
        let first = endpoint("iris", "blue:90,green:10", None).unwrap();
        let mut block = picks(&first, 37);
        let second = endpoint("iris", "blue:90,green:10", Some(&first)).unwrap();
        block.extend(picks(&second, 40));
        // A request that still holds the old table takes the next ticket all the same.
        block.extend(picks(&first, 23));
        assert_eq!(greens(&block), 10);
        assert_eq!(greens(&picks(&second, 100)), 10);
    }

    #[test]
    fn a_new_split_begins_a_block() {
        let first = endpoint("iris", "blue:90,green:10", None).unwrap();
        picks(&first, 37);
        let second = endpoint("iris", "blue:50,green:50", Some(&first)).unwrap();
        assert_eq!(greens(&picks(&second, 100)), 50);
    }

    #[test]
    fn names_are_found_without_case() {
        let table = RoutingTable::new(vec![endpoint("Iris", "blue:100", None).unwrap()]);
        for name in ["iris", "Iris", "IRIS"] {
            assert_eq!(table.endpoint(name).unwrap().name().as_str(), "Iris");
        }
        let iris = table.only().unwrap();
        assert_eq!(iris.deployment("BLUE").unwrap().name.as_str(), "blue");
        assert!(iris.deployment("red").is_none());
        assert!(table.endpoint("digits").is_none());
    }

    #[test]
    fn the_only_endpoint_is_one_of_one() {
        let iris = || endpoint("iris", "blue:100", None).unwrap();
        let digits = endpoint("digits", "blue:100", None).unwrap();
        assert!(RoutingTable::default().only().is_none());
        assert!(RoutingTable::new(vec![iris()]).only().is_some());
        assert!(RoutingTable::new(vec![iris(), digits]).only().is_none());
    }

    #[test]
    fn a_published_table_is_what_the_next_look_sees() {
        let router = Router::new();
        let before = Arc::clone(&router.table());
        router.publish(RoutingTable::new(vec![
            endpoint("iris", "blue:100", None).unwrap(),
        ]));
        assert!(router.table().endpoint("iris").is_some());
        assert!(before.endpoint("iris").is_none());
    }
}
