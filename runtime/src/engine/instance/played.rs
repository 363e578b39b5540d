//! An instance that a test plays: it has a sender's half like any other, and no lane behind it.

use std::thread;

use super::*;
use crate::engine::lane::Request as _;
use crate::engine::{RequestHead, RunError, Scored};

impl InstanceHandle {
    /// An instance whose answers a test gives, on a thread that ends with the last handle.
    pub(crate) fn played(
        runs_a_script: bool,
        answer: impl Fn(Option<&RequestHead>, &[u8]) -> Result<Scored, RunError> + Send + 'static,
    ) -> Self {
        const CONCURRENCY: u32 = 4;
        let state = Arc::new(InstanceState::new(CONCURRENCY));
        let (inbox, jobs) = bounded(4);
        let inbox = Arc::new(inbox);
        let named = thread::Builder::new().name("played".to_owned());
        let work = move || {
            while let Ok(Message::Job(mut job)) = jobs.recv() {
                let began = Instant::now();
                let body = match job.payload() {
                    Payload::Body(body) => body.clone(),
                    Payload::Tensors(_) => Bytes::new(),
                };
                let outcome = answer(job.head(), &body);
                let timings = job.timings();
                timings.run_began = Some(began);
                timings.ran = Some(Instant::now());
                job.finish(outcome);
            }
        };
        drop(named.spawn(work).unwrap());
        Self(Arc::new(SenderSide {
            lanes: Arc::new(Lanes::none(Arc::clone(&inbox), Arc::clone(&state))),
            state,
            inbox,
            signature: Arc::new(Signature {
                inputs: Vec::new(),
                outputs: Vec::new(),
            }),
            schemas: None,
            profile: Arc::new(ModelProfile::of_script()),
            inline: InlineTrust::new(false),
            joins_over_time: true,
            runs_a_script,
            cold_left: AtomicU32::new(COLD_REQUESTS),
        }))
    }
}
