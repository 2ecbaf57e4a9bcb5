"""The program in processes of their own that start quickly: forked from a server that has imported all of it.

To import the program takes half a second of CPU, and the tests start it hundreds of times. A forked process is like a
new one but for that: it has its own environment, folder, streams and signals. Tests that are about the start or the
last moments of a process use `Workplace.start`. Forked processes run on asyncio's own event loop, others on uvloop's.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

__all__ = ["Forked", "run", "start", "stop"]

LONGEST_REQUEST: Final = 1 << 20
EXIT_WAIT_S: Final = 200.0


class Forked:
    """A process that was forked.

    Args:
        connection: to its parent, which tells its id and its exit code.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.told = connection.makefile("r")
        self.pid = int(self.told.readline())

    def wait(self) -> int:
        """Return the exit code; one below zero is the signal that ended it.

        Raises:
            TimeoutError: it did not end in time, and was killed.
        """
        ended, _, _ = select.select([self.connection], [], [], EXIT_WAIT_S)
        if not ended:
            self.send_signal(signal.SIGKILL)
        with self.connection, self.told:
            code = int(self.told.readline())
        if not ended:
            raise TimeoutError(f"process {self.pid} did not end within {EXIT_WAIT_S:.0f} s")
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def start(arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], streams: tuple[int, int, int]) -> Forked:
    """Start the program.

    Args:
        arguments: of the command line.
        folder: its working folder.
        env: its environment.
        streams: descriptors of its standard input, output and error.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_server()[1])
    told = json.dumps([list(arguments), str(folder), dict(env)]).encode()
    assert len(told) < LONGEST_REQUEST
    socket.send_fds(connection, [told + b"\n"], list(streams))
    return Forked(connection)


def run(arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], stdin: str = "") -> tuple[int, str, str]:
    """Run the program to its end, and return its exit code, its output and its errors."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        streams = (given.fileno(), out.fileno(), err.fileno())
        code = start(arguments, folder=folder, env=env, streams=streams).wait()
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


def stop() -> None:
    """End the server, so that its time counts as ours, if it was started."""
    if _server.cache_info().currsize:
        process, address = _server()
        process.communicate()
        shutil.rmtree(Path(address).parent)
        _server.cache_clear()


@cache
def _server() -> tuple["subprocess.Popen[str]", str]:
    address = f"{tempfile.mkdtemp(prefix='forked-')}/socket"
    command = [sys.executable, __file__, address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process, address


def _serve(address: str) -> socket.socket:
    """Fork a process for each connection until standard input ends; in such a process, return the connection."""
    import migrator

    for module in pkgutil.walk_packages(migrator.__path__, "migrator."):
        # What few tests need would make every fork dearer.
        if not module.name.endswith("__main__") and not module.name.startswith("migrator.cluster"):
            importlib.import_module(module.name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        print("ready", flush=True)
        while sys.stdin.fileno() not in select.select([listening.fileno(), sys.stdin.fileno()], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                return connection
            connection.close()
            _reap()
    _reap()
    sys.exit()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _become(connection: socket.socket) -> None:
    """Fork once more: the parent tells the child's id and its end, the child takes the place of a new process."""
    told = b""
    descriptors: list[int] = []
    with connection:
        while not told.endswith(b"\n"):
            some, found, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 3)
            told, descriptors = told + some, descriptors + found
        if pid := os.fork():
            connection.sendall(f"{pid}\n".encode())
            connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
            os._exit(0)
    arguments, folder, env = json.loads(told)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    sys.argv = ["migrator", *arguments]


def _be_the_program() -> NoReturn:
    """Run the program, and leave without taking the interpreter apart, which would copy all of its memory."""
    from migrator.__main__ import main

    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001  shown as Python shows it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _become(_serve(sys.argv[1]))
    _be_the_program()
