"""Which quota a session shares: by the state folder, by a name, or by the credential under a key of all hosts."""

from pathlib import Path

import pytest

from migrator.api.shared_quota import open_shared_quota, quota_identity
from migrator.errors import FolderError, OptionError
from migrator.options import RunOptions
from migrator.secret import Secret

URL = "https://api.example/v1"
CREDENTIAL = ("basic", "key", "made-up-secret")


def identity(url: str = URL, credential: tuple[str, ...] = CREDENTIAL, name: str | None = None) -> bytes:
    """Return what names a quota."""
    return quota_identity(RunOptions(quota_name=name), base_url=url, identity=credential)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the key of all hosts."""
    monkeypatch.setenv("MIGRATOR_KEY", "a key that is long enough")


@pytest.mark.usefixtures("key")
def test_one_credential_is_one_quota() -> None:
    """It is the same for the same server and credential, whatever the path and the letter case of the host."""
    assert identity() == identity("https://API.example/v2")
    others = [identity("https://eu.example/v1"), identity(credential=("basic", "other")), identity(name="night")]
    assert len({identity(), *others}) == 4


def test_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with one name share a quota whatever their credentials are; servers stay apart."""
    monkeypatch.delenv("MIGRATOR_KEY", raising=False)

    assert identity(name="night") == identity(credential=("bearer", "x"), name="night")
    assert identity(name="night") != identity("https://eu.example", name="night")


def test_neither_name_nor_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to give."""
    monkeypatch.delenv("MIGRATOR_KEY", raising=False)

    with pytest.raises(OptionError, match="give --quota-name NAME, or set MIGRATOR_KEY"):
        identity()


def test_identity_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a digest under the key: hosts with another key have another quota."""
    monkeypatch.setenv("MIGRATOR_KEY", "a key that is long enough")
    first = identity()
    monkeypatch.setenv("MIGRATOR_KEY", "another key that is long enough")

    assert len(first) == 32
    assert b"made-up-secret" not in first
    assert identity() != first


@pytest.mark.anyio
async def test_runs_of_one_state_folder_share_a_file(tmp_path: Path) -> None:
    """It lies beside what is learned of the server, and is made where it is missing."""
    learned = tmp_path / "api.example-1.json"

    async with open_shared_quota(
        RunOptions(), base_url=URL, identity=CREDENTIAL, learned=learned, tell=lambda _: None
    ) as quota:
        assert quota is not None

    made = {path.name for path in tmp_path.iterdir()}
    assert any(name.startswith("api.example-1-") and name.endswith(".quota") for name in made), made


@pytest.mark.anyio
async def test_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(FolderError, match="missing"):
        async with open_shared_quota(
            RunOptions(), base_url=URL, identity=(), learned=tmp_path / "missing" / "x.json", tell=lambda _: None
        ):
            pass


@pytest.mark.anyio
async def test_server_that_cannot_be_reached_is_told_and_done_without(tmp_path: Path) -> None:
    """A run goes on with its own pace where no Redis answers."""
    pytest.importorskip("redis")
    told: list[str | None] = []
    options = RunOptions(shared_quota=Secret("redis://127.0.0.1:9"), quota_name="night")

    async with open_shared_quota(
        options, base_url=URL, identity=(), learned=tmp_path / "x.json", tell=told.append
    ) as quota:
        assert quota is not None
    assert list(tmp_path.iterdir()) == []
