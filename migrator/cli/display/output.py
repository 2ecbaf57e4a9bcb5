"""What a run shows: --progress, --quiet and --log-level meet here, and nowhere else."""

import msgspec

from migrator.options import Progress, RunOptions

__all__ = ["Output", "output_of"]


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What a run shows.

    Attributes:
        display: `bar`, `plain` or `none`.
        level: the least important events on standard error; None for no events, since the display is there.
    """

    display: Progress
    level: str | None


def output_of(options: RunOptions, *, terminal: bool) -> Output:
    """Return what a run shows.

    Args:
        options: what the user has set.
        terminal: whether standard error is a terminal.
    """
    display = Progress.NONE if options.quiet else options.progress
    if display is Progress.AUTO:
        display = Progress.BAR if terminal else Progress.PLAIN
    if display is Progress.BAR:
        return Output(display=display, level=None)
    quieter = display is Progress.NONE and options.log_level == "info"
    return Output(display=display, level="warning" if quieter else options.log_level)
