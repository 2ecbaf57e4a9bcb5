"""Keep to a server's rate limit with httpx."""

import asyncio
import sys

import httpx

import migrator


async def main(url: str) -> None:
    """Read one page a hundred times, as fast as the server's headers allow."""
    async with httpx.AsyncClient() as client, migrator.Throttle() as throttle:
        for _ in range(100):
            async with throttle.permit("api") as permit:
                response = await client.get(url)
                permit.answered(status=response.status_code, headers=response.headers)


asyncio.run(main(sys.argv[1]))
