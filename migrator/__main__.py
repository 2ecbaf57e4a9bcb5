"""Lets ``python -m migrator`` do what ``migrator`` does."""

import gc
from typing import NoReturn

from migrator.cli.signals import SIGNALS

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line; signals are handled from here on, before the rest is imported."""
    try:
        SIGNALS.install()
        # Imports make objects that stay: to look for garbage among them takes a tenth of the start.
        gc.disable()
        from migrator.cli.main import main as run

        run()
    finally:
        SIGNALS.ignore()


if __name__ == "__main__":
    main()
