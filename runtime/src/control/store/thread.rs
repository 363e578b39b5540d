//! The store on a thread of its own.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::control::store::database::Store;
use crate::control::store::error::StoreError;
use crate::control::store::folder::DataFolder;

/// Work for the store, and who waits for it.
type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// The store on a thread of its own. Whatever else fills threads and pools, a commit has its place.
#[derive(Debug)]
pub(in crate::control) struct StoreThread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Takes the store, and the folder that it keeps locked.
    pub(in crate::control) fn start(mut store: Store, folder: DataFolder) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("serin-store".to_owned())
            .spawn(move || {
                while let Ok(job) = waiting.recv() {
                    job(&mut store);
                    for next in waiting.try_iter() {
                        next(&mut store);
                    }
                    // When whoever waited has heard: what was accepted is in the log, and this takes as long as a commit.
                    store.checkpoint();
                }
                drop(store);
                // Unlocked last: whoever gets the folder then finds a closed store.
                drop(folder);
            })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Has the store do something, and waits for it. In the order of the calls.
    pub(in crate::control) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(move |store| drop(reply.send(work(store))));
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Has the store do something that nobody waits for.
    pub(in crate::control) fn send(&self, work: impl FnOnce(&mut Store) + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            // A thread that has panicked takes none; then every commit is refused.
            drop(jobs.send(Box::new(work)));
        }
    }

    /// Waits until everything asked for is written, closes the store and unlocks its folder. Blocks.
    pub(in crate::control) fn close(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.close();
    }
}
