"""Waiting for a machine that others use too: a disturbed measurement is worth taking again, but not for ever."""

import time

import processes

# Cores that other programs may use in a window that counts as undisturbed.
NOISE_MAX = 0.1
SAMPLE_SECONDS = 0.25


class Patience:
    """How many seconds all of a measuring may still spend on waiting and on measuring again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def spend(self, seconds: float) -> bool:
        """Takes seconds, and says whether there were any left."""
        had = self.seconds > 0
        self.seconds -= seconds
        return had

    def wait_until_quiet(self) -> bool:
        """Waits until the machine has little else to do; says whether that came before the patience ended."""
        while self.spend(SAMPLE_SECONDS):
            before = processes.machine_cpu_seconds()
            time.sleep(SAMPLE_SECONDS)
            if processes.machine_cpu_seconds() - before <= NOISE_MAX * SAMPLE_SECONDS:
                return True
        return False
