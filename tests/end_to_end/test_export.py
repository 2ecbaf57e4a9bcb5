"""What `export` writes is what the example job takes."""

import csv
from pathlib import Path

from conftest import Workplace
from sandboxes import SandboxProcess

JOB = str(Path(__file__).parents[2] / "jobs" / "rotate-slack-webhooks.json")
FILLED = 3


def test_export_fits_the_example_job(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """With the new webhooks filled in, the exported file is checked and sent as it is, and redacted files hide both."""
    server = ("--base-url", sandbox.url)
    assert workplace.run("export", "confluent-cloud", "--out", "integrations.csv", *server).code == 0
    path = workplace.folder / "integrations.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))[:FILLED]
    old = [row["target.webhook_url"] for row in rows]
    new = [f"https://hooks.slack.example/services/T/B/filled-in-{number}" for number in range(FILLED)]
    with path.open("w") as file:
        table = csv.DictWriter(file, [*rows[0], "webhook_url"])
        table.writeheader()
        table.writerows(row | {"webhook_url": url} for row, url in zip(rows, new, strict=True))

    checked = workplace.run("check", JOB, "--items", "integrations.csv")
    done = workplace.run("run", JOB, "--items", "integrations.csv", "--yes", "--redact-files", *server)

    assert (checked.code, checked.out) == (0, f"integrations.csv: {FILLED} items, no problems\n")
    assert (done.code, workplace.summary()["counts"]["succeeded"]) == (0, FILLED)
    written = "".join(found.read_text(errors="replace") for found in workplace.last_run().iterdir() if found.is_file())
    assert [url for url in (*old, *new) if url in written] == []
