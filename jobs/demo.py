"""Rehearse the rotation of `rotate-slack-webhooks.json` against the sandbox: what `make demo` runs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

JOBS = Path(__file__).parent
KEY = {"CONFLUENT_CLOUD_API_KEY": "DEMO", "CONFLUENT_CLOUD_API_SECRET": "made-up-for-the-demo"}
SANDBOX = ["--items=400", "--limit=150", "--window=10", "--latency=60ms", "--jitter=30ms", "--error-rate=1%"]


def main() -> int:
    """Start the sandbox, run the job against it, stop the sandbox."""
    migrator = [sys.executable, "-m", "migrator"]
    keys = ["--api-key", KEY["CONFLUENT_CLOUD_API_KEY"], "--api-secret", KEY["CONFLUENT_CLOUD_API_SECRET"]]
    with subprocess.Popen([*migrator, "sandbox", *SANDBOX, *keys], stdout=subprocess.PIPE, text=True) as sandbox:
        try:
            announced = sandbox.stdout.readline() if sandbox.stdout is not None else ""
            url = announced.removeprefix("listening on ").strip()
            state = tempfile.mkdtemp(prefix="migrator-demo-")
            job = [str(JOBS / "rotate-slack-webhooks.json"), "--base-url", url, "--state", state, "--yes"]
            return subprocess.run([*migrator, "run", *job], env=os.environ | KEY, check=False).returncode
        finally:
            sandbox.terminate()


if __name__ == "__main__":
    sys.exit(main())
