"""The public face as a type checker sees it: this file is checked, and never run."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import assert_type

import migrator


async def uses_everything(env: Mapping[str, str]) -> None:
    """Use each public name, with the type that it is promised to have."""
    job = migrator.load_job("job.json", items="items.csv", env=env)
    assert_type(job, migrator.Job)
    assert_type(migrator.check(job).items, int)
    options = migrator.Options(max_failures="1%", concurrency=8, only_changed=True, timeout=2.5)
    result = await migrator.migrate(job, options)
    assert_type(result, migrator.Result)
    assert_type(result.counts, Counter[migrator.Status])
    assert_type(result.folder, Path | None)
    assert_type(result.stopped, migrator.StopReason | None)
    assert_type(result.items(), AsyncIterator[migrator.ItemResult])
    async with migrator.Throttle() as throttle, throttle.permit("api.example.com") as permit:
        permit.answered(status=200, headers={"X-RateLimit-Remaining": "7"})
    assert_type(migrator.Secret("value").reveal(), str)
    try:
        await migrator.plan(job, options)
    except migrator.JobError as error:
        assert_type(error.problems[0].line, int | None)
    except migrator.MigratorError as error:
        assert_type(str(error), str)
