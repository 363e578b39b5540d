"""A script that does nothing with a body, so that what is measured is what stands around it."""

import json


def init():
    """Nothing to load."""


def run(data):
    """The numbers of the request, counted."""
    return {"count": len(json.loads(data)["data"])}
