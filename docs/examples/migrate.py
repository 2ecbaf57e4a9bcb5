"""Migrate from Python: every row of a job, with the failures at the end."""

import asyncio
import os
import sys

import migrator


async def main(path: str) -> int:
    """Send every item, and show what failed."""
    job = migrator.load_job(path, env=os.environ)
    result = await migrator.migrate(job, migrator.Options(max_failures="1%", base_url=os.environ.get("API_URL")))
    async for item in result.items():
        if item.error is not None:
            sys.stderr.write(f"{item.key}: {item.error.message}\n")
    return int(result.exit_code)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
