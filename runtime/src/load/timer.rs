//! Waits for an instant to some microseconds: tokio's own timers have steps of a millisecond.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

/// A timer of the kernel that the runtime's own poll hears. It is read as a pipe is: there are eight bytes once it went off.
#[derive(Debug)]
pub(super) struct Timer(Receiver);

impl Timer {
    /// Within a tokio runtime with I/O.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Returns at once when the instant has passed.
    pub(super) async fn sleep_until(&self, instant: Instant) -> io::Result<()> {
        let left = instant.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: timespec(left),
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_instant_is_announced_before_it_is_there() {
        let timer = Timer::new().unwrap();
        for us in [0, 1, 50, 700, 1500] {
            let instant = Instant::now() + Duration::from_micros(us);
            timer.sleep_until(instant).await.unwrap();
            assert!(Instant::now() >= instant);
        }
        // One that was given up does not go off in the next one's place.
        let soon = Instant::now() + Duration::from_millis(100);
        tokio::select! {
            biased;
            _slept = timer.sleep_until(soon) => panic!("a tenth of a second has passed within one poll"),
            () = std::future::ready(()) => {}
        }
        let later = Instant::now() + Duration::from_millis(200);
        timer.sleep_until(later).await.unwrap();
        assert!(Instant::now() >= later);
    }
}
