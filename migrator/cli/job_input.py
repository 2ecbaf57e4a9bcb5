"""How the command line finds a job, and what the user lets its file take from outside."""

import os
from collections.abc import Mapping

from migrator.commands.face import load_job
from migrator.job.job_file import Job
from migrator.job.profile.variables import Allowed
from migrator.options import resolve

__all__ = ["allowed", "load"]


def load(job: str, items: str | None, template: str | None, typed: Mapping[str, object]) -> Job:
    """Return the job that the command line names."""
    permitted = allowed(typed)
    return load_job(
        job,
        items=items,
        template=template,
        env=os.environ,
        allow_commands=permitted.commands,
        allow_env=permitted.env,
        allow_files=permitted.files,
        credentials=not typed.get("no_credentials"),
    )


def allowed(typed: Mapping[str, object]) -> Allowed:
    """Return what a job file may take from outside: the user says so, and never the job file.

    Raises:
        OptionError: a value is not allowed.
    """
    named = {name: typed.get(name) for name in ("allow_commands", "allow_env", "allow_file")}
    variables = {f"MIGRATOR_{name.upper()}" for name in named}
    env = {name: value for name, value in os.environ.items() if name in variables}
    options = resolve(command_line=named, env=env, job_run={}, source="")  # type: ignore[arg-type]
    return Allowed(
        commands=options.allow_commands, env=frozenset(options.allow_env or ()), files=options.allow_file or ()
    )
