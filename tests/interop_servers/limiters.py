"""Limiters from PyPI, each in its usual settings: python limiters.py KIND PORT LIMIT WINDOW_SECONDS."""

# ruff: noqa: D103  each server's packages are loaded for it only, in an environment of its own

import math
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(app: Any, port: int) -> None:
    from waitress import serve as run

    run(app, host="127.0.0.1", port=port, threads=16)


def own(decide: Callable[[], tuple[bool, dict[str, str]]], port: int) -> None:
    """Serve an application without a framework's limiter: a decision, and headers."""

    def app(_environment: Any, start: Any) -> list[bytes]:
        allowed, headers = decide()
        start(
            "200 OK" if allowed else "429 Too Many Requests", [*headers.items(), ("Content-Type", "application/json")]
        )
        return [b"{}"]

    serve(app, port)


def flask_limiter(strategy: str, port: int, limit: int, seconds: int) -> None:
    from flask import Flask
    from flask_limiter import Limiter

    app = Flask("limited")
    rule = f"{limit} per {seconds} second"
    Limiter(
        lambda: "key", app=app, default_limits=[rule], strategy=strategy, headers_enabled=True, storage_uri="memory://"
    )
    app.route("/<path:path>", methods=["PATCH", "GET"])(lambda path: {"ok": path})
    serve(app, port)


def slowapi(port: int, limit: int, seconds: int) -> None:
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded

    limiter = Limiter(key_func=lambda: "key", headers_enabled=True)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

    async def done(request: Request, response: Response, path: str) -> dict[str, str]:
        del request, response
        return {"ok": path}

    app.patch("/{path:path}")(limiter.shared_limit(f"{limit}/{seconds} second", scope="all")(done))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def throttled(using: str, port: int, limit: int, seconds: int) -> None:
    from datetime import timedelta

    from throttled import Throttled, per_duration

    limiter = Throttled(key="key", using=using, quota=per_duration(timedelta(seconds=seconds), limit, burst=limit))

    def decide() -> tuple[bool, dict[str, str]]:
        result = limiter.limit()
        state = result.state
        headers = {
            "X-RateLimit-Limit": str(state.limit),
            "X-RateLimit-Remaining": str(state.remaining),
            "X-RateLimit-Reset": str(math.ceil(state.reset_after)),
        }
        if result.limited:
            headers["Retry-After"] = str(max(1, math.ceil(state.retry_after)))
        return not result.limited, headers

    own(decide, port)


def limits_alone(retry_after: bool, port: int, limit: int, seconds: int) -> None:
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(limit, seconds)

    def decide() -> tuple[bool, dict[str, str]]:
        if limiter.hit(item, "key"):
            return True, {}
        wait_s = limiter.get_window_stats(item, "key").reset_time - time.time()
        return False, {"Retry-After": str(max(1, math.ceil(wait_s)))} if retry_after else {}

    own(decide, port)


KINDS: dict[str, Callable[[int, int, int], None]] = {
    "Flask-Limiter, fixed window": lambda *a: flask_limiter("fixed-window", *a),
    "Flask-Limiter, moving window": lambda *a: flask_limiter("moving-window", *a),
    "Flask-Limiter, sliding counter": lambda *a: flask_limiter("sliding-window-counter", *a),
    "slowapi": slowapi,
    "throttled-py, GCRA": lambda *a: throttled("gcra", *a),
    "throttled-py, token bucket": lambda *a: throttled("token_bucket", *a),
    "limits, Retry-After": lambda *a: limits_alone(True, *a),
    "limits, bare 429": lambda *a: limits_alone(False, *a),
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](*map(int, sys.argv[2:]))
