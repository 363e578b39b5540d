//! Copies of requests for shadows: deployments whose answers no client sees.
//!
//! A copy is made when the request has its answer, so that it costs the client nothing but the decision. It is a task of its own, whose
//! end nobody awaits, with the shadow's timeout. It takes a slot only where one is free, nobody waits and fewer copies are under way
//! than may be; else it is dropped and counted by the reason. It never runs inline on an I/O thread, and what it holds is bounded in
//! bytes. How it ends is counted apart from live requests, and degrades nothing.
//!
//! Threads: edge. Not here: which requests are asked about (`score`), what becomes of the two answers (`pairs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::config::COPY_BYTES_MAX;
use crate::deadline::Deadline;
use crate::engine::{
    InstanceHandle, Job, Payload, Permit, RequestHead, Reservation, ReserveError, RunError, Scored,
};
use crate::observe::evidence::{NO_BLOCK, RequestEvent, clock_start, push, whole_us};
use crate::observe::{NotCopied, ShadowMetrics, Timings};
use crate::router::Deployment;
use crate::router::assigned::{Arm, Assigned, Ended, Marks};
use crate::router::handoff::{Held, Memory};
use crate::router::pairs::{self, Pair, Side};
use crate::router::routes::ShadowRoute;
use crate::router::run::{Work, outcome_of_run};
use crate::router::script;
use crate::spec::{EndpointName, Percent, Picker};

static MEMORY: Memory = Memory::new(COPY_BYTES_MAX);

/// A deployment of an endpoint that gets copies, under one table.
#[derive(Debug)]
pub(super) struct Shadow {
    deployment: Arc<Deployment>,
    metrics: ShadowMetrics,
    turns: Arc<ShadowTurns>,
    /// It has live requests too.
    is_live: bool,
}

/// Decides request after request which are copied, through all tables in which the share is the same.
#[derive(Debug)]
struct ShadowTurns {
    share: Percent,
    picker: Picker,
    /// Number of the next request that may be copied.
    ticket: AtomicU64,
    /// Copies under way.
    out: AtomicUsize,
}

impl ShadowTurns {
    fn is_next(&self) -> bool {
        // Relaxed: each ticket is given once in any ordering, and nothing else is read on the strength of it.
        let ticket = self.ticket.fetch_add(1, Ordering::Relaxed);
        self.picker.pick(ticket).is_some()
    }

    /// One more copy under way, where fewer than `most` are.
    fn go_out(self: &Arc<Self>, most: usize) -> Option<Out> {
        let more = |out: usize| (out < most).then_some(out + 1);
        // Relaxed: a number and nothing else.
        let out = &self.out;
        out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Out(Arc::clone(self)))
    }
}

/// A copy under way.
#[derive(Debug)]
struct Out(Arc<ShadowTurns>);

impl Drop for Out {
    fn drop(&mut self) {
        self.0.out.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that has its answer.
#[derive(Debug)]
pub(super) struct Answered<'a> {
    pub(super) endpoint: &'a EndpointName,
    pub(super) assigned: &'a Assigned,
    pub(super) body: &'a Bytes,
    /// Makes the head for a scoring script; none where there is no head.
    pub(super) head: Option<&'a dyn script::MakesHead>,
    /// Only a scoring script knows what it means.
    pub(super) is_for_scripts: bool,
    /// What the client got, and its status where a scoring script gave one.
    pub(super) answer: Option<(&'a Bytes, Option<u16>)>,
}

impl Answered<'_> {
    fn live(&self, ended: &Ended) -> Side {
        let body = self.answer.map(|(body, _)| body.clone());
        let status = self.answer.and_then(|(_, status)| status);
        let is_cold = self.assigned.is_cold();
        side(self.assigned.deployment(), ended, (status, body), is_cold)
    }
}

fn side(
    (series, build): (u32, u32),
    ended: &Ended,
    (status, body): (Option<u16>, Option<Bytes>),
    is_cold: bool,
) -> Side {
    let timings = &ended.timings;
    let total = ended.now.saturating_duration_since(timings.received);
    Side {
        series,
        build,
        outcome: ended.outcome,
        status,
        body,
        queue_us: whole_us(timings.queue().unwrap_or(total)),
        run_us: whole_us(timings.run().unwrap_or_default()),
        total_us: whole_us(total),
        is_cold,
    }
}

/// Copies a request to those shadows whose turn it is. Never to the deployment that has answered.
pub(super) fn copy(shadows: &[Shadow], answered: &Answered<'_>) {
    let (Some(arm), Some(ended)) = (answered.assigned.arm(), answered.assigned.ended()) else {
        return;
    };
    let (live, _) = answered.assigned.deployment();
    for shadow in shadows {
        if shadow.deployment.metrics.series() == live || !shadow.turns.is_next() {
            continue;
        }
        if let Err(reason) = shadow.begin(answered, arm, &ended) {
            shadow.metrics.not_copied(reason);
        }
    }
}

impl Shadow {
    /// The shadow that a route speaks of; the turns of `before` go on where the share is the same.
    pub(super) fn new(
        route: ShadowRoute,
        deployment: &Arc<Deployment>,
        is_live: bool,
        (before, seed): (&[Self], u64),
    ) -> Self {
        let mut before = before.iter();
        let before = before.find(|before| {
            before.deployment.name == route.name && before.turns.share == route.share
        });
        let turns = before.map_or_else(
            || {
                Arc::new(ShadowTurns {
                    share: route.share,
                    picker: Picker::of_share(route.share, seed),
                    ticket: AtomicU64::new(0),
                    out: AtomicUsize::new(0),
                })
            },
            |before| Arc::clone(&before.turns),
        );
        Self {
            deployment: Arc::clone(deployment),
            metrics: route.metrics,
            turns,
            is_live,
        }
    }

    /// Most copies at once. Where live requests come too, one slot is never a copy's.
    fn out_max(&self) -> usize {
        let slots = self.deployment.admission.slots();
        slots.saturating_sub(usize::from(self.is_live))
    }

    /// Begins a copy. What would come to nothing does not begin.
    fn begin(&self, answered: &Answered<'_>, arm: Arm, ended: &Ended) -> Result<(), NotCopied> {
        let deployment = &self.deployment;
        if deployment.instances.iter().all(InstanceHandle::is_closed) {
            return Err(NotCopied::NotReady);
        }
        let runs_a_script = deployment.runs_a_script();
        if answered.is_for_scripts && !runs_a_script {
            return Err(NotCopied::NoScript);
        }
        let is_free = deployment.admission.has_free_slots();
        let out = self.turns.go_out(self.out_max()).filter(|_| is_free);
        let out = out.ok_or(NotCopied::NoSlot)?;
        let live = answered.live(ended);
        let bytes = answered.body.len() + live.body.as_ref().map_or(0, Bytes::len);
        let held = MEMORY.hold(bytes).ok_or(NotCopied::NoMemory)?;
        let runtime = Handle::try_current().map_err(|_| NotCopied::NotReady)?;
        let head = answered.head.filter(|_| runs_a_script);
        let copying = Copying {
            deployment: Arc::clone(deployment),
            metrics: self.metrics.clone(),
            share: self.turns.share,
            arm,
            marks: answered.assigned.marks(),
            endpoint: answered.endpoint.clone(),
            body: answered.body.clone(),
            head: head.map(|makes| Box::new(makes.request_head())),
            live,
            _out: out,
            _held: held,
        };
        // Nobody awaits its end.
        drop(runtime.spawn(copying.run()));
        Ok(())
    }
}

/// A copy on its way.
struct Copying {
    deployment: Arc<Deployment>,
    metrics: ShadowMetrics,
    share: Percent,
    /// The decision about the request.
    arm: Arm,
    marks: Marks,
    endpoint: EndpointName,
    body: Bytes,
    head: Option<Box<RequestHead>>,
    live: Side,
    _out: Out,
    _held: Held,
}

impl Copying {
    async fn run(mut self) {
        let received = Instant::now();
        let deployment = Arc::clone(&self.deployment);
        let (instance, reservation, permit) = match admit(&deployment) {
            Ok(admitted) => admitted,
            Err(reason) => return self.metrics.not_copied(reason),
        };
        let is_cold = instance.is_cold();
        let build = deployment.metrics.build();
        let deadline = Deadline::after(received, deployment.request_timeout);
        let mut timings = Timings::start(received);
        timings.admitted = Some(Instant::now());
        let (reply_to, reply) = oneshot::channel();
        let job = Job {
            id: Job::next_id(),
            payload: Payload::Body(self.body.clone()),
            head: self.head.take().filter(|_| instance.runs_a_script()),
            deadline,
            timings,
            permit,
            reply: reply_to,
        };
        let mut work = Work::new(instance, job.id);
        // To its lane, and never inline: the thread is for those who wait.
        instance.queue([reservation.give_to(job)]);
        let (scored, timings) = match deadline.bound(reply).await {
            None => (Err(work.expire(&timings, deadline)), timings),
            Some(replied) => {
                work.is_over();
                match replied {
                    Ok(reply) => (reply.outcome, reply.timings),
                    Err(_dropped) => (Err(RunError::InstanceGone), timings),
                }
            }
        };
        let ended = Ended {
            outcome: outcome_of_run(&scored),
            timings,
            now: Instant::now(),
        };
        let answer = match scored {
            Ok(Scored { body, head }) => {
                let status = head.map(|head| head.status);
                (status, Some(body.into_bytes()))
            }
            Err(_) => (None, None),
        };
        let series = deployment.metrics.series();
        self.tell(&ended, side((series, build), &ended, answer, is_cold));
    }

    /// Counts the end, and hands it to who compares.
    fn tell(self, ended: &Ended, shadow: Side) {
        self.metrics.ended(ended.outcome.label());
        let at_us = ended.now.saturating_duration_since(clock_start());
        let at_us = u64::try_from(at_us.as_micros()).unwrap_or(u64::MAX);
        push(RequestEvent {
            at_us,
            block: NO_BLOCK,
            key_hash: self.marks.client.unwrap_or(0),
            id_hash: self.marks.id_hash,
            split: self.arm.split,
            series: shadow.series,
            build: shadow.build,
            queue_us: shadow.queue_us,
            run_us: shadow.run_us,
            total_us: shadow.total_us,
            share: self.share,
            outcome: ended.outcome,
            not_finite: ended.timings.not_finite,
            is_cold: shadow.is_cold,
            is_copy: true,
        });
        pairs::push(Pair {
            endpoint: self.endpoint,
            at_us,
            id_hash: self.marks.id_hash,
            request: self.body,
            live: self.live,
            shadow,
        });
    }
}

/// A slot and a place at an instance, if both are free now.
fn admit(deployment: &Deployment) -> Result<(&InstanceHandle, Reservation, Permit), NotCopied> {
    let permit = deployment.admission.admit_now().ok_or(NotCopied::NoSlot)?;
    let reserved = deployment.try_reserve(Job::next_id());
    let (instance, reservation) = reserved.map_err(|error| match error {
        ReserveError::Closed => NotCopied::NotReady,
        ReserveError::Full => NotCopied::NoSlot,
    })?;
    Ok((instance, reservation, permit))
}
