"""What plays a part in a run can do what that part is asked for, with the same arguments."""

import inspect
from typing import get_type_hints

import pytest

from migrator.ratelimit.throttle import Throttle
from migrator.report.journal import Journal
from migrator.run.engine import Engine
from migrator.run.pool.roles import Conductor, Controls, Events


@pytest.mark.parametrize(
    ("role", "actor"), [(Controls, Throttle), (Events, Journal), (Conductor, Engine)], ids=lambda one: one.__name__
)
def test_actor_can_play_its_role(role: type, actor: type) -> None:
    """Each method takes what the role's takes; what a run may read of it is there."""
    for name, wanted in vars(role).items():
        if name.startswith("_"):
            continue
        if inspect.isfunction(wanted):
            asked = inspect.signature(wanted).parameters
            taken = inspect.signature(getattr(actor, name)).parameters
            assert list(taken)[: len(asked)] == list(asked), name
            further = list(taken.values())[len(asked) :]
            assert all(one.default is not one.empty or one.kind is one.VAR_KEYWORD for one in further), name
        else:
            assert (
                hasattr(actor, name) or name in get_type_hints(actor) or f"self.{name} = " in inspect.getsource(actor)
            )
