"""A script that says what is around it."""

import os
import sys

import beside

NAMES = ("AML_APP_ROOT", "AZUREML_MODEL_DIR", "AZUREML_ENTRY_SCRIPT", "AZUREML_SOURCE_DIRECTORY", "OURS")
at_import = os.environ.get("OURS")


def init():
    with open(os.path.join(os.getenv("AZUREML_MODEL_DIR"), "model.txt")) as file:
        globals()["model"] = file.read()


def run(data):
    return {
        "variables": {name: os.environ.get(name) for name in NAMES},
        "at_import": at_import,
        "folder": os.getcwd(),
        "first": os.path.abspath(sys.path[0]),
        "beside": beside.WORDS,
        "model": model,  # noqa: F821
    }
