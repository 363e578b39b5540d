//! The server: sockets bound, then the edge and the control thread, then the way down in the opposite order.
//!
//! Threads: the caller's waits; `serin-edge-*` move bytes; `serin-control` runs the controller and the admin listener, so
//! that administration answers when the edge is full.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::admin::{Administration, ServerFile, hear_labels};
use crate::app::config::{Config, MetricsAt, bytes_in_flight_max};
use crate::app::descriptors::connection_shares;
use crate::app::edge::Edge;
use crate::app::error::AppError;
use crate::app::handover::{Handover, Predecessor, SocketsToGive, Successor};
use crate::app::sockets::{Bound, Sockets};
use crate::app::status::{self, Status};
use crate::app::systemd;
use crate::app::way_down::WayDown;
use crate::config::{
    ADMIN_CONNECTIONS_MAX, ADMIN_GRACE, METRICS_AGAIN_AFTER, RESTART_HOLD_MAX, STOP_MAX,
};
use crate::control::{Controller, ControllerConfig, ControllerHandle, judge};
use crate::engine::{LibraryLoading, begin_to_load_library};
use crate::observe::Metrics;
use crate::router::Router;
use crate::serve::{
    BytesInFlight, ConnectionLimits, Readiness, Scoring, Told, listen, metrics_routes,
};

/// A server whose sockets are bound and whose parts are not yet running.
pub struct App {
    config: Config,
    started: Instant,
    library: LibraryLoading,
    sockets: Sockets,
    metrics: Option<Bound>,
    on_ready: Box<dyn FnOnce() + Send>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl App {
    /// Binds both sockets, so that a busy port is known before anything starts.
    ///
    /// # Errors
    ///
    /// [`AppError::Bind`] names the address and the flag that changes it.
    pub fn bind(config: Config) -> Result<Self, AppError> {
        let sockets = Sockets::open(&config)?;
        Ok(Self::with_sockets(config, sockets))
    }

    /// A server that will serve on these sockets, whatever addresses its settings have.
    #[must_use]
    pub fn with_sockets(config: Config, sockets: Sockets) -> Self {
        Self {
            config,
            started: Instant::now(),
            library: begin_to_load_library(),
            sockets,
            metrics: None,
            on_ready: Box::new(|| {}),
            cut: Box::pin(std::future::pending()),
        }
    }

    /// Binds the listener of metrics now, where the settings have one; else it is bound when the server runs. Where this one takes the
    /// place of another, which may have the address, it is bound when that one has gone.
    ///
    /// # Errors
    ///
    /// [`AppError::Bind`].
    pub fn bind_metrics(mut self) -> Result<Self, AppError> {
        if self.metrics.is_none() && self.sockets.predecessor.is_none() {
            self.metrics = bound_for_metrics(self.config.metrics)?;
        }
        Ok(self)
    }

    /// The address of the listener of metrics, where there is one and it is bound.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|bound| bound.address)
    }

    /// The address at which requests will be scored.
    #[must_use]
    pub fn scoring_address(&self) -> SocketAddr {
        self.sockets.scoring.address
    }

    /// The address at which the server will be administered.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.sockets.admin.address
    }

    /// Called once, from the control thread, when all that was deployed before serves again or has failed.
    #[must_use]
    pub fn on_ready(mut self, ready: impl FnOnce() + Send + 'static) -> Self {
        self.on_ready = Box::new(ready);
        self
    }

    /// When this ends, a server that finishes what is in flight gives that up: whoever waits for an answer is told so at once.
    #[must_use]
    pub fn on_cut(mut self, cut: impl Future<Output = ()> + Send + 'static) -> Self {
        self.cut = Box::pin(cut);
        self
    }

    /// Serves until `shutdown` ends, then finishes what is in flight. Blocks the calling thread, which must not be one of a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// When a part does not start (the data folder is in use or cannot be written, no threads), or the control thread is gone;
    /// [`AppError::CutShort`] after [`App::on_cut`].
    pub fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), AppError> {
        let this = self.bind_metrics()?;
        // Waited for when the server ends, however early.
        let _library = this.library;
        let connections = connection_shares(this.config.connections_max);
        let limits = ConnectionLimits {
            connections_max: connections.scoring,
            grace: this.config.grace,
        };
        let scoring = scoring(&this.config);
        let cut = this.cut;
        let mut way_down = WayDown::new(scoring.drain.clone(), &this.config);
        let (listener, address) = (this.sockets.scoring.listener, this.sockets.scoring.address);
        let (edge_threads, edge_scoring) = (this.config.edge_threads, scoring.clone());
        let outlive = this.sockets.outlive;
        let token = outlive.then(|| known_token(&this.config.data)).flatten();
        let token = token.unwrap_or_else(new_token);
        let (ready, is_ready) = oneshot::channel::<()>();
        let (replaced, is_replaced) = oneshot::channel::<()>();
        let sockets_to_give = sockets_to_give(&listener, &this.sockets.admin.listener)?;
        let predecessor = this.sockets.predecessor;
        let last_word = predecessor.as_ref().map(Predecessor::last_word).transpose();
        let last_word = last_word.map_err(AppError::Threads)?;
        let control = Control {
            server: Arc::new(server_file(address, this.sockets.admin.address, token)),
            listener: this.sockets.admin.listener,
            connections_max: connections.admin,
            metrics: this.metrics,
            config: this.config,
            scoring,
            bound: this.started,
            predecessor,
            successor: (sockets_to_give.clone(), this.sockets.supervised),
            replaced,
            on_ready: Box::new(move || {
                drop(ready);
                (this.on_ready)();
            }),
        };
        let mut control = control.spawn()?;

        // Who has connected while nobody served is not answered that nobody does.
        let hold = match (&last_word, outlive) {
            // The other server serves; the control thread gives up before this ends.
            (Some(_), _) => Duration::MAX,
            (None, true) => RESTART_HOLD_MAX,
            (None, false) => Duration::ZERO,
        };
        // This thread only waits.
        let waiting = Builder::new_current_thread().enable_all().build();
        waiting.map_err(AppError::Threads)?.block_on(async move {
            let mut shutdown = std::pin::pin!(shutdown);
            tokio::select! {
                () = &mut shutdown => {
                    control.stop();
                    control.ended().await;
                    return control.join();
                }
                () = control.ended() => return control.join(),
                // The sender is only ever dropped.
                _ = timeout(hold, is_ready) => {}
            }
            let edge = Edge::start(listener, &edge_scoring, limits, edge_threads)?;
            if let Some(last_word) = last_word {
                last_word.serving();
            }
            tokio::select! {
                () = shutdown => {}
                Ok(()) = is_replaced => way_down.is_replaced = true,
                () = control.ended() => return control.join(),
            }
            sockets_to_give.close();
            way_down.go(edge, cut).await?;
            control.stop();
            control.ended().await;
            control.join()
        })
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The listener of metrics, where one is asked for.
pub(super) fn bound_for_metrics(at: Option<MetricsAt>) -> Result<Option<Bound>, AppError> {
    let address = at.and_then(MetricsAt::address);
    address
        .map(|address| Bound::new(address, "--metrics"))
        .transpose()
}

/// Shows metrics on this runtime until it ends: they are of use while the server stops, too.
pub(super) fn spawn_metrics(bound: Bound, metrics: &Arc<Metrics>) -> Result<(), AppError> {
    let listener = tokio::net::TcpListener::from_std(bound.listener).map_err(AppError::Threads)?;
    let limits = ConnectionLimits {
        connections_max: ADMIN_CONNECTIONS_MAX,
        grace: ADMIN_GRACE,
    };
    let routes = metrics_routes(Arc::clone(metrics));
    drop(tokio::spawn(listen(
        listener,
        routes,
        limits,
        std::future::pending(),
    )));
    Ok(())
}

/// Shows metrics once their address is free, where they have one: the server before this one has it until it ends.
async fn show_metrics_when_free(at: Option<MetricsAt>, metrics: Arc<Metrics>) {
    loop {
        match bound_for_metrics(at) {
            Ok(None) => return,
            Ok(Some(bound)) => {
                if let Err(error) = spawn_metrics(bound, &metrics) {
                    warn!(%error, "cannot show metrics");
                }
                return;
            }
            Err(error) => {
                debug!(%error, "metrics wait for their address");
                tokio::time::sleep(METRICS_AGAIN_AFTER).await;
            }
        }
    }
}

/// The scoring side, without any endpoint yet.
fn scoring(config: &Config) -> Scoring {
    let metrics = Metrics::new();
    let bytes_max = bytes_in_flight_max(config.bytes_in_flight_max, config.body_bytes_max);
    let bytes = BytesInFlight::new(bytes_max, config.body_bytes_max, &metrics);
    Scoring {
        shows_metrics: config.metrics == Some(MetricsAt::Scoring),
        ..Scoring::new(Router::new(), metrics, bytes)
    }
}

fn server_file(
    scoring_address: SocketAddr,
    admin_address: SocketAddr,
    token: String,
) -> ServerFile {
    ServerFile {
        pid: std::process::id(),
        scoring_address,
        admin_address,
        token,
        started: Timestamp::now(),
    }
}

/// Copies of the sockets, for whoever takes this server's place.
fn sockets_to_give(scoring: &TcpListener, admin: &TcpListener) -> Result<SocketsToGive, AppError> {
    let copy = |one: &TcpListener| one.try_clone().map(OwnedFd::from);
    let copies = copy(scoring).and_then(|scoring| Ok((scoring, copy(admin)?)));
    let (scoring, admin) = copies.map_err(AppError::Threads)?;
    Ok(SocketsToGive::new(scoring, admin))
}

fn new_token() -> String {
    let mut token = [0; 32];
    getrandom::fill(&mut token).expect("the system has random numbers");
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

/// The token of the server before, if it has died: commands that wait for its successor already know no other.
fn known_token(data: &Path) -> Option<String> {
    Some(ServerFile::read(data).ok()??.token)
}

/// All that the control thread takes along.
struct Control {
    server: Arc<ServerFile>,
    listener: TcpListener,
    connections_max: usize,
    metrics: Option<Bound>,
    config: Config,
    scoring: Scoring,
    bound: Instant,
    /// The server whose place this one takes.
    predecessor: Option<Predecessor>,
    /// What another one would get, and whether there is a supervisor.
    successor: (SocketsToGive, bool),
    /// Told when another one has taken this one's place.
    replaced: oneshot::Sender<()>,
    on_ready: Box<dyn FnOnce() + Send>,
}

/// The control thread as seen by who waits for it.
struct ControlThread {
    stop: Option<oneshot::Sender<()>>,
    /// The end of the thread, also by a panic.
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<Result<(), AppError>>,
}

impl Control {
    fn spawn(self) -> Result<ControlThread, AppError> {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("serin-control".to_owned())
            .spawn(move || {
                let _end: oneshot::Sender<()> = end;
                let runtime = Builder::new_current_thread()
                    .thread_name("serin-task")
                    .enable_all()
                    .build()
                    .map_err(AppError::Threads)?;
                let ran = runtime.block_on(self.run(stopped));
                // A model that is still being tried or loaded does not hold up the end.
                runtime.shutdown_background();
                ran
            })
            .map_err(AppError::Threads)?;
        Ok(ControlThread {
            stop: Some(stop),
            ended,
            thread,
        })
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<(), AppError> {
        let controller = self.start_controller()?;
        if let Some(predecessor) = self.predecessor.take() {
            let equal = tokio::select! {
                equal = predecessor.until_equal(&controller, &self.scoring) => equal.map(|()| true),
                _ = &mut stopped => Ok(false),
            };
            if !matches!(equal, Ok(true)) {
                stop_controller(controller).await;
                return equal.map(|_| ());
            }
        }
        let mut admin = Admin::start(
            (self.listener, self.connections_max),
            &controller,
            &self.scoring,
            &self.server,
        )?;
        match self.metrics.take() {
            Some(bound) => spawn_metrics(bound, &self.scoring.metrics)?,
            None => drop(tokio::spawn(show_metrics_when_free(
                self.config.metrics,
                Arc::clone(&self.scoring.metrics),
            ))),
        }
        let data = &self.config.data;
        let asked = self.config.status_asked.clone();
        let successor = successor(
            data,
            self.successor,
            &controller,
            &self.scoring,
            &self.server,
        );
        let settled = settle(
            &controller,
            &self.scoring.readiness,
            self.bound,
            &self.server,
            self.on_ready,
        );
        tokio::select! {
            // In this order: who hears that the server is ready finds it.
            biased;
            never = self.server.keep_announced(data) => match never {},
            // Settles once, then waits for the end.
            never = settled => match never {},
            never = tell_status(asked, &self.scoring, self.bound, &controller) => match never {},
            never = systemd::keep_watchdog_quiet() => match never {},
            successor = successor => {
                info!(pid = successor.pid, "replaced");
                systemd::replaced_by(successor.pid);
                // Commands are for the other one from now on.
                admin.accept_no_more();
                // The edge may have ended by itself.
                _ = self.replaced.send(());
                _ = stopped.await;
            }
            _ = &mut stopped => {}
        }
        admin.stop().await;
        stop_controller(controller).await;
        if let Err(error) = self.server.remove(data) {
            warn!(%error, path = ?ServerFile::path(data), "cannot remove the server file");
        }
        Ok(())
    }

    fn start_controller(&self) -> Result<ControllerHandle, AppError> {
        let config = ControllerConfig {
            data: self.config.data.clone(),
            capacity: self.config.capacity,
            pinning: self.config.pinning,
            skus: self.config.skus.clone(),
            prober: self.config.prober.clone(),
            token_life: self.config.token_life,
            black_box: self.config.black_box,
            on_loss: self.config.on_loss,
        };
        Ok(Controller::start(
            config,
            Arc::clone(&self.scoring.router),
            Arc::clone(&self.scoring.metrics),
        )?)
    }
}

/// Administration, served on the control thread.
struct Admin {
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<usize>,
}

impl Admin {
    fn start(
        (listener, connections_max): (TcpListener, usize),
        controller: &ControllerHandle,
        scoring: &Scoring,
        server: &Arc<ServerFile>,
    ) -> Result<Self, AppError> {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(AppError::Threads)?;
        let rollouts = judge(controller.clone(), Arc::clone(&scoring.metrics));
        let desk = rollouts.downgrade();
        scoring.feedback.open(move |endpoint, body| {
            let rollouts = desk.upgrade();
            Box::pin(async move {
                let (status, body) = hear_labels(&rollouts?, endpoint, body).await;
                Some(Told { status, body })
            })
        });
        let administration = Administration {
            rollouts,
            controller: controller.clone(),
            scoring: scoring.clone(),
            server: Arc::clone(server),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = ConnectionLimits {
            connections_max,
            grace: ADMIN_GRACE,
        };
        let routes = crate::admin::routes(administration);
        let serving = tokio::spawn(listen(listener, routes, limits, async {
            _ = stopped.await;
        }));
        Ok(Self {
            stop: Some(stop),
            serving,
        })
    }

    fn accept_no_more(&mut self) {
        drop(self.stop.take());
    }

    async fn stop(mut self) {
        self.accept_no_more();
        drop(self.serving.await);
    }
}

async fn stop_controller(controller: ControllerHandle) {
    if timeout(STOP_MAX, controller.shutdown()).await.is_err() {
        warn!(
            after_s = STOP_MAX.as_secs(),
            "models that still load or run are cut off"
        );
    }
}

/// Waits for a process that takes this one's place; never ends where there is no way to do so.
async fn successor(
    data: &Path,
    (sockets, supervised): (SocketsToGive, bool),
    controller: &ControllerHandle,
    scoring: &Scoring,
    server: &ServerFile,
) -> Successor {
    let handover = match Handover::listen(data, sockets, supervised) {
        Ok(handover) => handover,
        Err(error) => {
            warn!(%error, "this server cannot be replaced while it runs: there is no socket in its data folder");
            return std::future::pending().await;
        }
    };
    let went_wrong = || {
        // The other process may have written its own.
        if let Err(error) = server.write(data) {
            warn!(%error, path = ?ServerFile::path(data), "cannot write the server file");
        }
    };
    handover
        .until_replaced(controller, scoring, went_wrong)
        .await
}

/// Tells the status whenever it is asked for; never ends by itself.
async fn tell_status(
    asked: Option<watch::Receiver<()>>,
    scoring: &Scoring,
    bound: Instant,
    controller: &ControllerHandle,
) -> std::convert::Infallible {
    let tell = || {
        let status = Status::of(scoring, bound);
        status.with_changes_of(&controller.view()).tell();
    };
    status::when_asked(asked, tell).await
}

/// Says once that the server is ready; never ends by itself.
async fn settle(
    controller: &ControllerHandle,
    readiness: &Readiness,
    bound: Instant,
    server: &ServerFile,
    on_ready: Box<dyn FnOnce() + Send>,
) -> std::convert::Infallible {
    controller.settled_telling(|| readiness.look_again()).await;
    readiness.set();
    info!(
        scoring = %server.scoring_address,
        admin = %server.admin_address,
        revision = %controller.view().revision,
        after_ms = bound.elapsed().as_millis(),
        "ready"
    );
    systemd::ready();
    on_ready();
    std::future::pending().await
}

impl ControlThread {
    fn stop(&mut self) {
        drop(self.stop.take());
    }

    async fn ended(&mut self) {
        if !self.ended.is_terminated() {
            // The sender is only ever dropped.
            _ = (&mut self.ended).await;
        }
    }

    fn join(self) -> Result<(), AppError> {
        self.thread.join().unwrap_or(Err(AppError::ControlEnded))
    }
}
