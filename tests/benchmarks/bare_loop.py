"""The yardstick of `make bench`: what one would write with aiohttp alone, workers that share an iterator of items."""

import asyncio
import sys

import aiohttp

WORKERS = 64


def webhook(number: int) -> str:
    """Return the made-up webhook of a row."""
    return f"https://hooks.slack.example/services/TEXAMPLE/BEXAMPLE{number:07d}/example-{number:07d}"


async def send_all(url: str, requests: int) -> None:
    """Send that many PATCHes and read their answers."""
    numbers = iter(range(1, requests + 1))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"target": {"kind": "Slack", "webhook_url": webhook(number)}}
            path = f"{url}/notifications/v1/integrations/i-{number:05d}"
            async with session.patch(path, json=body) as response:
                await response.json()

    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15.0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(work(session))


if __name__ == "__main__":
    asyncio.run(send_all(sys.argv[1], int(sys.argv[2])))
