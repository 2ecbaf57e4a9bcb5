"""JMESPath over what a server sent, which may be anything."""

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

__all__ = ["search"]


def search(expression: str, document: Any) -> Any:
    """Return what a JMESPath expression finds; None where a value has not the type that its functions need."""
    try:
        return jmespath.search(expression, document)
    except (JMESPathError, RecursionError):
        return None
