"""A version of known behaviour: how long it takes and how often it fails is set by its deployment.

MEAN_MS, SIGMA   the time of an answer: lognormal around that mean (SIGMA 0.5 where nothing is said)
SLOWER           all times are so many times longer
FAILS            share of requests that fail
STALL_MS         once in five seconds nothing is answered for so long, by no version of the machine
BLOCKED          never answers
BUSY_MS          computes for so long, for each request
BURNS            so many processes compute without end from the first request on
"""

import math
import os
import random
import subprocess
import sys
import time

of = lambda name, otherwise: float(os.environ.get(name, otherwise))
MEAN_S, SIGMA, SLOWER = of("MEAN_MS", 4) / 1000, of("SIGMA", 0.5), of("SLOWER", 1)
FAILS, STALL_S, BLOCKED = of("FAILS", 0), of("STALL_MS", 0) / 1000, of("BLOCKED", 0)
BURNS, BUSY_S = int(of("BURNS", 0)), of("BUSY_MS", 0) / 1000
STALL_EVERY_S = 5
MU = math.log(MEAN_S) - SIGMA * SIGMA / 2


def init():
    random.seed()


def run(data):
    global BURNS
    while BURNS:
        BURNS -= 1
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
    if BLOCKED:
        time.sleep(3600)
    until = time.monotonic() + BUSY_S
    while time.monotonic() < until:
        pass
    since_stall = time.time() % STALL_EVERY_S
    if since_stall < STALL_S:
        time.sleep(STALL_S - since_stall)
    time.sleep(SLOWER * random.lognormvariate(MU, SIGMA))
    if random.random() < FAILS:
        raise ValueError("one of those that fail")
    return "1"
