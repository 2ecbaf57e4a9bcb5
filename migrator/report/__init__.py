"""Views of a run, made from its ledger and its events."""

import sys
from importlib import import_module
from types import ModuleType
from typing import cast

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # structlog imports rich, and rich pygments, for tracebacks that no run prints. That is half of its start (60 ms).
    sys.modules["rich"] = cast("ModuleType", None)
    try:
        import_module("structlog")
    finally:
        del sys.modules["rich"]
