"""Fuzz every target for so many seconds: with atheris where it is installed, else with hypothesis' own fuzzing.

`make fuzz`, or `python tests/fuzz/fuzz.py --seconds 60 [--target job-file]`. The exit code is 1 if a promise is broken;
the input that did it is left in a file whose name is printed.
"""

import argparse
import importlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

CORPUS: Final = Path(tempfile.gettempdir()) / "migrator-fuzz"
LONGEST: Final = 4096
"""Bytes of an input: what goes wrong in a parser goes wrong in a short one."""


def with_atheris(name: str, seconds: int) -> int:
    """Fuzz a target, guided by the branches that an input takes; libFuzzer ends the process by itself."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["migrator"]):
        targets = importlib.import_module("targets")
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.SEEDS[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={CORPUS}/{name}-", str(folder)], targets.TARGETS[name])
    atheris.Fuzz()
    return 0


def with_hypothesis(name: str, seconds: int) -> int:
    """Fuzz a target with bytes that hypothesis makes of random ones."""
    from hypothesis import given
    from hypothesis import strategies as st

    targets = importlib.import_module("targets")
    target, seeds, rng = targets.TARGETS[name], targets.SEEDS[name], random.Random(name)

    @given(st.binary(max_size=LONGEST) | st.sampled_from(seeds))
    def one(data: bytes) -> None:
        last[0] = data
        target(data)

    fuzz: Any = one.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    last, count, until = [b""], 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            fuzz(rng.randbytes(rng.randint(1, LONGEST)))
        except Exception:
            CORPUS.mkdir(parents=True, exist_ok=True)
            left = CORPUS / f"{name}-crash"
            left.write_bytes(last[0])
            print(f"{name}: broken by {left}")
            raise
        count += 1
    print(f"{name}: {count} inputs")
    return 0


def main() -> int:
    """Fuzz one target, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--target")
    given = parser.parse_args()
    if given.target:
        guided = importlib.util.find_spec("atheris") is not None
        return (with_atheris if guided else with_hypothesis)(given.target, given.seconds)
    broken = []
    for name in importlib.import_module("targets").TARGETS:
        print(f"== {name}", flush=True)
        command = [sys.executable, __file__, "--target", name, "--seconds", str(given.seconds)]
        if subprocess.run(command, check=False).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "nothing is broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
