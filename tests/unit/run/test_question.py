"""Before a run starts, a person reads what will happen where."""

from migrator.run.question import question


def asked(unfinished: str | None = None, *, kind: str = "run", total: int = 3000, left: int = 12) -> list[str]:
    """Return the lines of the question."""
    text = question(
        job="rotate",
        kind=kind,
        method="PATCH",
        total=total,
        server="https://api.confluent.cloud",
        undo="not possible",
        unfinished=unfinished,
        left=left,
    )
    return text.splitlines()


def test_new_run() -> None:
    """A new run names job, method, number, server, and what can be undone."""
    assert asked() == [
        "rotate: PATCH 3,000 items on api.confluent.cloud",
        "Rollback: not possible",
        "Type yes to start",
    ]
    assert asked(kind="rollback", total=1)[0] == "rotate (rollback): PATCH 1 item on api.confluent.cloud"


def test_resumed_run() -> None:
    """A resumed run says which one, and how many of its items are left."""
    assert (
        asked("rotate-20261124T110000Z-0a1b")[1] == "Resumes rotate-20261124T110000Z-0a1b: 12 of 3,000 items are left"
    )
