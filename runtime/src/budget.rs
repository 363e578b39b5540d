//! A time budget that somebody may end early: how long measuring may take, and whether it was asked to stop.
//!
//! Threads: owned by the thread that measures, which waits in [`Budget::sleep`]; it must not be one of a tokio
//! runtime. Whoever holds the other end of the channel asks it to stop.
//! Not here: what the time is spent on (`bench`), signals (`cli`).

use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

/// The end of measuring before all was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The time does not suffice.
    Time,
    /// It was asked to stop.
    Stop,
}

/// Time to measure in.
#[derive(Debug)]
pub struct Budget {
    started: Instant,
    until: Instant,
    stop: watch::Receiver<bool>,
    /// Waits, for as long as nobody asks to stop.
    runtime: Runtime,
}

impl Budget {
    /// A budget that begins now, and ends after `length` or when `stop` becomes true.
    ///
    /// # Errors
    ///
    /// The system has no timer left.
    pub fn start(length: Duration, stop: watch::Receiver<bool>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let started = Instant::now();
        Ok(Self {
            started,
            until: started + length,
            stop,
            runtime,
        })
    }

    /// The time since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time that is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Goes on when there is time for something that takes so long, and nobody asked to stop.
    ///
    /// # Errors
    ///
    /// [`Over::Stop`] when it was asked to stop, else [`Over::Time`] when the time does not suffice.
    pub fn has(&self, needed: Duration) -> Result<(), Over> {
        match (self.is_stopped(), self.left() < needed) {
            (true, _) => Err(Over::Stop),
            (false, true) => Err(Over::Time),
            (false, false) => Ok(()),
        }
    }

    /// Sleeps, past the end of the budget if need be, unless it is asked to stop.
    ///
    /// # Errors
    ///
    /// [`Over::Stop`], at once when it is asked.
    pub fn sleep(&self, duration: Duration) -> Result<(), Over> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = asked(self.stop.clone()) => Err(Over::Stop),
                () = tokio::time::sleep(duration) => Ok(()),
            }
        })
    }
}

/// Ends when it is asked to; never when nobody can ask any more.
async fn asked(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let (_tell, stop) = watch::channel(false);
        let budget = Budget::start(Duration::from_secs(60), stop).unwrap();
        assert_eq!(budget.has(Duration::from_secs(1)), Ok(()));
        assert_eq!(budget.has(LONG), Err(Over::Time));
        assert!(budget.left() <= Duration::from_secs(60));
    }

    #[test]
    fn a_stop_ends_a_sleep_and_is_told_before_the_time() {
        let (tell, stop) = watch::channel(false);
        let budget = Budget::start(Duration::ZERO, stop).unwrap();
        assert!(!budget.is_stopped());
        tell.send_replace(true);
        assert_eq!(budget.sleep(LONG), Err(Over::Stop));
        assert_eq!(budget.has(LONG), Err(Over::Stop));
    }

    #[test]
    fn a_sleep_ends_by_itself_when_nobody_can_ask_any_more() {
        let (tell, stop) = watch::channel(false);
        drop(tell);
        let budget = Budget::start(LONG, stop).unwrap();
        assert_eq!(budget.sleep(Duration::from_millis(1)), Ok(()));
    }
}
