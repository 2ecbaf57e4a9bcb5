"""Keep to a server's rate limit with aiohttp."""

import asyncio
import sys

import aiohttp

import migrator


async def main(url: str) -> None:
    """Read one page a hundred times, as fast as the server's headers allow."""
    async with aiohttp.ClientSession() as session, migrator.Throttle() as throttle:
        for _ in range(100):
            async with throttle.permit("api") as permit, session.get(url) as response:
                permit.answered(status=response.status, headers=response.headers)


asyncio.run(main(sys.argv[1]))
