"""Bulk PATCHes to a REST API, at the quota's edge, with every item accounted for.

The names in `__all__` are the public face. They are imported when they are first used, so that ``import migrator`` and
the command line's help stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migrator.commands.face import Options, Result, check, load_job, migrate, plan
    from migrator.errors import MigratorError
    from migrator.job.job_file import Job
    from migrator.job.problems import JobError
    from migrator.ratelimit.throttle import Throttle
    from migrator.results import ItemResult, Status, StopReason
    from migrator.secret import Secret

__version__ = "0.2.0"

__all__ = [
    "ItemResult",
    "Job",
    "JobError",
    "MigratorError",
    "Options",
    "Result",
    "Secret",
    "Status",
    "StopReason",
    "Throttle",
    "check",
    "load_job",
    "migrate",
    "plan",
]

_HOMES = {
    "ItemResult": "migrator.results",
    "Job": "migrator.job.job_file",
    "JobError": "migrator.job.problems",
    "MigratorError": "migrator.errors",
    "Options": "migrator.commands.face",
    "Result": "migrator.commands.face",
    "Secret": "migrator.secret",
    "Status": "migrator.results",
    "StopReason": "migrator.results",
    "Throttle": "migrator.ratelimit.throttle",
    "check": "migrator.commands.face",
    "load_job": "migrator.commands.face",
    "migrate": "migrator.commands.face",
    "plan": "migrator.commands.face",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
