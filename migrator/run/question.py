"""What a person is asked before a run starts: what will be sent where, what is left, and what can be undone."""

from urllib.parse import urlsplit

__all__ = ["question"]


def question(
    *, job: str, kind: str, method: str, total: int, server: str, undo: str, unfinished: str | None, left: int
) -> str:
    """Return the question; the answer has to be yes.

    Args:
        job: the job's name.
        kind: run, retry or rollback.
        method: the requests' method.
        total: the run's items.
        server: its URL.
        undo: what a rollback can do afterwards.
        unfinished: the run that is resumed; None for a new one.
        left: its items that are not finished.
    """
    what = job if kind == "run" else f"{job} ({kind})"
    items = "1 item" if total == 1 else f"{total:,} items"
    lines = [f"{what}: {method} {items} on {urlsplit(server).netloc}"]
    if unfinished is not None:
        lines.append(f"Resumes {unfinished}: {left:,} of {items} {'is' if left == 1 else 'are'} left")
    return "\n".join([*lines, f"Rollback: {undo}", "Type yes to start"])
