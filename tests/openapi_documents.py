"""OpenAPI documents made of the members that a test is about."""

import json
from typing import Any

from migrator.job.openapi.document import Document

__all__ = ["document"]


def document(
    files: dict[str, str] | None = None, version: str = "3.1.0", swagger: str | None = None, **members: Any
) -> Document:
    """Return a document with further files beside it; with `swagger`, one of the older standard."""
    there = files or {}

    def read(name: str) -> str:
        try:
            return there[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    kind = {"openapi": version} if swagger is None else {"swagger": swagger}
    return Document(json.dumps({**kind, "paths": {}, **members}), "api.json", read)
