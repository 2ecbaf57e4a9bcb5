"""Metrics of a job's last run, as a text file for the node exporter's textfile collector.

Every metric is a gauge, the requests and refusals too: they are those of one run and start again with the next, which
`rate()` over a counter would misread (prometheus.io/docs/practices/instrumentation, "batch jobs"). Each job has a file
of its own; the collector reads all `*.prom` files of its folder together and wants one help text a name.
"""

import os
import secrets
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from migrator.errors import MetricsError
from migrator.report.observer import Observer
from migrator.report.summary import Summary

__all__ = ["Metrics", "write_metrics"]

FILE_MODE: Final = 0o644
"""The node exporter runs as a user of its own. Nothing secret is in a summary's numbers."""

SUFFIX: Final = ".prom"
LAST_SUCCESS: Final = "migrator_last_success_timestamp_seconds"


class Metrics(Observer):
    """Writes the metrics of a run when it has ended.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ended(self, summary: Summary) -> Sequence[str]:
        """Write the file; return why it could not be written."""
        try:
            write_metrics(self._path, summary)
        except MetricsError as error:
            return [str(error)]
        return ()


def write_metrics(path: Path, summary: Summary) -> None:
    """Write the metrics of a run that has ended, all or none; every sample has the label `job`.

    Times are seconds since the epoch, durations seconds. The time of the last success is this run's end where its exit
    code is 0; else it is kept from what the file said before of the same job, and left out where that is not known.
    A quota that no answer has told is left out too.

    Raises:
        MetricsError: the file cannot be written; an earlier file is left as it was.
    """
    if path.suffix != SUFFIX:
        raise MetricsError(f"{path}: the node exporter reads only files whose names end in {SUFFIX}")
    try:
        # A rename would put a file into the place of a device or a link; /dev/stdout is one.
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise MetricsError(f"{path} is no regular file")
        registry = CollectorRegistry()
        registry.register(_LastRun(summary, succeeded=_last_success(path, summary)))
        _replace(path, generate_latest(registry))
    except OSError as error:
        raise MetricsError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None


class _LastRun(Collector):
    """Shows a summary as metrics."""

    def __init__(self, summary: Summary, *, succeeded: float | None) -> None:
        self._summary = summary
        self._succeeded = succeeded

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return one family a metric, in a fixed order; a value that is not known is no sample."""
        summary, quota = self._summary, self._summary["quota"]
        items = {**summary["counts"], "pending": summary["pending"]}
        return [
            self._one(
                "migrator_last_run_end_timestamp_seconds", "When the last run ended.", _seconds(summary["finished"])
            ),
            self._one(LAST_SUCCESS, "When a run last ended with every item as wanted.", self._succeeded),
            self._one("migrator_last_run_duration_seconds", "How long the last run took.", summary["elapsed_s"]),
            self._one("migrator_last_run_exit_code", "The last run's exit code; 0 is success.", summary["exit_code"]),
            self._each("migrator_last_run_items", "Items of the last run, by what became of them.", "status", items),
            self._one("migrator_last_run_requests", "Requests that the last run sent.", quota["requests"]),
            self._one(
                "migrator_last_run_refusals",
                "Requests of the last run that were refused for the rate limit.",
                quota["refused"],
            ),
            self._each(
                "migrator_last_run_throttle_wait_seconds",
                "How long requests of the last run were ready and none could go, by reason.",
                "reason",
                quota["waited_s"],
            ),
            self._one("migrator_quota_limit", "Requests that the quota last seen allows.", quota["limit"]),
            self._one("migrator_quota_remaining", "Requests that were left of it.", quota["remaining"]),
        ]

    def _one(self, name: str, text: str, value: float | None) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=["job"])
        if value is not None:
            family.add_metric([self._summary["job"]], value)
        return family

    def _each(self, name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=["job", label])
        for key, value in values.items():
            family.add_metric([self._summary["job"], key], value)
        return family


def _last_success(path: Path, summary: Summary) -> float | None:
    if summary["exit_code"] == 0:
        return _seconds(summary["finished"])
    # A file that is missing, damaged or of another program says nothing of earlier runs.
    with suppress(OSError, ValueError, LookupError):
        for family in text_string_to_metric_families(path.read_text("utf-8")):
            for sample in family.samples:
                if sample.name == LAST_SUCCESS and sample.labels.get("job") == summary["job"]:
                    return sample.value
    return None


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _replace(path: Path, content: bytes) -> None:
    """Write aside, under a name that the collector passes over, then rename."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, FILE_MODE)  # whatever the umask is
            os.fsync(descriptor)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
