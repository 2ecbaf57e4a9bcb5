"""Inputs that broke a promise once: each is tried again with every run of the tests, and so are the seeds."""

import json
import runpy
from pathlib import Path

import pytest

# Fuzzing is started as a script, so that its folder is no package.
FOUND = runpy.run_path(str(Path(__file__).with_name("targets.py")))
JOB, SEEDS, TARGETS = FOUND["JOB"], FOUND["SEEDS"], FOUND["TARGETS"]


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in SEEDS.items() for seed in seeds])
def test_seeds(name: str, seed: bytes) -> None:
    """What the fuzzing begins with keeps the promises."""
    TARGETS[name](seed)


@pytest.mark.parametrize("url", ["http://1:7.0]0.1:9", "http://[::1/x", "http://[x]/"])
def test_base_url_with_brackets(url: str) -> None:
    """A server's address that is none is said to be so."""
    TARGETS["job-file"](json.dumps(JOB | {"api": {"base_url": url}}).encode())


@pytest.mark.parametrize("header", [b"5, 5;w=-1", b"5;w=-60"])
def test_negative_window(header: bytes) -> None:
    """A window shorter than none is not believed."""
    TARGETS["rate-limit-headers"](header)
