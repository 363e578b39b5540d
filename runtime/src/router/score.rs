//! The life of a request after its credential was checked: pick, admit, submit, await, record. Shared by every protocol and
//! by the embedded library.
//!
//! Threads: edge. The work itself is done on a score thread, or inline where it is small.
//! Not here: credentials and bytes on the wire (`serve`).

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serin_scorers::{ScoreError, Signature, TensorView};
use tokio::sync::oneshot;

#[cfg(feature = "server")]
use crate::config::LABELLED_BYTES_MAX;
use crate::deadline::Deadline;
use crate::engine::{
    Here, HereDone, HereWork, InstanceHandle, Job, Payload, Permit, Reply, Reservation,
    ResponseHead, RunError, Scored, ScoredBody,
};
use crate::observe::{DeploymentMetrics, FailureStreak, Outcome, Timings};
#[cfg(feature = "server")]
use crate::router::answers::{self, GivenAnswer};
use crate::router::assigned::{Arm, Assigned, Marks};
use crate::router::deployment::NotReserved;
#[cfg(feature = "server")]
use crate::router::mirror::{self, Answered};
use crate::router::run::{Work, outcome_of_run};
use crate::router::script::{MakesHead, ScriptWords};
use crate::router::submission_queue;
use crate::router::{AdmissionControl, Deployment, Endpoint, Rejected, Router};
use crate::spec::{DeploymentName, shown};

/// Most times that a request looks for its deployment. Each time means that a change was published after the look before, so
/// more than two are rare.
const LOOKS_MAX: usize = 8;

/// The inputs of a request.
#[derive(Debug, Clone)]
pub enum RequestInputs<'a> {
    /// A body, not yet decoded.
    Body(Bytes),
    /// One tensor for each input of the model.
    Tensors {
        /// In the order of the model's inputs, or of their names.
        tensors: Vec<TensorView<'a>>,
        /// The name of each; none where they have the order of the model.
        names: Option<Vec<Cow<'a, str>>>,
    },
}

impl RequestInputs<'_> {
    /// Puts named tensors into the order of a model.
    fn order(&mut self, signature: &Signature) -> Result<(), ScoreError> {
        if let Self::Tensors { tensors, names } = self
            && let Some(named) = names
        {
            let named: Vec<_> = named.iter().map(AsRef::as_ref).collect();
            let order = signature.order_of(&named)?.into_iter();
            *tensors = order.map(|index| tensors[index].clone()).collect();
            *names = None;
        }
        Ok(())
    }

    /// What a lane is given, which outlives the caller's memory. Named tensors are in order by then.
    fn payload(&self) -> Payload {
        match self {
            Self::Body(body) => Payload::Body(body.clone()),
            Self::Tensors { tensors, .. } => {
                Payload::Tensors(tensors.iter().map(TensorView::to_tensor).collect())
            }
        }
    }
}

impl ScoreRequest<'_> {
    /// The longest that it may take there.
    fn timeout_at(&self, deployment: &Deployment) -> Duration {
        let longest = deployment.request_timeout;
        self.timeout.map_or(longest, |timeout| timeout.min(longest))
    }
}

/// One request, any protocol.
#[derive(Debug)]
pub struct ScoreRequest<'a> {
    /// Go straight to this deployment (header `azureml-model-deployment`), also at 0 %.
    pub deployment: Option<Cow<'a, str>>,
    /// What is to be scored.
    pub inputs: RequestInputs<'a>,
    /// Makes the head for a scoring script; none where there is no head.
    pub head: Option<&'a dyn MakesHead>,
    /// Only a scoring script knows what it means: a model has no answer to it.
    pub is_for_scripts: bool,
    /// When head and body were read; the deadline counts from here.
    pub received: Instant,
    /// The longest that it may take, where that is less than its deployment allows.
    pub timeout: Option<Duration>,
    /// The caller waits on the thread that polls, so that thread may compute for as long as it takes.
    pub waits: bool,
    /// By which evidence about it is found again.
    pub marks: Marks,
}

/// The answer, who gave it, and when it passed each point.
#[derive(Debug)]
pub struct Answer {
    /// The outputs of the model, or the body that a scoring script made.
    pub body: ScoredBody,
    /// Inputs and outputs of the model; none where nobody is answered with values.
    pub signature: Option<Arc<Signature>>,
    /// Status and headers of a scoring script, whatever they say; none where that is 200 and JSON.
    pub head: Option<Box<ResponseHead>>,
    /// A scoring script has answered, and not a model.
    pub by_script: bool,
    /// Whose model answered.
    pub deployment: DeploymentName,
    /// When the request passed each point.
    pub timings: Timings,
}

/// The reason why there is no answer. Carries the deployment when one was chosen.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    /// The request names a deployment that is not there.
    #[error(
        "endpoint {endpoint:?} has no deployment {}; it has {}",
        shown(.deployment),
        or_none(.known)
    )]
    NoDeployment {
        /// The endpoint.
        endpoint: String,
        /// The name in the request.
        deployment: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The split gives weight to nobody.
    #[error("endpoint {endpoint:?} sends traffic to no deployment")]
    NoTraffic {
        /// The endpoint.
        endpoint: String,
    },
    /// Only a scoring script could answer it, and the deployment has none.
    #[error("deployment {deployment} has no scoring script; its model takes POST and nothing else")]
    NoScript {
        /// Whose turn it was.
        deployment: DeploymentName,
    },
    /// No instance of the deployment takes requests.
    #[error("deployment {deployment} has no ready instance")]
    NotReady {
        /// Who should have answered.
        deployment: DeploymentName,
    },
    /// Not admitted.
    #[error("{rejected}")]
    Rejected {
        /// Who should have answered.
        deployment: DeploymentName,
        /// Why not.
        rejected: Rejected,
        /// When to try again: about the time in which the requests held now are done, at least 1.
        retry_after_s: u64,
    },
    /// Handed over, and no answer came of it.
    #[error("{error}")]
    Failed {
        /// Who should have answered.
        deployment: DeploymentName,
        /// Why it did not.
        error: RunError,
        /// When the request passed each point.
        timings: Timings,
    },
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Router {
    /// Scores one request at `endpoint`. Records the outcome once. Needs a tokio runtime with time.
    ///
    /// A deployment that drains between lookup and hand-over is looked up again in the current table, by its name; only when
    /// it is gone is the split asked again.
    ///
    /// # Errors
    ///
    /// [`Unserved`]. What carries no deployment was recorded nowhere and is the caller's to count.
    ///
    /// # Cancel safety
    ///
    /// When the caller drops the future, its run is terminated, the slot comes back only when that has ended, and the outcome
    /// is recorded as [`Outcome::Abandoned`].
    pub async fn score(
        &self,
        endpoint: &Endpoint,
        mut request: ScoreRequest<'_>,
    ) -> Result<Answer, Unserved> {
        let (deployment, arm) = choose(endpoint, &request)?;
        if arm.is_some() {
            deployment.metrics.assigned();
        }
        let mut assigned = Assigned::new(arm, &deployment.metrics, request.marks, request.received);
        let place = (endpoint, deployment);
        let answered = self.attempts(place, &mut request, &mut assigned).await;
        #[cfg(feature = "server")]
        if arm.is_some() {
            keep_for_labels(&assigned, &answered);
            if !endpoint.shadows().is_empty() {
                assigned.finish();
                mirrored(endpoint, &request, &assigned, &answered);
            }
        }
        answered
    }

    /// Tries the deployment, and what stands in its place if it is being replaced.
    async fn attempts(
        &self,
        (endpoint, mut deployment): (&Endpoint, Arc<Deployment>),
        request: &mut ScoreRequest<'_>,
        assigned: &mut Assigned,
    ) -> Result<Answer, Unserved> {
        let (mut admitted, mut is_current) = (None, false);
        for _ in 1..LOOKS_MAX {
            let place = (&*deployment, is_current);
            match attempt(place, request, admitted.take(), assigned).await {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(left) => {
                    let next = self.look_again(endpoint, &deployment, request)?;
                    is_current = Arc::ptr_eq(&next, &deployment);
                    if is_current && !left.is_full {
                        break;
                    }
                    admitted = left.admitted;
                    deployment = next;
                }
            }
        }
        Recording::start(&deployment.metrics, request.received)
            .of(assigned)
            .end(Outcome::NotReady);
        Err(Unserved::NotReady {
            deployment: deployment.name.clone(),
        })
    }

    /// The deployment that stands in the current table where `before` stood.
    fn look_again(
        &self,
        endpoint: &Endpoint,
        before: &Deployment,
        request: &ScoreRequest<'_>,
    ) -> Result<Arc<Deployment>, Unserved> {
        let table = self.table();
        let Some(endpoint) = table.endpoint(endpoint.name().key()) else {
            return Err(Unserved::NoDeployment {
                endpoint: endpoint.name().to_string(),
                deployment: before.name.to_string(),
                known: Vec::new(),
            });
        };
        match endpoint.deployment(before.name.key()) {
            Some(deployment) => Ok(Arc::clone(deployment)),
            // The arm is that of the first time.
            None => choose(endpoint, request).map(|(next, _)| next),
        }
    }
}

/// Hands the answer to who compares it with a label later, where somebody will.
#[cfg(feature = "server")]
fn keep_for_labels(assigned: &Assigned, answered: &Result<Answer, Unserved>) {
    let ((series, _), id_hash) = (assigned.deployment(), assigned.marks().id_hash);
    if id_hash == 0 || !answers::are_wanted(series) {
        return;
    }
    if let Ok(Answer {
        body: ScoredBody::Json(body),
        head,
        ..
    }) = answered
        && head.as_ref().is_none_or(|head| head.status / 100 == 2)
        && body.len() <= LABELLED_BYTES_MAX
    {
        answers::push(GivenAnswer {
            id_hash,
            series,
            body: body.clone(),
        });
    }
}

/// Copies a request that has its answer, or will have none, to the shadows of its endpoint.
#[cfg(feature = "server")]
fn mirrored(
    endpoint: &Endpoint,
    request: &ScoreRequest<'_>,
    assigned: &Assigned,
    answered: &Result<Answer, Unserved>,
) {
    let RequestInputs::Body(body) = &request.inputs else {
        return;
    };
    let answer = answered.as_ref().ok().and_then(|answer| {
        let status = answer.head.as_ref().map(|head| head.status);
        match &answer.body {
            ScoredBody::Json(body) => Some((body, status)),
            ScoredBody::Values(_) => None,
        }
    });
    let answered = Answered {
        endpoint: endpoint.name(),
        assigned,
        body,
        head: request.head,
        is_for_scripts: request.is_for_scripts,
        answer,
    };
    mirror::copy(endpoint.shadows(), &answered);
}

/// The deployment that the request names, else whose turn it is by the split.
fn choose(
    endpoint: &Endpoint,
    request: &ScoreRequest<'_>,
) -> Result<(Arc<Deployment>, Option<Arm>), Unserved> {
    let chosen = match request.deployment.as_deref() {
        Some(name) => endpoint
            .deployment(name)
            .map(|deployment| (deployment, None))
            .ok_or_else(|| Unserved::NoDeployment {
                endpoint: endpoint.name().to_string(),
                deployment: name.to_owned(),
                known: endpoint
                    .deployments()
                    .iter()
                    .map(|known| known.name.to_string())
                    .collect(),
            }),
        None => endpoint
            .next_by_split(request.marks.client)
            .map(|(deployment, arm)| (deployment, Some(arm)))
            .ok_or_else(|| Unserved::NoTraffic {
                endpoint: endpoint.name().to_string(),
            }),
    };
    chosen.map(|(deployment, arm)| (Arc::clone(deployment), arm))
}

/// A permit and who gave it. It stays good when the deployment is looked up again and has the same admission.
struct Admitted {
    permit: Permit,
    by: Arc<AdmissionControl>,
}

/// What is left of an attempt when the deployment is to be looked up again.
struct Left {
    admitted: Option<Admitted>,
    /// Its instances had no room; if it is the same still, the request waits for that.
    is_full: bool,
}

impl Left {
    /// Its instances take no more.
    fn closed(admitted: Option<Admitted>) -> Self {
        Self {
            admitted,
            is_full: false,
        }
    }
}

type Attempt = ControlFlow<Result<Answer, Unserved>, Left>;

/// The permit that the request has already, where it is of this admission; else a new one.
async fn permit_of(
    deployment: &Deployment,
    deadline: Deadline,
    admitted: Option<Admitted>,
) -> Result<Permit, Rejected> {
    let admission = &deployment.admission;
    if let Some(given) = admitted.filter(|given| Arc::ptr_eq(&given.by, admission)) {
        return Ok(given.permit);
    }
    if let Some(permit) = admission.admit_now() {
        return Ok(permit);
    }
    // What has the slots may be what this thread has not handed over yet.
    let unsent = submission_queue::take_of(&deployment.instances);
    if !unsent.is_empty()
        && let Some(permit) = admission.take_over(|| unsent.hand_over())
    {
        return Ok(permit);
    }
    admission.admit(deadline).await
}

/// Tries one deployment. What ends here is recorded here.
async fn attempt(
    (deployment, is_current): (&Deployment, bool),
    request: &mut ScoreRequest<'_>,
    admitted: Option<Admitted>,
    assigned: &mut Assigned,
) -> Attempt {
    let mut recording = Recording::start(&deployment.metrics, request.received).of(assigned);
    if deployment.instances.is_empty() {
        recording.abandon();
        return ControlFlow::Continue(Left::closed(admitted));
    }
    if request.is_for_scripts && !deployment.runs_a_script() {
        return ControlFlow::Break(Err(recording.no_script(deployment)));
    }
    let deadline = Deadline::after(request.received, request.timeout_at(deployment));
    let place = (deployment, is_current);
    let admission = admit(place, deadline, admitted, &mut recording.timings).await;
    let (instance, admission) = match admission {
        Ok(admission) => admission,
        Err(NotAdmitted::LookAgain(left)) => {
            recording.abandon();
            return ControlFlow::Continue(left);
        }
        Err(NotAdmitted::Rejected(rejected)) => {
            recording.reject(rejected);
            return ControlFlow::Break(Err(refusal(deployment, rejected)));
        }
        Err(NotAdmitted::DeadlinePassed) => {
            return ControlFlow::Break(recording.close(deployment, Err(RunError::ExpiredWaiting)));
        }
    };
    recording.by_script = instance.runs_a_script();
    recording.set_cold(instance.is_cold());
    if request.is_for_scripts && !recording.by_script {
        return ControlFlow::Break(Err(recording.no_script(deployment)));
    }
    if let Err(error) = request.inputs.order(instance.signature()) {
        return ControlFlow::Break(recording.close(deployment, Err(RunError::Input(error))));
    }
    let scored = match run_here(instance, request, admission, &mut recording) {
        Ok(scored) => scored,
        Err(admission) => {
            let is_last = !deployment.admission.has_free_slots();
            hand_over(instance, request, (admission, is_last), &mut recording).await
        }
    };
    let answered = recording.close(deployment, scored);
    ControlFlow::Break(match &request.inputs {
        RequestInputs::Body(_) => answered,
        RequestInputs::Tensors { .. } => with_signature(answered, instance),
    })
}

/// The reason why a request may not run, at this look.
enum NotAdmitted {
    /// The deployment is to be looked up again.
    LookAgain(Left),
    Rejected(Rejected),
    /// No instance had room until then.
    DeadlinePassed,
}

/// Waits for a slot, and for room at an instance.
async fn admit<'d>(
    (deployment, is_current): (&'d Deployment, bool),
    deadline: Deadline,
    admitted: Option<Admitted>,
    timings: &mut Timings,
) -> Result<(&'d InstanceHandle, Admission), NotAdmitted> {
    let permit = match permit_of(deployment, deadline, admitted).await {
        Ok(permit) => permit,
        Err(Rejected::Draining) => return Err(NotAdmitted::LookAgain(Left::closed(None))),
        Err(rejected) => return Err(NotAdmitted::Rejected(rejected)),
    };
    timings.admitted = Some(Instant::now());
    let id = Job::next_id();
    let again = |permit, is_full| {
        let by = Arc::clone(&deployment.admission);
        NotAdmitted::LookAgain(Left {
            admitted: Some(Admitted { permit, by }),
            is_full,
        })
    };
    match deployment.reserve(id, deadline, is_current).await {
        Ok((instance, reservation)) => Ok((
            instance,
            Admission {
                id,
                deadline,
                permit,
                reservation,
            },
        )),
        Err(NotReserved::Closed) => Err(again(permit, false)),
        Err(NotReserved::Full) => Err(again(permit, true)),
        Err(NotReserved::DeadlinePassed) => Err(NotAdmitted::DeadlinePassed),
    }
}

/// Hands the work over to the instance, and waits for what comes of it. Nobody joins it where it has the last slot.
async fn hand_over(
    instance: &InstanceHandle,
    request: &ScoreRequest<'_>,
    (admission, is_last): (Admission, bool),
    recording: &mut Recording<'_>,
) -> Result<Scored, RunError> {
    let Admission {
        id,
        deadline,
        permit,
        reservation,
    } = admission;
    let (reply_to, reply) = oneshot::channel();
    let job = job(request, recording, (id, deadline, permit), reply_to);
    // Dropped after the end of the channel where the answer comes, which the call below takes: a lane that is told to cancel must
    // find that the client has gone (`Lane::begin`).
    let mut work = Work::new(instance, id);
    let sent = submission_queue::Sent {
        job: reservation.give_to(job),
        deadline,
        is_last,
    };
    let Some(replied) = submission_queue::send_and_wait(instance, sent, reply).await else {
        return Err(work.expire(&recording.timings, deadline));
    };
    work.is_over();
    match replied {
        Ok(Reply { outcome, timings }) => {
            recording.timings = timings;
            outcome
        }
        Err(_dropped) => Err(RunError::InstanceGone),
    }
}

/// A request that may run: its number, its time, and what it occupies.
struct Admission {
    id: u64,
    deadline: Deadline,
    permit: Permit,
    reservation: Reservation,
}

/// Runs tensors on this thread, over the caller's memory, where a lane is idle and the thread may be kept for so long. Else it is still
/// to be done.
fn run_here(
    instance: &InstanceHandle,
    request: &ScoreRequest<'_>,
    admission: Admission,
    recording: &mut Recording<'_>,
) -> Result<Result<Scored, RunError>, Admission> {
    let RequestInputs::Tensors { tensors, .. } = &request.inputs else {
        return Err(admission);
    };
    if !request.waits && !instance.is_small_run(tensors) {
        return Err(admission);
    }
    let Admission {
        id,
        deadline,
        permit,
        reservation,
    } = admission;
    let work = HereWork {
        id,
        inputs: tensors,
        deadline,
        may_take_long: request.waits,
        timings: recording.timings,
        reservation,
        permit,
    };
    match instance.run_here(work) {
        Here::Done(HereDone { outcome, timings }) => {
            recording.timings = timings;
            Ok(outcome.map(|values| Scored {
                body: ScoredBody::Values(values),
                head: None,
            }))
        }
        Here::Left(HereWork {
            reservation,
            permit,
            ..
        }) => Err(Admission {
            id,
            deadline,
            permit,
            reservation,
        }),
    }
}

/// The answer with the names of its values.
fn with_signature(
    answered: Result<Answer, Unserved>,
    instance: &InstanceHandle,
) -> Result<Answer, Unserved> {
    let signature = Some(Arc::clone(instance.signature()));
    answered.map(|answer| Answer {
        signature,
        ..answer
    })
}

fn job(
    request: &ScoreRequest<'_>,
    recording: &Recording<'_>,
    (id, deadline, permit): (u64, Deadline, Permit),
    reply: oneshot::Sender<Reply>,
) -> Job {
    let makes_head = request.head.filter(|_| recording.by_script);
    Job {
        id,
        payload: request.inputs.payload(),
        head: makes_head.map(|makes| Box::new(makes.request_head())),
        deadline,
        timings: recording.timings,
        permit,
        reply,
    }
}

fn refusal(deployment: &Deployment, rejected: Rejected) -> Unserved {
    let admission = &deployment.admission;
    Unserved::Rejected {
        deployment: deployment.name.clone(),
        rejected,
        retry_after_s: retry_after_s(
            admission.held(),
            admission.slots(),
            deployment.metrics.service_time().as_secs_f64(),
        ),
    }
}

/// The seconds in which `slots` slots get through `held` requests, rounded up, at least 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 1 up, and a float converts to the nearest number that fits"
)]
fn retry_after_s(held: usize, slots: usize, service_s: f64) -> u64 {
    let seconds = held as f64 * service_s / slots.max(1) as f64;
    seconds.ceil().max(1.0) as u64
}

fn outcome_of_rejection(rejected: Rejected) -> Outcome {
    match rejected {
        Rejected::QueueFull { .. } => Outcome::Shed,
        Rejected::DeadlinePassed => Outcome::ExpiredWaiting,
        Rejected::Draining => Outcome::NotReady,
    }
}

/// Keeps count of failures in a row that are the model's fault, `why` in words. What a client did wrong, or may have, neither adds to them nor ends them:
/// it says nothing of whether the model can answer.
fn judge(streak: &FailureStreak, outcome: Outcome, why: &dyn fmt::Display) {
    let why = || why.to_string();
    match outcome {
        Outcome::ModelError | Outcome::Died | Outcome::ExpiredRunning => streak.failed(why),
        Outcome::ExpiredWaiting => streak.got_stuck(why),
        Outcome::Ok
        | Outcome::Malformed
        | Outcome::RejectedByModel
        | Outcome::Abandoned
        | Outcome::Shed
        | Outcome::NotReady
        | Outcome::Internal => {}
    }
}

/// Counts a request as in flight, and records its outcome once: as that of a client that left unless told otherwise.
struct Recording<'a> {
    metrics: &'a DeploymentMetrics,
    timings: Timings,
    outcome: Option<Outcome>,
    /// A scoring script has the request.
    by_script: bool,
    /// Where the outcome is evidence.
    assigned: Option<&'a mut Assigned>,
}

impl<'a> Recording<'a> {
    fn start(metrics: &'a DeploymentMetrics, received: Instant) -> Self {
        metrics.in_flight(1);
        Self {
            metrics,
            timings: Timings::start(received),
            outcome: Some(Outcome::Abandoned),
            by_script: false,
            assigned: None,
        }
    }

    /// The outcome counts for the deployment to which the request was assigned.
    fn of(mut self, assigned: &'a mut Assigned) -> Self {
        self.assigned = Some(assigned);
        self
    }

    fn set_cold(&mut self, is_cold: bool) {
        if let Some(assigned) = &mut self.assigned {
            assigned.set_cold(is_cold);
        }
    }

    fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    fn reject(self, rejected: Rejected) {
        let outcome = outcome_of_rejection(rejected);
        judge(self.metrics.streak(), outcome, &rejected);
        self.end(outcome);
    }

    /// Nothing to record: the deployment was asked for what it does not have. Where another would have answered, that is evidence.
    fn no_script(mut self, deployment: &Deployment) -> Unserved {
        if let Some(assigned) = &mut self.assigned {
            assigned.end(Outcome::RejectedByModel, &self.timings, Instant::now());
        }
        self.abandon();
        Unserved::NoScript {
            deployment: deployment.name.clone(),
        }
    }

    /// Another attempt records it.
    fn abandon(mut self) {
        self.outcome = None;
    }

    /// Records what came of the job, and makes the answer of it.
    fn close(
        self,
        deployment: &Deployment,
        scored: Result<Scored, RunError>,
    ) -> Result<Answer, Unserved> {
        let (timings, outcome) = (self.timings, outcome_of_run(&scored));
        let (streak, by_script) = (self.metrics.streak(), self.by_script);
        match &scored {
            Ok(_) if outcome == Outcome::Ok => streak.succeeded(),
            Ok(scored) => {
                let words = ScriptWords::of(scored.head.as_deref(), scored.body.bytes());
                judge(streak, outcome, &words);
            }
            Err(error) => judge(streak, outcome, error),
        }
        self.end(outcome);
        let deployment = deployment.name.clone();
        match scored {
            Ok(Scored { body, head }) => Ok(Answer {
                body,
                signature: None,
                head,
                by_script,
                deployment,
                timings,
            }),
            Err(error) => Err(Unserved::Failed {
                deployment,
                error,
                timings,
            }),
        }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // Here, and not where requests end, because one that is dropped while it waits ends nowhere else.
        self.metrics.in_flight(-1);
        if let Some(outcome) = self.outcome {
            let now = Instant::now();
            self.metrics.record(outcome, &self.timings, now);
            if let Some(assigned) = &mut self.assigned {
                assigned.end(outcome, &self.timings, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::task::Poll;

    use tokio::task::{JoinSet, yield_now};

    use super::*;
    use crate::config::DEGRADED_AFTER;
    use crate::engine::{
        Capacity, CoreMap, Instance, InstanceSpec, ModelProfile, RequestHead, Topology,
    };
    use crate::observe::Metrics;
    use crate::router::{EndpointAuth, RoutingTable};
    use crate::spec::{Isolation, TrafficSplit};

    #[cfg(feature = "server")]
    mod evidence_events;
    #[cfg(feature = "server")]
    mod shadows;

    const DIGITS: [&str; 2] = ["models/digits/1/model.onnx", "models/digits/2/model.onnx"];
    const SLOW: &str = "models/test/slow.onnx";
    /// More work than any test waits for.
    const SLOW_BODY: &str = "{\"data\": [100000000]}";
    const PATIENCE: Duration = Duration::from_secs(60);

    fn instance(model: &str, concurrency: u32) -> Instance {
        instance_with(model, concurrency, None)
    }

    fn instance_with(model: &str, concurrency: u32, profile: Option<ModelProfile>) -> Instance {
        let mut cores = CoreMap::new(Topology::read(), Capacity::Overcommit);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Instance::start(InstanceSpec {
            concurrency,
            profile: profile.map(Arc::new),
            isolation: Isolation::Thread,
            ..InstanceSpec::new(
                "test/blue".to_owned(),
                root.join(model),
                cores.grant(1).unwrap(),
            )
        })
        .unwrap()
    }

    /// A deployment of these instances, with slots for all of them.
    fn deployment(name: &str, instances: &[&Instance]) -> Deployment {
        let instances: Vec<_> = instances.iter().map(|instance| instance.handle()).collect();
        let slots = instances.iter().map(|instance| instance.concurrency());
        Deployment {
            name: name.parse().unwrap(),
            admission: AdmissionControl::new(usize::try_from(slots.sum::<u32>()).unwrap()),
            instances,
            request_timeout: PATIENCE,
            metrics: Metrics::new().deployment("iris", name),
        }
    }

    /// Publishes an endpoint `iris` and nothing else.
    fn publish(router: &Router, split: &str, deployments: &[&Deployment]) -> Arc<Endpoint> {
        let before = router.table();
        let endpoint = Endpoint::new(
            "iris".parse().unwrap(),
            EndpointAuth::Open,
            TrafficSplit::parse(split).unwrap(),
            deployments
                .iter()
                .map(|&deployment| Arc::new(deployment.clone()))
                .collect(),
            before.endpoint("iris").map(Arc::as_ref),
        )
        .unwrap();
        router.publish(RoutingTable::new(vec![Arc::clone(&endpoint)]));
        endpoint
    }

    fn request(body: impl Into<Bytes>) -> ScoreRequest<'static> {
        ScoreRequest {
            deployment: None,
            inputs: RequestInputs::Body(body.into()),
            head: None,
            is_for_scripts: false,
            received: Instant::now(),
            timeout: None,
            waits: false,
            marks: Marks::default(),
        }
    }

    fn digits_request() -> ScoreRequest<'static> {
        request(format!("{{\"data\": [{:?}]}}", [0; 64]))
    }

    fn named(deployment: &str) -> ScoreRequest<'static> {
        ScoreRequest {
            deployment: Some(deployment.to_owned().into()),
            ..digits_request()
        }
    }

    /// The outcomes recorded of a deployment, without the outcomes that never came.
    fn recorded(deployment: &Deployment) -> Vec<(Outcome, u64)> {
        Outcome::ALL
            .map(|outcome| (outcome, deployment.metrics.count(outcome)))
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    async fn score_current(router: &Router, request: ScoreRequest<'_>) -> Result<Answer, Unserved> {
        let endpoint = Arc::clone(router.table().endpoint("iris").unwrap());
        router.score(&endpoint, request).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sixteen_clients_in_parallel_meet_exactly_90_and_10_in_every_aligned_100() {
        let (one, two) = (instance(DIGITS[0], 16), instance(DIGITS[1], 16));
        let (blue, green) = (deployment("blue", &[&one]), deployment("green", &[&two]));
        let router = Router::new();
        publish(&router, "blue:90,green:10", &[&blue, &green]);
        for block in 1..=5 {
            let mut clients = JoinSet::new();
            for client in 0..16 {
                let router = Arc::clone(&router);
                clients.spawn(async move {
                    // 16 clients make 100 requests: four of them 7, the others 6.
                    for _ in 0..if client < 4 { 7 } else { 6 } {
                        score_current(&router, digits_request()).await.unwrap();
                    }
                });
            }
            clients.join_all().await;
            assert_eq!(recorded(&blue), [(Outcome::Ok, 90 * block)]);
            assert_eq!(recorded(&green), [(Outcome::Ok, 10 * block)]);
        }
        one.stop();
        two.stop();
    }

    /// Runs it as an edge thread does, where jobs are handed over once a tick.
    fn on_the_edge<T>(work: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.spawn(submission_queue::deliver());
        runtime.block_on(async {
            // The thread has begun to hand over when this is over.
            yield_now().await;
            work.await
        })
    }

    #[test]
    fn small_requests_of_one_tick_share_a_run_on_the_thread_that_they_came_to() {
        let one = instance_with(DIGITS[0], 4, Some(ModelProfile::instant(16)));
        let blue = deployment("blue", &[&one]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        let (alone, shared): (_, Vec<_>) = on_the_edge(async {
            let alone = score_current(&router, digits_request()).await.unwrap();
            let mut clients = JoinSet::new();
            for _ in 0..3 {
                let router = Arc::clone(&router);
                clients.spawn(async move { score_current(&router, digits_request()).await });
            }
            let answers = clients.join_all().await.into_iter();
            let shared = answers.map(|answer| answer.unwrap().timings);
            (alone.timings, shared.collect())
        });
        let joined: Vec<_> = shared.iter().map(|timings| timings.joined).collect();
        assert_eq!(joined, [3, 3, 3]);
        // One of them tells the rows of all.
        let mut rows: Vec<_> = shared.iter().map(|timings| timings.run_rows).collect();
        rows.sort_unstable();
        assert_eq!(rows, [0, 0, 3 * alone.run_rows]);
        assert!(alone.run_rows > 0);
        assert_eq!(recorded(&blue), [(Outcome::Ok, 4)]);
        assert_eq!(blue.admission.held(), 0);
        one.stop();
    }

    #[test]
    fn work_that_leaves_the_edge_ends_at_its_deadline_and_with_its_client() {
        let slow = instance(SLOW, 2);
        let mut blue = deployment("blue", &[&slow]);
        blue.request_timeout = Duration::from_millis(50);
        let green = deployment("green", &[&slow]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue, &green]);
        on_the_edge(async {
            let late = score_current(&router, request(SLOW_BODY)).await;
            assert!(
                matches!(
                    late,
                    Err(Unserved::Failed {
                        error: RunError::ExpiredRunning,
                        ..
                    })
                ),
                "{late:?}"
            );
            let mut clients = JoinSet::new();
            let sent = Arc::clone(&router);
            clients.spawn(async move {
                let request = ScoreRequest {
                    deployment: Some("green".into()),
                    ..request(SLOW_BODY)
                };
                score_current(&sent, request).await
            });
            while green.admission.held() == 0 {
                yield_now().await;
            }
            clients.shutdown().await;
            // Both end only because their runs were terminated.
            blue.admission.drain().await;
            green.admission.drain().await;
        });
        assert_eq!(recorded(&blue), [(Outcome::ExpiredRunning, 1)]);
        assert_eq!(recorded(&green), [(Outcome::Abandoned, 1)]);
        slow.stop();
    }

    /// Requests that arrive together, each as a task; how many were answered and how many were refused for want of a slot.
    async fn arrive_together(router: &Arc<Router>, requests: usize) -> (usize, usize) {
        let mut clients = JoinSet::new();
        for _ in 0..requests {
            let router = Arc::clone(router);
            clients.spawn(async move { score_current(&router, digits_request()).await });
        }
        let outcomes = clients.join_all().await;
        let shed = outcomes.iter().filter(|outcome| {
            matches!(
                outcome,
                Err(Unserved::Rejected {
                    rejected: Rejected::QueueFull { .. },
                    ..
                })
            )
        });
        (
            outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
            shed.count(),
        )
    }

    /// Times that a test tries what a pause of the machine may spoil: work that does not end in 10 ms goes to its lane.
    const TRIES: usize = 50;

    /// Two were answered, and 98 refused.
    #[test]
    fn with_one_slot_a_hundred_small_requests_of_one_tick_are_all_answered() {
        for concurrency in [1, 4] {
            let one = instance_with(DIGITS[0], concurrency, Some(ModelProfile::instant(1)));
            let blue = deployment("blue", &[&one]);
            let router = Router::new();
            publish(&router, "blue:100", &[&blue]);
            on_the_edge(async {
                // The thread has begun to hand over once this is answered.
                score_current(&router, digits_request()).await.unwrap();
                let mut outcomes = Vec::new();
                for _ in 0..TRIES {
                    outcomes.push(arrive_together(&router, 100).await);
                    let (answered, shed) = outcomes[outcomes.len() - 1];
                    assert_eq!(answered + shed, 100, "nobody is lost");
                    if answered == 100 {
                        return;
                    }
                }
                panic!("{outcomes:?}");
            });
            assert_eq!(blue.admission.held(), 0);
            one.stop();
        }
    }

    /// The slot that one request has given back was assigned to one that had not heard of it yet, and so on for each: nearly all
    /// that came meanwhile were refused, for as long as more came than were polled.
    #[test]
    fn a_request_that_waits_for_its_turn_holds_up_nobody_and_is_not_forgotten() {
        let one = instance_with(DIGITS[0], 1, Some(ModelProfile::instant(1)));
        let blue = deployment("blue", &[&one]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        let score = || {
            let router = Arc::clone(&router);
            tokio::spawn(async move { score_current(&router, digits_request()).await })
        };
        on_the_edge(async {
            score_current(&router, digits_request()).await.unwrap();
            for _ in 0..TRIES {
                let elsewhere = blue.admission.admit_now().unwrap();
                let waits = score();
                while blue.admission.held() < 2 {
                    yield_now().await;
                }
                // It is polled before the one that waits, which has the slot from now on, and those behind come after both.
                let early = score();
                drop(elsewhere);
                let (answered, _) = arrive_together(&router, 100).await;
                // Whatever happened to the others, these two are in line.
                waits.await.unwrap().unwrap();
                early.await.unwrap().unwrap();
                if answered == 100 {
                    return;
                }
            }
            panic!("some were refused each time");
        });
        assert_eq!(blue.admission.held(), 0);
        one.stop();
    }

    #[test]
    fn while_a_slow_run_has_the_slot_requests_of_one_tick_beyond_the_bound_are_refused() {
        let slow = instance(SLOW, 1);
        let blue = deployment("blue", &[&slow]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        on_the_edge(async {
            let send = || {
                let router = Arc::clone(&router);
                tokio::spawn(async move { score_current(&router, request(SLOW_BODY)).await })
            };
            let running = send();
            while slow.handle().computing() < 1 {
                yield_now().await;
            }
            let waiting = send();
            while blue.admission.held() < 2 {
                yield_now().await;
            }
            assert_eq!(arrive_together(&router, 100).await, (0, 100));
            waiting.abort();
            running.abort();
            blue.admission.drain().await;
        });
        let ends = [(Outcome::Abandoned, 2), (Outcome::Shed, 100)];
        assert_eq!(recorded(&blue), ends);
        slow.stop();
    }

    /// A lane that is to compute it would have nothing to do until the end of the tick, which a thousand refusals may be away.
    #[test]
    fn the_last_request_that_is_admitted_goes_to_its_lane_within_its_tick() {
        let slow = instance(SLOW, 1);
        let blue = deployment("blue", &[&slow]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        on_the_edge(async {
            yield_now().await;
            let mut running = std::pin::pin!(score_current(&router, request(SLOW_BODY)));
            let polled = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
            assert!(polled.is_pending());
            // This task does not yield: the tick does not end.
            while slow.handle().computing() < 1 {
                std::thread::yield_now();
            }
        });
        slow.stop();
    }

    #[test]
    fn a_request_whose_time_was_over_before_it_was_admitted_costs_no_run() {
        let one = instance_with(DIGITS[0], 1, Some(ModelProfile::instant(1)));
        let blue = deployment("blue", &[&one]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        on_the_edge(async {
            score_current(&router, digits_request()).await.unwrap();
            let stood_in_line = ScoreRequest {
                received: Instant::now() - PATIENCE,
                ..digits_request()
            };
            let late = score_current(&router, stood_in_line).await;
            assert!(
                matches!(
                    late,
                    Err(Unserved::Failed {
                        error: RunError::ExpiredWaiting,
                        ..
                    })
                ),
                "{late:?}"
            );
        });
        let ends = [(Outcome::Ok, 1), (Outcome::ExpiredWaiting, 1)];
        assert_eq!(recorded(&blue), ends);
        // Where the lane was to answer it, the slot returns with the lane's look at it.
        while blue.admission.held() > 0 {
            std::thread::yield_now();
        }
        one.stop();
    }

    #[test]
    fn a_client_that_leaves_within_its_tick_costs_no_run() {
        let one = instance_with(DIGITS[0], 1, Some(ModelProfile::instant(16)));
        let blue = deployment("blue", &[&one]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        on_the_edge(async {
            score_current(&router, digits_request()).await.unwrap();
            // Polled once, which sends its job, and gone before the tick ends.
            tokio::select! {
                biased;
                answer = score_current(&router, digits_request()) => panic!("answered: {answer:?}"),
                () = std::future::ready(()) => {}
            }
            assert_eq!(
                blue.admission.held(),
                1,
                "its job waits for the end of the tick"
            );
            blue.admission.drain().await;
        });
        assert_eq!(one.handle().load(), 0);
        assert_eq!(recorded(&blue), [(Outcome::Ok, 1), (Outcome::Abandoned, 1)]);
        one.stop();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn instances_exchanged_under_load_lose_no_request() {
        let mut current = instance(DIGITS[0], 2);
        let mut blue = deployment("blue", &[&current]);
        let router = Router::new();
        publish(&router, "blue:100", &[&blue]);
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        // As many as may be held; one more could be refused.
        for _ in 0..4 {
            let (router, over) = (Arc::clone(&router), Arc::clone(&over));
            clients.spawn(async move {
                let mut answers = 0;
                while !over.load(Ordering::Relaxed) {
                    score_current(&router, digits_request()).await.unwrap();
                    answers += 1;
                }
                answers
            });
        }
        for round in 0..6 {
            let before = blue.metrics.count(Outcome::Ok);
            let next = instance(DIGITS[round % 2], 2);
            blue.instances = vec![next.handle()];
            publish(&router, "blue:100", &[&blue]);
            let old = std::mem::replace(&mut current, next);
            old.close();
            while blue.metrics.count(Outcome::Ok) < before + 20 {
                yield_now().await;
            }
            assert!(old.wait_idle(Instant::now() + PATIENCE));
            old.stop();
        }
        over.store(true, Ordering::Relaxed);
        let answers: u64 = clients.join_all().await.into_iter().sum();
        assert_eq!(recorded(&blue), [(Outcome::Ok, answers)]);
        assert_eq!(blue.admission.held(), 0);
        current.stop();
    }

    #[tokio::test]
    async fn a_named_deployment_answers_also_at_0_percent_and_an_unknown_one_is_told_what_there_is()
    {
        let one = instance(DIGITS[0], 1);
        let (blue, green) = (deployment("blue", &[&one]), deployment("green", &[&one]));
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue, &green]);
        let answer = router.score(&endpoint, named("GREEN")).await.unwrap();
        assert_eq!(answer.deployment.as_str(), "green");
        assert_eq!(
            router
                .score(&endpoint, named("red"))
                .await
                .unwrap_err()
                .to_string(),
            "endpoint \"iris\" has no deployment \"red\"; it has blue, green"
        );
        let nobody = publish(&router, "blue:0", &[&blue]);
        assert_eq!(
            router
                .score(&nobody, digits_request())
                .await
                .unwrap_err()
                .to_string(),
            "endpoint \"iris\" sends traffic to no deployment"
        );
        assert_eq!(recorded(&blue), []);
        one.stop();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_past_its_deadline_is_answered_at_once_and_gives_its_slot_back() {
        let slow = instance(SLOW, 1);
        let mut blue = deployment("blue", &[&slow]);
        blue.request_timeout = Duration::from_millis(50);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        let both = tokio::join!(
            router.score(&endpoint, request(SLOW_BODY)),
            router.score(&endpoint, request(SLOW_BODY)),
        );
        assert!(matches!(
            both.0,
            Err(Unserved::Failed {
                error: RunError::ExpiredRunning,
                ..
            })
        ));
        // The second never got the slot, or got it past its deadline.
        assert!(matches!(
            both.1,
            Err(Unserved::Rejected {
                rejected: Rejected::DeadlinePassed,
                ..
            } | Unserved::Failed {
                error: RunError::ExpiredWaiting,
                ..
            })
        ));
        assert_eq!(
            recorded(&blue),
            [(Outcome::ExpiredWaiting, 1), (Outcome::ExpiredRunning, 1)]
        );
        // Ends only because the run was terminated.
        blue.admission.drain().await;
        slow.stop();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn beyond_twice_the_slots_requests_are_shed_and_a_client_that_leaves_ends_its_work() {
        let slow = instance(SLOW, 1);
        let blue = deployment("blue", &[&slow]);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            let (router, endpoint) = (Arc::clone(&router), Arc::clone(&endpoint));
            clients.spawn(async move { router.score(&endpoint, request(SLOW_BODY)).await });
        }
        while blue.admission.held() < 2 || slow.handle().computing() < 1 {
            yield_now().await;
        }
        let shed = router.score(&endpoint, request(SLOW_BODY)).await;
        assert!(
            matches!(
                shed,
                Err(Unserved::Rejected {
                    rejected: Rejected::QueueFull {
                        held: 2,
                        held_max: 2
                    },
                    retry_after_s: 1,
                    ..
                })
            ),
            "{shed:?}"
        );
        clients.shutdown().await;
        assert_eq!(
            recorded(&blue),
            [(Outcome::Abandoned, 2), (Outcome::Shed, 1)]
        );
        // Whoever waited has left; ends only because the other's run was terminated.
        blue.admission.drain().await;
        slow.stop();
    }

    #[tokio::test]
    async fn a_request_that_meets_a_drained_deployment_finds_its_successor() {
        let one = instance(DIGITS[0], 1);
        let old = deployment("blue", &[&one]);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&old]);
        let new = deployment("blue", &[&one]);
        publish(&router, "blue:100", &[&new]);
        old.admission.drain().await;
        router.score(&endpoint, digits_request()).await.unwrap();
        assert_eq!(
            (recorded(&old), recorded(&new)),
            (vec![], vec![(Outcome::Ok, 1)])
        );
        one.stop();
    }

    #[tokio::test]
    async fn a_deployment_that_is_gone_leaves_the_request_to_the_split() {
        let one = instance(DIGITS[0], 1);
        let (blue, green) = (deployment("blue", &[&one]), deployment("green", &[&one]));
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        publish(&router, "green:100", &[&green]);
        blue.admission.drain().await;
        let answer = router.score(&endpoint, digits_request()).await.unwrap();
        assert_eq!(answer.deployment.as_str(), "green");
        // Unless it was named.
        let error = router.score(&endpoint, named("blue")).await.unwrap_err();
        assert!(matches!(error, Unserved::NoDeployment { .. }), "{error}");
        router.publish(RoutingTable::default());
        let error = router.score(&endpoint, digits_request()).await.unwrap_err();
        assert!(matches!(error, Unserved::NoDeployment { .. }), "{error}");
        one.stop();
    }

    #[tokio::test]
    async fn without_an_open_instance_a_deployment_is_not_ready() {
        let one = instance(DIGITS[0], 1);
        let blue = deployment("blue", &[&one]);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        one.close();
        let error = router.score(&endpoint, digits_request()).await.unwrap_err();
        assert_eq!(error.to_string(), "deployment blue has no ready instance");
        assert_eq!(recorded(&blue), [(Outcome::NotReady, 1)]);
        assert_eq!(blue.admission.held(), 0);
        let empty = deployment("blue", &[]);
        let endpoint = publish(&router, "blue:100", &[&empty]);
        let error = router.score(&endpoint, digits_request()).await.unwrap_err();
        assert!(matches!(error, Unserved::NotReady { .. }), "{error}");
        assert_eq!(recorded(&empty), [(Outcome::NotReady, 1)]);
        one.stop();
    }

    #[tokio::test]
    async fn a_body_that_does_not_fit_is_recorded_as_rejected_by_the_model() {
        let one = instance(DIGITS[0], 1);
        let blue = deployment("blue", &[&one]);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        let error = router.score(&endpoint, request("{}")).await.unwrap_err();
        assert!(
            matches!(
                error,
                Unserved::Failed {
                    error: RunError::Input(_),
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(recorded(&blue), [(Outcome::RejectedByModel, 1)]);
        one.stop();
    }

    /// Whose fault each end is, as the count of failures in a row sees it: +1 adds to it, 0 ends it.
    #[test]
    fn only_ends_by_the_model_s_fault_make_a_deployment_degraded_and_only_a_success_ends_that() {
        use serin_scorers::ScoreError;
        let text = || "x".to_owned();
        let unknown = ScoreError::UnknownInput {
            input: text(),
            known: text(),
        };
        let twice = ScoreError::RepeatedInput { input: text() };
        let encoding = ScoreError::OutputCount {
            declared: 1,
            found: 2,
        };
        let died = RunError::Died {
            how: text(),
            suspect: None,
        };
        let table = [
            (RunError::Input(unknown), "rejected_by_model", false),
            (RunError::Input(twice), "malformed", false),
            (RunError::Output(encoding), "model_error", true),
            (RunError::Model(text()), "model_error", true),
            (RunError::Panicked(text()), "model_error", true),
            (died, "died", true),
            (RunError::ExpiredRunning, "expired_running", true),
            (RunError::ExpiredWaiting, "expired_waiting", false),
            (RunError::Abandoned, "abandoned", false),
            (RunError::InstanceGone, "internal", false),
        ];
        for (error, label, is_fault) in table {
            let blue = deployment("blue", &[]);
            let fail = || {
                let recording = Recording::start(&blue.metrics, Instant::now());
                recording.close(&blue, Err(error.clone())).map(drop)
            };
            for _ in 0..DEGRADED_AFTER {
                let failed = fail().unwrap_err();
                assert!(matches!(failed, Unserved::Failed { .. }), "{failed}");
            }
            let [(outcome, DEGRADED_AFTER)] = recorded(&blue)[..] else {
                panic!("{error}: {:?}", recorded(&blue));
            };
            assert_eq!(outcome.label(), label);
            let degraded = blue.metrics.streak().degraded();
            assert_eq!(degraded.is_some(), is_fault, "{error}");
            assert!(degraded.is_none_or(|degraded| degraded.why == error.to_string()));
            let recording = Recording::start(&blue.metrics, Instant::now());
            let scored = Scored {
                body: Bytes::new().into(),
                head: None,
            };
            recording.close(&blue, Ok(scored)).unwrap();
            assert_eq!(blue.metrics.streak().degraded(), None, "{error}");
        }
    }

    /// Counts the heads that it makes.
    #[derive(Debug, Default)]
    struct Heads(AtomicU32);

    impl MakesHead for Heads {
        fn request_head(&self) -> RequestHead {
            self.0.fetch_add(1, Ordering::SeqCst);
            RequestHead {
                query: "a=1".to_owned(),
                ..RequestHead::default()
            }
        }
    }

    /// A deployment of one script that gives the status in the body, or of one model.
    fn played(name: &str, runs_a_script: bool) -> Deployment {
        let instance = InstanceHandle::played(runs_a_script, |head, body| {
            let status = std::str::from_utf8(body).unwrap().parse().ok();
            Ok(Scored {
                body: Bytes::from(
                    head.map_or_else(|| "no head".to_owned(), |head| head.query.clone()),
                )
                .into(),
                head: status.map(|status| {
                    Box::new(ResponseHead {
                        status,
                        headers: vec![],
                        failed: false,
                    })
                }),
            })
        });
        Deployment {
            instances: vec![instance],
            admission: AdmissionControl::new(1),
            ..deployment(name, &[])
        }
    }

    #[tokio::test]
    async fn a_script_gets_the_head_of_its_request_and_for_a_model_none_is_made() {
        let (script, model) = (played("script", true), played("model", false));
        let router = Router::new();
        let endpoint = publish(&router, "script:50,model:50", &[&script, &model]);
        let heads = Heads::default();
        for (name, by_script, body, made) in
            [("script", true, "a=1", 1), ("model", false, "no head", 1)]
        {
            let request = ScoreRequest {
                head: Some(&heads),
                ..named(name)
            };
            let answer = router.score(&endpoint, request).await.unwrap();
            assert_eq!(
                (answer.by_script, answer.body.bytes()),
                (by_script, body.as_bytes())
            );
            assert_eq!(heads.0.load(Ordering::SeqCst), made);
        }
        // The library has no heads.
        let answer = router.score(&endpoint, named("script")).await.unwrap();
        assert_eq!(
            (answer.by_script, answer.body.bytes()),
            (true, &b"no head"[..])
        );
    }

    #[tokio::test]
    async fn what_a_script_answers_counts_as_it_says_and_only_its_own_failures_degrade() {
        let blue = played("blue", true);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        let ask = async |status: u16| {
            let asked = router.score(&endpoint, request(status.to_string())).await;
            assert_eq!(asked.unwrap().head.unwrap().status, status);
        };
        for _ in 0..DEGRADED_AFTER {
            ask(500).await;
            ask(404).await;
        }
        let degraded = blue.metrics.streak().degraded().unwrap();
        assert_eq!(
            degraded.why,
            "the scoring script answered with status 500: no head"
        );
        ask(404).await;
        assert!(blue.metrics.streak().degraded().is_some());
        ask(302).await;
        assert_eq!(blue.metrics.streak().degraded(), None);
        ask(101).await;
        assert_eq!(
            recorded(&blue),
            [
                (Outcome::Ok, 1),
                (Outcome::RejectedByModel, DEGRADED_AFTER + 1),
                (Outcome::ModelError, DEGRADED_AFTER + 1)
            ]
        );
        assert_eq!(blue.admission.held(), 0);
    }

    fn for_scripts(request: ScoreRequest<'_>) -> ScoreRequest<'_> {
        ScoreRequest {
            is_for_scripts: true,
            ..request
        }
    }

    #[tokio::test]
    async fn what_only_a_script_could_answer_goes_by_the_split_and_no_further_than_a_model() {
        let (script, model) = (played("script", true), played("model", false));
        let router = Router::new();
        let endpoint = publish(&router, "script:50,model:50", &[&script, &model]);
        let mut refused = 0;
        for _ in 0..100 {
            let asked = router.score(&endpoint, for_scripts(request(""))).await;
            match asked {
                Ok(answer) => assert_eq!(answer.deployment.as_str(), "script"),
                Err(Unserved::NoScript { deployment }) => {
                    assert_eq!(deployment.as_str(), "model");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((refused, recorded(&script)), (50, vec![(Outcome::Ok, 50)]));
        assert_eq!((recorded(&model), model.admission.held()), (vec![], 0));
        // It is refused also where no slot is free, and takes none.
        let _slot = model.admission.admit_now().unwrap();
        let mut asked = for_scripts(named("model"));
        asked.inputs = RequestInputs::Body(Bytes::new());
        let refused = router.score(&endpoint, asked).await.unwrap_err();
        assert!(matches!(refused, Unserved::NoScript { .. }), "{refused}");
    }

    /// An update from a model to a script shows both for a moment.
    #[tokio::test]
    async fn where_a_script_takes_the_place_of_a_model_a_request_for_scripts_meets_a_script_or_is_refused()
     {
        let (script, model) = (played("blue", true), played("blue", false));
        let instances = [script.instances, model.instances.clone()].concat();
        let blue = Deployment { instances, ..model };
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        let mut answers = 0;
        for _ in 0..64 {
            match router.score(&endpoint, for_scripts(request(""))).await {
                Ok(answer) => {
                    assert!(answer.by_script);
                    answers += 1;
                }
                Err(refused) => assert!(matches!(refused, Unserved::NoScript { .. }), "{refused}"),
            }
        }
        assert!(
            0 < answers && answers < 64,
            "successive requests take successive instances"
        );
        assert_eq!(recorded(&blue), [(Outcome::Ok, answers)]);
        assert_eq!(blue.admission.held(), 0);
        let loads = blue.instances.iter().map(InstanceHandle::load);
        assert_eq!(loads.sum::<u32>(), 0);
    }

    /// It got what was left of its time after the line, and no model could have answered in that.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_that_got_only_the_rest_of_the_time_is_not_the_model_s_fault() {
        let slow = instance(SLOW, 1);
        let mut blue = deployment("blue", &[&slow]);
        blue.request_timeout = Duration::from_millis(400);
        let router = Router::new();
        let endpoint = publish(&router, "blue:100", &[&blue]);
        let late = ScoreRequest {
            // As if it had stood in line for most of its time.
            received: Instant::now() - blue.request_timeout * 3 / 4,
            ..request(SLOW_BODY)
        };
        let late = router.score(&endpoint, late).await.unwrap_err();
        assert!(
            matches!(
                late,
                Unserved::Failed {
                    error: RunError::ExpiredWaiting,
                    ..
                }
            ),
            "{late}"
        );
        blue.admission.drain().await;
        slow.stop();
    }

    #[test]
    fn retry_after_is_the_time_to_get_through_what_is_held() {
        for (held, slots, service_s, seconds) in [
            (8, 4, 0.001, 1),
            (8, 4, 0.0, 1),
            (8, 4, 1.0, 2),
            (8, 3, 1.5, 4),
            (2, 0, 1.0, 2),
        ] {
            assert_eq!(retry_after_s(held, slots, service_s), seconds);
        }
    }
}
