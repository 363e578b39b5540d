//! The loop that feeds rollouts and does what they wish.
//!
//! What happens to a rollout is written down before anything is done about it, and its state follows from what was written: where that
//! fails, the state in memory is forgotten and made again from the record. A restart is the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::canary::{
    Arm, Command, Ending, Entry, Guard, Input, Observation, Rollout, RolloutPlan, Took, Truth,
    Usual, Wish,
};
use crate::config::{
    EVIDENCE_LOOK_PERIOD, ROLLOUT_LOOK_PERIOD, ROLLOUT_ORDERS_MAX, ROLLOUT_WRITE_PERIOD,
    ROLLOUTS_KEPT, ROLLOUTS_LOAD_PERIOD,
};
use crate::control::mailbox::ControllerHandle;
use crate::control::refusal::ChangeError;
use crate::control::rollouts::answer_book::{AnswerBook, Joined, News};
use crate::control::rollouts::board::{RolloutView, VerdictView};
use crate::control::rollouts::clock::Clock;
use crate::control::rollouts::desk::{
    Label, Learned, Order, Replay, Reply, Rollouts, StartRollout,
};
use crate::control::rollouts::evidence::{Arms, Recent};
use crate::control::rollouts::hooks::{Hooks, ask};
use crate::control::rollouts::pairs::compared;
use crate::control::rollouts::wishes::{carry_out, change_of, stick};
use crate::control::store::{Happened, Record, Store, StoredRollout, forget_answers};
use crate::observe::Metrics;
use crate::observe::evidence::{RequestEvent, drain};
use crate::router::answers::{drain_answers, want};
use crate::router::pairs::{Pair, drain_pairs};
use crate::spec::{DeploymentName, EndpointName, Percent};

/// The judge of all rollouts. Owned by its task.
#[derive(Debug)]
pub(in crate::control) struct Judge {
    controller: ControllerHandle,
    metrics: Arc<Metrics>,
    orders: mpsc::Receiver<Order>,
    ends: (mpsc::UnboundedSender<End>, mpsc::UnboundedReceiver<End>),
    /// Rollouts that have not ended, by their number.
    live: BTreeMap<u64, Live>,
    /// Those that have, as they ended.
    ended: BTreeMap<u64, Rollout>,
    recent: Recent,
    hooks: Hooks,
    board: Arc<ArcSwap<Vec<RolloutView>>>,
    /// The deployments whose answers are handed over.
    wanted: Vec<u32>,
    /// When the record is to be read, where it was not, or could not be.
    load_at: Option<Instant>,
    clock: Clock,
}

/// A rollout on its way, beside what it was told.
#[derive(Debug)]
struct Live {
    rollout: Rollout,
    /// Requests that it has not been told of.
    unseen: Vec<Observation>,
    /// One of them is such that it should hear at once.
    is_urgent: bool,
    /// When it was last told of requests and labels. Whatever else it is told keeps neither waiting.
    told_at: Instant,
    /// The shares that it was told of last, where somebody else made them.
    found: Option<(Percent, Percent)>,
    /// Pairs that have not been compared.
    pairs: Vec<Pair>,
    /// Some are being compared, elsewhere.
    is_comparing: bool,
    /// Where answers are remembered, if labels are waited for.
    book: Option<AnswerBook>,
    /// What is to be remembered.
    news: Vec<News>,
    /// What labels have said, and it has not been told of.
    truths: Vec<Truth>,
}

/// The end of something that was done elsewhere for a rollout.
#[derive(Debug)]
enum End {
    /// A wish, and what the rollout is to be told of it.
    Wish(u64, Input),
    /// Pairs were compared; nothing where they say nothing.
    Pairs(u64, Option<Input>),
    /// Labels were joined with their answers.
    Labels(u64, Joined, Reply<Learned>),
}

impl Judge {
    /// Begins to judge, on the current runtime.
    pub(in crate::control) fn start(
        controller: ControllerHandle,
        metrics: Arc<Metrics>,
    ) -> Rollouts {
        let (asked, orders) = mpsc::channel(ROLLOUT_ORDERS_MAX);
        let board = Arc::new(ArcSwap::default());
        let rollouts = Rollouts::new(asked, Arc::clone(&board));
        let judge = Self {
            controller,
            metrics,
            orders,
            ends: mpsc::unbounded_channel(),
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
            recent: Recent::default(),
            hooks: Hooks::default(),
            board,
            wanted: Vec::new(),
            load_at: Some(Instant::now()),
            clock: Clock::new(),
        };
        tokio::spawn(judge.run());
        rollouts
    }

    /// Ends with the last handle.
    async fn run(mut self) {
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.on_order(order).await,
                    None => {
                        want(Vec::new());
                        return;
                    }
                },
                Some(end) = self.ends.1.recv() => self.on_end(end).await,
                () = sleep_until(next_look) => {
                    self.look().await;
                    next_look = Instant::now() + self.look_period();
                }
            }
        }
    }

    /// Where nothing is judged, a look has only to come before the rings are full.
    fn look_period(&self) -> Duration {
        match self.live.is_empty() {
            true => EVIDENCE_LOOK_PERIOD,
            false => ROLLOUT_LOOK_PERIOD,
        }
    }

    async fn on_end(&mut self, end: End) {
        match end {
            End::Wish(id, input) => self.tell_all(id, vec![input]).await,
            End::Pairs(id, input) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.is_comparing = false;
                }
                self.tell_all(id, input.into_iter().collect()).await;
            }
            End::Labels(id, (truths, learned), reply) => {
                let told = match self.live.get_mut(&id) {
                    Some(live) => {
                        live.truths.extend(truths);
                        Ok(learned)
                    }
                    None => Err(ChangeError::Conflict(format!(
                        "rollout {id} has ended, or is read again, and heard nothing of these labels"
                    ))),
                };
                drop(reply.send(told));
            }
        }
    }

    async fn on_order(&mut self, order: Order) {
        // What somebody asks is answered by what there is, so that comes in first.
        self.look().await;
        match order {
            Order::Start { start, by, reply } => {
                drop(reply.send(self.start_rollout(*start, by).await));
            }
            Order::Tell {
                endpoint,
                command,
                by,
                reply,
            } => drop(reply.send(self.tell(&endpoint, command, by).await)),
            Order::Verdict {
                endpoint,
                arms,
                reply,
            } => drop(reply.send(self.verdict(endpoint, arms))),
            Order::Learn {
                endpoint,
                labels,
                reply,
            } => self.learn(&endpoint, labels, reply),
            Order::Replay { id, reply } => drop(reply.send(self.replay(id).await)),
        }
    }

    /// Hears of all that has happened since, and tells every rollout what it has to know.
    async fn look(&mut self) {
        if self.load_at.is_some_and(|at| at <= Instant::now()) {
            self.load().await;
        }
        self.hear();
        let ids: Vec<_> = self.live.keys().copied().collect();
        for id in ids {
            let inputs = self.news_of(id);
            self.tell_all(id, inputs).await;
        }
    }

    /// Takes in the events of requests.
    fn hear(&mut self) {
        let arms: Vec<_> = self
            .live
            .iter()
            .map(|(id, live)| (*id, self.arms(live)))
            .collect();
        let (live, recent) = (&mut self.live, &mut self.recent);
        drain(|event| {
            for (id, arms) in &arms {
                let observation = arms.and_then(|arms| arms.observation(&event));
                if let (Some(observation), Some(live)) = (observation, live.get_mut(id)) {
                    live.observe(observation, &event);
                }
            }
            recent.push(event);
        });
        // Those that come while others are compared wait where they have a bound.
        if live.values().all(|live| !live.is_comparing) {
            drain_pairs(|pair| {
                for (id, arms) in &arms {
                    let is_ours = arms.is_some_and(|arms| {
                        (pair.live.series, pair.shadow.series) == (arms.stable, arms.canary)
                    });
                    if is_ours && let Some(live) = live.get_mut(id) {
                        live.remember_copy(&pair);
                        live.pairs.push(pair);
                        return;
                    }
                }
            });
        }
        drain_answers(|given| {
            let of = |arms: &Option<Arms>| arms.as_ref()?.arm_of(given.series);
            let found = arms.iter().find_map(|(id, arms)| Some((id, of(arms)?)));
            if let Some((id, arm)) = found
                && let Some(live) = live.get_mut(id)
            {
                live.remember(given.id_hash, |id_hash| News::Answer {
                    id_hash,
                    arm,
                    body: given.body,
                });
            }
        });
        let now_ms = self.clock.now_ms();
        live.values_mut().for_each(|live| live.write_book(now_ms));
        self.want_answers();
        self.compare_pairs();
    }

    /// Has the answers of those handed over whose truth is waited for.
    fn want_answers(&mut self) {
        let with_book = self.live.values().filter(|live| live.book.is_some());
        let arms = with_book.filter_map(|live| self.arms(live));
        let wanted: Vec<_> = arms.flat_map(|arms| [arms.stable, arms.canary]).collect();
        if wanted != self.wanted {
            self.wanted.clone_from(&wanted);
            want(wanted);
        }
    }

    /// Has the pairs compared elsewhere: bodies may be large. One heap of them at a time for each rollout.
    fn compare_pairs(&mut self) {
        let ends = self.ends.0.clone();
        let live = self.live.iter_mut();
        for (id, live) in live.filter(|(_, live)| !live.is_comparing && !live.pairs.is_empty()) {
            live.is_comparing = true;
            let (rollout, pairs) = (*id, std::mem::take(&mut live.pairs));
            let ends = ends.clone();
            tokio::task::spawn_blocking(move || {
                let input = compared(&pairs);
                drop(pairs);
                // A judge that has ended hears nothing more.
                drop(ends.send(End::Pairs(rollout, input)));
            });
        }
    }

    fn arms(&self, live: &Live) -> Option<Arms> {
        let plan = live.rollout.plan();
        let (started_ms, _) = live.rollout.times_ms();
        let names = (&plan.endpoint, (&plan.from, &plan.to));
        self.arms_of(names, live.rollout.restarts(), started_ms)
    }

    fn arms_of(
        &self,
        (endpoint, (from, to)): (&EndpointName, (&DeploymentName, &DeploymentName)),
        run: u64,
        started_ms: i64,
    ) -> Option<Arms> {
        Some(Arms {
            stable: self.series(endpoint, from)?,
            canary: self.series(endpoint, to)?,
            run,
            clock_us: self.clock.of_events_us(started_ms),
        })
    }

    fn series(&self, endpoint: &EndpointName, name: &DeploymentName) -> Option<u32> {
        let view = self.controller.view();
        let view = view.endpoint(endpoint)?;
        let (name, _) = view.deployments.get_key_value(name)?;
        self.metrics
            .series_of(view.spec.name.as_str(), name.as_str())
    }

    /// How slow the stable version is, by its last requests; none where that says too little.
    fn usual(&self, plan: &RolloutPlan) -> Option<Usual> {
        let stable = self.series(&plan.endpoint, &plan.from)?;
        let alone = Arms {
            stable,
            canary: stable,
            run: 0,
            clock_us: 0,
        };
        Usual::of(&self.recent.of_newest_build(alone))
    }

    /// What a rollout has to know now.
    fn news_of(&mut self, id: u64) -> Vec<Input> {
        let view = self.controller.view();
        let Some(live) = self.live.get_mut(&id) else {
            return Vec::new();
        };
        let mut inputs = Vec::new();
        let is_due = live.told_at.elapsed() >= ROLLOUT_WRITE_PERIOD || live.is_urgent;
        if is_due {
            live.told_at = Instant::now();
        }
        if is_due && !live.truths.is_empty() {
            let truths = std::mem::take(&mut live.truths);
            inputs.push(Input::Learned { truths });
        }
        if is_due && !live.unseen.is_empty() {
            let requests = std::mem::take(&mut live.unseen);
            live.is_urgent = false;
            inputs.push(Input::Observed { requests });
        }
        let plan = live.rollout.plan();
        let Some(endpoint) = view.endpoint(&plan.endpoint) else {
            let what = format!("endpoint {}", plan.endpoint);
            inputs.push(Input::Gone { what });
            return inputs;
        };
        let missing = [&plan.from, &plan.to]
            .into_iter()
            .find(|name| !endpoint.deployments.contains_key(*name));
        if let Some(missing) = missing {
            let what = format!("deployment {missing}");
            inputs.push(Input::Gone { what });
            return inputs;
        }
        let traffic = &endpoint.spec.traffic;
        let shares = (traffic.percent_of(&plan.to), traffic.percent_of(&plan.from));
        if !live.rollout.is_moving() && live.found != Some(shares) {
            live.found = Some(shares);
            let rest = Percent::HUNDRED.hundredths() - live.rollout.weight().hundredths();
            if shares.0 != live.rollout.weight() || shares.1.hundredths() != rest {
                inputs.push(Input::FoundTraffic {
                    canary: shares.0,
                    stable: shares.1,
                    split: traffic.to_string(),
                });
            }
        }
        let now_ms = self.clock.now_ms();
        if live.rollout.next_look_ms().is_some_and(|at| at <= now_ms) {
            inputs.push(Input::Passed);
        }
        inputs
    }

    /// The same as [`Self::feed`], where nobody waits for it.
    async fn tell_all(&mut self, id: u64, inputs: Vec<Input>) {
        if !inputs.is_empty()
            && let Err(error) = self.feed(id, inputs).await
        {
            tracing::warn!(rollout = id, %error, "what happened to a rollout could not be written: its state is read again");
        }
    }

    /// Gives a rollout what has happened to it, writes that down, and then does what it wishes. Where it cannot be written nothing of it has
    /// happened: the state is forgotten, and read again.
    async fn feed(&mut self, id: u64, inputs: Vec<Input>) -> Result<(), ChangeError> {
        let Some(live) = self.live.get_mut(&id) else {
            return Ok(());
        };
        let now_ms = self.clock.now_ms();
        let (mut happened, mut wishes) = (Vec::new(), Vec::new());
        for input in inputs {
            let (one, wished) = live.take(input, now_ms);
            happened.push(one);
            wishes.extend(wished);
        }
        let entries = happened.iter().flat_map(|one| one.entries.clone());
        let entries: Vec<_> = entries.collect();
        let state = live.rollout.clone();
        let written = self
            .controller
            .with_rollouts(move |store| store.record(id, &happened, &state));
        if let Err(error) = written.await {
            self.live.remove(&id);
            self.load_at = Some(Instant::now() + ROLLOUTS_LOAD_PERIOD);
            return Err(error);
        }
        self.follow(id, wishes, &entries);
        Ok(())
    }

    /// Does what follows from what is on disk.
    fn follow(&mut self, id: u64, wishes: Vec<(u64, Wish)>, entries: &[Entry]) {
        for (wish, wished) in wishes {
            self.carry_out(id, wish, wished);
        }
        self.tell_others(id, entries);
        if let Some(live) = self.live.get(&id) {
            self.show(RolloutView::of(id, &live.rollout));
        }
        let ended = self
            .live
            .extract_if(.., |_, live| live.rollout.phase().has_ended());
        self.ended.extend(ended.map(|(id, live)| {
            if let Some(book) = live.book {
                book.end();
            }
            (id, live.rollout)
        }));
        self.forget_old();
    }

    /// The store forgets them too.
    fn forget_old(&mut self) {
        while self.ended.len() as u64 > ROLLOUTS_KEPT
            && let Some((oldest, _)) = self.ended.pop_first()
        {
            let mut views = self.board.load().to_vec();
            views.retain(|view| view.id != oldest);
            self.board.store(Arc::new(views));
        }
    }

    /// Begins a wish: those that are begun later come about later.
    fn carry_out(&mut self, id: u64, wish: u64, wished: Wish) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        // Whatever comes of it is new.
        live.found = None;
        let plan = live.rollout.plan();
        if let Wish::Ask { hook } = &wished {
            let event = event_of(id, plan, None);
            let hook = hook.clone();
            self.begin_end(id, async move {
                let (agrees, words) = ask(&hook, &event)
                    .await
                    .unwrap_or_else(|error| (false, error));
                Input::Answered {
                    wish,
                    agrees,
                    words,
                }
            });
            return;
        }
        let Some(change) = change_of(plan, &wished) else {
            return;
        };
        let done = carry_out(&self.controller, change, by(id));
        self.begin_end(id, async move {
            let failure = done.await.err();
            Input::Done { wish, failure }
        });
    }

    fn begin_end(&self, rollout: u64, work: impl Future<Output = Input> + Send + 'static) {
        let ends = self.ends.0.clone();
        tokio::spawn(async move {
            let input = work.await;
            // A judge that has ended hears nothing more.
            drop(ends.send(End::Wish(rollout, input)));
        });
    }

    /// A rollout, on its way or ended.
    fn rollout(&self, id: u64) -> Option<&Rollout> {
        let live = self.live.get(&id).map(|live| &live.rollout);
        live.or(self.ended.get(&id))
    }

    fn tell_others(&self, id: u64, entries: &[Entry]) {
        let Some(plan) = self.rollout(id).map(Rollout::plan) else {
            return;
        };
        for entry in entries {
            let (endpoint, canary) = (&plan.endpoint, &plan.to);
            tracing::info!(rollout = id, %endpoint, %canary, "{entry}");
            for hook in &plan.notify {
                self.hooks
                    .tell(hook.clone(), event_of(id, plan, Some(entry)));
            }
        }
    }

    /// Begins a rollout.
    async fn start_rollout(
        &mut self,
        start: StartRollout,
        by: String,
    ) -> Result<RolloutView, ChangeError> {
        let StartRollout { plan, dry_run } = start;
        let plan = self.check(plan)?;
        let rollout = Rollout::new(plan.clone());
        let rollout = rollout.map_err(|problems| {
            ChangeError::Invalid(problems.iter().map(ToString::to_string).collect())
        })?;
        if dry_run {
            return Ok(RolloutView::of(0, &rollout));
        }
        let view = self.controller.view();
        let endpoint = view.endpoint(&plan.endpoint);
        if let Some(change) = endpoint.and_then(|endpoint| stick(&plan, endpoint)) {
            let done = carry_out(&self.controller, change, by.clone()).await;
            done.map_err(ChangeError::Conflict)?;
        }
        let usual = self.usual(&plan);
        let mut live = Live::new(rollout);
        let (began, wishes) = live.take(Input::Began { by, usual }, self.clock.now_ms());
        let entries = began.entries.clone();
        let written = move |store: &mut Store| store.begin_rollout(&plan, &began);
        let id = self.controller.with_rollouts(written).await?;
        live.book = self.open_book(id, live.rollout.plan()).await;
        self.live.insert(id, live);
        self.want_answers();
        self.follow(id, wishes, &entries);
        self.view_of(id)
    }

    /// The book of answers, where labels are waited for. A rollout without one goes on: labels are refused.
    async fn open_book(&self, id: u64, plan: &RolloutPlan) -> Option<AnswerBook> {
        let remembers = plan.remembers()?;
        let data = self.data_folder().await?;
        let opened =
            tokio::task::spawn_blocking(move || AnswerBook::open(&data, id, remembers)).await;
        let opened = opened.map_err(std::io::Error::other).flatten();
        opened
            .inspect_err(|error| {
                tracing::warn!(rollout = id, %error, "answers cannot be remembered: labels are refused");
            })
            .ok()
    }

    async fn data_folder(&self) -> Option<PathBuf> {
        let folder = self
            .controller
            .with_rollouts(|store| Ok(store.folder().to_owned()));
        folder.await.ok()
    }

    fn view_of(&self, id: u64) -> Result<RolloutView, ChangeError> {
        let rollout = self.rollout(id).ok_or_else(|| unknown(id))?;
        Ok(RolloutView::of(id, rollout))
    }

    /// The plan with its names as they are written, where it fits what is there.
    fn check(&self, mut plan: RolloutPlan) -> Result<RolloutPlan, ChangeError> {
        let problems: Vec<_> = plan
            .problems()
            .into_iter()
            .map(|(field, words)| format!("{field}: {words}"))
            .collect();
        if !problems.is_empty() {
            return Err(ChangeError::Invalid(problems));
        }
        let view = self.controller.view();
        let missing = |what: String| ChangeError::NotFound(what);
        let endpoint = view.endpoint(&plan.endpoint);
        let endpoint =
            endpoint.ok_or_else(|| missing(format!("there is no endpoint {}", plan.endpoint)))?;
        for name in [&mut plan.from, &mut plan.to] {
            let Some((written, _)) = endpoint.deployments.get_key_value(name) else {
                let known: Vec<_> = endpoint
                    .deployments
                    .keys()
                    .map(ToString::to_string)
                    .collect();
                let words = format!(
                    "endpoint {} has no deployment {name}; it has {}",
                    plan.endpoint,
                    known.join(", ")
                );
                return Err(missing(words));
            };
            *name = written.clone();
        }
        let running = self
            .live
            .iter()
            .find(|(_, live)| live.rollout.plan().endpoint == plan.endpoint);
        if let Some((id, _)) = running {
            return Err(ChangeError::Conflict(format!(
                "rollout {id} of endpoint {} is on its way: abort it first",
                plan.endpoint
            )));
        }
        if endpoint.spec.mirrored().as_ref() == Some(&plan.to) {
            return Err(ChangeError::Conflict(format!(
                "{} stands in mirror_traffic of endpoint {}, and so can get no traffic: take it out with `--mirror-traffic {}=0`; a \
                 rollout mirrors by a step",
                plan.to, plan.endpoint, plan.to
            )));
        }
        let traffic = &endpoint.spec.traffic;
        if traffic.percent_of(&plan.from) != Percent::HUNDRED {
            return Err(ChangeError::Conflict(format!(
                "expected {} to have all traffic of endpoint {}, found {traffic}: a rollout begins with the stable version alone; set \
                 its traffic first",
                plan.from, plan.endpoint
            )));
        }
        Ok(plan)
    }

    async fn tell(
        &mut self,
        endpoint: &EndpointName,
        command: Command,
        by: String,
    ) -> Result<RolloutView, ChangeError> {
        let live = self.live.iter().map(|(id, live)| (*id, &live.rollout));
        let ended = self.ended.iter().map(|(id, rollout)| (*id, rollout));
        let newest = live
            .chain(ended)
            .filter(|(_, one)| one.plan().endpoint == *endpoint)
            .max_by_key(|(id, _)| *id);
        let Some((id, rollout)) = newest else {
            return Err(ChangeError::NotFound(format!(
                "endpoint {endpoint} has no rollout: start one"
            )));
        };
        rollout.check(command).map_err(|standing| {
            ChangeError::Conflict(format!("rollout {id} takes no `{command}` now: {standing}"))
        })?;
        // One that has ended is brought back by what it takes.
        if let Some(rollout) = self.ended.remove(&id) {
            self.live.insert(id, Live::new(rollout));
        }
        self.feed(id, vec![Input::Told { command, by }]).await?;
        self.view_of(id)
    }

    fn verdict(
        &self,
        endpoint: EndpointName,
        (from, to): (DeploymentName, DeploymentName),
    ) -> Result<VerdictView, ChangeError> {
        let of_rollout = self.live.iter().find(|(_, live)| {
            let plan = live.rollout.plan();
            plan.endpoint == endpoint && plan.from == from && plan.to == to
        });
        let (rollout, requests, verdict, (findings, capitals_harm)) = match of_rollout {
            Some((id, live)) => {
                let one = &live.rollout;
                let evidence = (one.findings(), one.capitals_harm());
                (Some(*id), one.seen().0, one.verdict(), evidence)
            }
            None => {
                let names = (&endpoint, (&from, &to));
                let arms = self.arms_of(names, 0, 0);
                let arms = arms.ok_or_else(|| {
                    ChangeError::NotFound(format!("endpoint {endpoint} has no deployments {from} and {to} that have had requests"))
                })?;
                let seen = self.recent.observations(arms);
                let guard = guard_of(&seen);
                let evidence = (guard.findings(), guard.capitals_harm());
                (None, seen.len() as u64, guard.verdict(), evidence)
            }
        };
        Ok(VerdictView {
            endpoint,
            from,
            to,
            verdict,
            findings,
            capitals_harm,
            rollout,
            requests,
        })
    }

    /// Joins labels with the requests that they are of, elsewhere. What cannot be joined is counted, never guessed.
    fn learn(&self, endpoint: &EndpointName, labels: Vec<Label>, reply: Reply<Learned>) {
        match self.join(endpoint, labels) {
            Err(refused) => drop(reply.send(Err(refused))),
            Ok((id, joined)) => {
                let ends = self.ends.0.clone();
                tokio::spawn(async move {
                    let Ok(joined) = joined.await else {
                        drop(reply.send(Err(ChangeError::Stopped)));
                        return;
                    };
                    // A judge that has ended hears nothing more.
                    drop(ends.send(End::Labels(id, joined, reply)));
                });
            }
        }
    }

    fn join(
        &self,
        endpoint: &EndpointName,
        labels: Vec<Label>,
    ) -> Result<(u64, oneshot::Receiver<Joined>), ChangeError> {
        let found = self
            .live
            .iter()
            .find(|(_, live)| live.rollout.plan().endpoint == *endpoint);
        let Some((id, live)) = found else {
            return Err(ChangeError::NotFound(format!(
                "no rollout of endpoint {endpoint} is on its way: labels would say nothing"
            )));
        };
        let Some(book) = &live.book else {
            if live.rollout.plan().remembers().is_some() {
                return Err(ChangeError::Conflict(format!(
                    "rollout {id} of endpoint {endpoint} takes no labels now: it goes back, or its answers could not be remembered, of which \
                     the log says more"
                )));
            }
            return Err(ChangeError::Conflict(format!(
                "rollout {id} of endpoint {endpoint} is not judged by labels: start one with {{name: accuracy}} among guard.metrics"
            )));
        };
        let joined = book.join(labels, self.clock.now_ms());
        let joined = joined.ok_or(ChangeError::Busy)?;
        Ok((*id, joined))
    }

    async fn replay(&self, id: u64) -> Result<Replay, ChangeError> {
        let record = self
            .controller
            .with_rollouts(move |store| store.rollout_record(id))
            .await?;
        let record = record.ok_or_else(|| unknown(id))?;
        let plan = self.rollout(id).ok_or_else(|| unknown(id))?.plan().clone();
        let (rollout, entries, again, base) = play_elsewhere(plan, record).await?;
        let written = entries.get(base..).unwrap_or_default();
        Ok(Replay {
            rollout: RolloutView::of(id, &rollout),
            is_equal: bytes(written) == bytes(&again),
            replayed: again.len(),
            entries,
        })
    }

    /// Reads what the store has, and goes on where the record ends.
    async fn load(&mut self) {
        let known = self.controller.with_rollouts(|store| {
            let mut known = Vec::new();
            for one in store.rollouts()? {
                // The state of one that has ended is there; its record may be long.
                let record = match one.ended {
                    Some(_) => None,
                    None => store.rollout_record(one.id)?,
                };
                known.push((one, record));
            }
            Ok(known)
        });
        let known = match known.await {
            Ok(known) => known,
            Err(error) => {
                tracing::debug!(%error, "rollouts are read later");
                self.load_at = Some(Instant::now() + ROLLOUTS_LOAD_PERIOD);
                return;
            }
        };
        self.load_at = None;
        for (StoredRollout { id, plan, ended }, record) in known {
            if self.rollout(id).is_some() {
                continue;
            }
            if let Some(rollout) = ended {
                self.show(RolloutView::of(id, &rollout));
                self.ended.insert(id, rollout);
            } else if let Some(record) = record {
                self.go_on(id, plan, record).await;
            }
        }
        if let Some(data) = self.data_folder().await {
            self.forget_answers(data);
        }
    }

    /// Removes the answers of rollouts that have ended, elsewhere.
    fn forget_answers(&self, data: PathBuf) {
        // One that begins meanwhile is newer than all of these.
        let live: Vec<_> = self.live.keys().copied().collect();
        let newest = self.live.keys().chain(self.ended.keys()).max().copied();
        tokio::task::spawn_blocking(move || {
            forget_answers(&data, |number| {
                live.contains(&number) || Some(number) > newest
            });
        });
    }

    /// Goes on with a rollout that was on its way.
    async fn go_on(&mut self, id: u64, plan: RolloutPlan, record: Record) {
        match play_elsewhere(plan, record).await {
            Ok((rollout, ..)) => {
                let canary = self.share_of(rollout.plan());
                self.clock.go_on_from(rollout.times_ms().1);
                let mut live = Live::new(rollout);
                live.book = self.open_book(id, live.rollout.plan()).await;
                self.live.insert(id, live);
                self.want_answers();
                self.tell_all(id, vec![Input::Restarted { canary }]).await;
            }
            Err(error) => {
                tracing::error!(rollout = id, %error, "a rollout cannot be read and is left alone");
            }
        }
    }

    fn share_of(&self, plan: &RolloutPlan) -> Percent {
        let view = self.controller.view();
        let endpoint = view.endpoint(&plan.endpoint);
        endpoint.map_or(Percent::ZERO, |endpoint| {
            endpoint.spec.traffic.percent_of(&plan.to)
        })
    }

    /// Puts the rollout on the board, where the newest stand first.
    fn show(&self, view: RolloutView) {
        let mut views = self.board.load().to_vec();
        match views.binary_search_by(|one| view.id.cmp(&one.id)) {
            Ok(at) => views[at] = view,
            Err(at) => views.insert(at, view),
        }
        self.board.store(Arc::new(views));
    }
}

impl Live {
    fn new(rollout: Rollout) -> Self {
        Self {
            rollout,
            unseen: Vec::new(),
            is_urgent: false,
            told_at: Instant::now(),
            found: None,
            pairs: Vec::new(),
            is_comparing: false,
            book: None,
            news: Vec::new(),
            truths: Vec::new(),
        }
    }

    /// Takes in a request that has ended, to be told of it soon.
    fn observe(&mut self, observation: Observation, event: &RequestEvent) {
        self.is_urgent |= observation.arm == Arm::Canary
            && observation.ending != Ending::Answered
            && observation.counts();
        // One that ended before the rollout began has no time in it.
        if matches!(observation.ending, Ending::Answered | Ending::BadOutput)
            && observation.at_us > 0
        {
            self.remember(event.id_hash, |id_hash| News::Request {
                id_hash,
                arm: observation.arm,
                routing: observation.routing,
            });
        }
        self.unseen.push(observation);
    }

    /// The canary's answer to a copy.
    fn remember_copy(&mut self, pair: &Pair) {
        let is_good = pair.shadow.status.is_none_or(|status| status / 100 == 2);
        if let Some(body) = pair.shadow.body.clone().filter(|_| is_good) {
            self.remember(pair.id_hash, |id_hash| News::Answer {
                id_hash,
                arm: Arm::Canary,
                body,
            });
        }
    }

    /// To be written into the book, where there is one and the request has an id.
    fn remember(&mut self, id_hash: u64, news: impl FnOnce(u64) -> News) {
        if self.book.is_some() && id_hash != 0 {
            self.news.push(news(id_hash));
        }
    }

    fn write_book(&mut self, now_ms: i64) {
        if let Some(book) = self.book.as_ref().filter(|_| !self.news.is_empty()) {
            self.news = book.keep(std::mem::take(&mut self.news), now_ms);
        }
    }

    /// Takes in what happens now; gives what is to be written, and what is wished then.
    fn take(&mut self, input: Input, at_ms: i64) -> (Happened, Vec<(u64, Wish)>) {
        let Took { entries, wishes } = self.rollout.take(&input, at_ms);
        let decides = !wishes.is_empty() || !entries.is_empty();
        let happened = Happened {
            input,
            at_ms,
            entries,
            decides,
        };
        (happened, wishes)
    }
}

/// The rollout that the record makes, its journal as it was written, the journal made again, and how many lines the record has no inputs of.
type Played = (Rollout, Vec<Entry>, Vec<Entry>, usize);

fn play(plan: RolloutPlan, record: Record) -> Result<Played, Vec<String>> {
    let new = || {
        Rollout::new(plan).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    };
    let mut rollout = record.base.map_or_else(new, Ok::<_, Vec<String>>)?;
    let mut again = Vec::new();
    for (input, at_ms) in &record.inputs {
        again.extend(rollout.take(input, *at_ms).entries);
    }
    Ok((rollout, record.entries, again, record.entries_of_base))
}

/// The same on a thread that may take its time: a record may have millions of requests.
async fn play_elsewhere(plan: RolloutPlan, record: Record) -> Result<Played, ChangeError> {
    let played = tokio::task::spawn_blocking(move || play(plan, record)).await;
    let played = played.map_err(|_| ChangeError::Stopped)?;
    played.map_err(ChangeError::Invalid)
}

fn unknown(id: u64) -> ChangeError {
    ChangeError::NotFound(format!("there is no rollout {id}"))
}

fn bytes(entries: &[Entry]) -> String {
    serde_json::to_string(entries).expect("lines have a JSON form")
}

fn guard_of(seen: &[Observation]) -> Guard {
    let mut guard = Guard::new(crate::canary::GuardPlan::default()).expect("the usual plan is one");
    seen.iter().for_each(|one| guard.observe(one));
    guard
}

fn by(id: u64) -> String {
    format!("serin (rollout {id})")
}

fn event_of(id: u64, plan: &RolloutPlan, entry: Option<&Entry>) -> serde_json::Value {
    json!({
        "rollout": id,
        "endpoint": plan.endpoint,
        "from": plan.from,
        "to": plan.to,
        "words": entry.map(ToString::to_string),
        "entry": entry,
    })
}
