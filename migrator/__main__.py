"""Lets ``python -m migrator`` do what ``migrator`` does."""

from typing import NoReturn

from migrator.cli.signals import SIGNALS

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line; signals are handled from here on, before the rest is imported."""
    SIGNALS.install()
    from migrator.cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
