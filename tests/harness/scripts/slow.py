"""A script that sleeps as long as the body says."""

import time


def init():
    pass


def run(data):
    time.sleep(float(data))
    return "slept"
