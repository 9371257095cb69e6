"""An interpreter that has torch, scipy and pytest imported already: a launch of it is a fork.

`warm_python()` returns an executable that stands for `sys.executable` in tests that launch pytest
and are about what it does then, not about how it starts. It passes its arguments, environment,
folder and streams to a server, which forks; signals and the exit status are passed on, and the fork
and its children end where the executable is killed. Whatever a fork could do otherwise than a new
process (other options of python, variables that are read at import) gets a new process.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import importlib.metadata
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TypedDict

IMPORTED = (
    *("torch", "torch._dynamo", "transformers", "transformers.generation.utils", "numpy"),
    *("scipy.stats", "scipy.optimize", "PIL.Image", "duckdb", "pytest", "cattrs", "fsspec"),
    *("filelock", "xml.etree.ElementTree", "email.message"),
)
"""Not our own package, which the launched pytest imports and measures, nor any plugin of pytest."""
READ_AT_IMPORT = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "HF_", "TRANSFORMERS_", "TORCH")
PASSED_ON = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_ALL")
"""What a fork can do by itself. LC_ALL is C in a launch of ours: UTF-8, as everywhere else."""
PR_SET_PDEATHSIG = 1
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys

def launched_anew():
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])

def at_import(variables):
    return {{
        name: value for name, value in variables.items()
        if name.startswith({read_at_import}) and name not in {passed_on}
    }}

options = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]
if not options or options[0][:2] not in ("-c", "-m") or at_import(os.environ) != {variables}:
    launched_anew()
server = socket.socket(socket.AF_UNIX)
try:
    server.connect({address!r})
except OSError:
    launched_anew()
request = json.dumps(
    {{"argv": sys.argv, "folder": os.getcwd(), "variables": dict(os.environ)}}
).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
answers = server.makefile("rb")
process = int(answers.readline())
def forward(number, _frame):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass

for number in {forwarded}:
    signal.signal(number, forward)
status = int(answers.readline() or b"-9")
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


NEW_PYTHON = sys.executable
"""For a test of the launching itself: a new process each time."""


@cache
def warm_python() -> str:
    """Return the path of the executable; the first call of a process starts its server."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")  # its end is the process's
    address = str(Path(folder.name) / "server")
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
    }
    for name in PASSED_ON:
        variables.pop(name, None)
    lifeline, held = os.pipe()
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, address, str(lifeline)],
        env=variables,
        pass_fds=(lifeline,),
        start_new_session=True,  # signals to the group of the tests are not for it
        stdout=subprocess.PIPE,
    )
    os.close(lifeline)

    @atexit.register
    def end() -> None:
        os.close(held)
        server.wait()
        folder.cleanup()

    assert server.stdout is not None
    ready = server.stdout.readline()
    assert ready == b"ready\n", "the server of forks imports its packages and listens"
    server.stdout.close()
    client = CLIENT.format(
        python=sys.executable,
        address=address,
        variables=_at_import(variables),
        read_at_import=READ_AT_IMPORT,
        passed_on=PASSED_ON,
        forwarded=tuple(int(number) for number in FORWARDED),
    )
    executable = Path(folder.name) / "python"
    executable.write_text(client, encoding="utf-8")
    executable.chmod(0o700)
    return str(executable)


def _at_import(variables: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if name.startswith(READ_AT_IMPORT) and name not in PASSED_ON
    }


class _Request(TypedDict):
    argv: list[str]
    folder: str
    variables: dict[str, str]


class _Server:
    """Forks for each connection, until the process that started it has ended."""

    def __init__(self, address: str, lifeline: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._lifeline = lifeline
        self._clients: dict[int, socket.socket] = {}
        self._events = selectors.DefaultSelector()
        self._events.register(self._listener, selectors.EVENT_READ, self._launch)
        self._events.register(lifeline, selectors.EVENT_READ, self._end)

    def serve(self) -> None:
        while True:
            for key, _events in self._events.select():
                key.data()

    def _launch(self) -> None:
        client, _address = self._listener.accept()
        found = _received(client)
        if found is None:  # the executable was killed before it had said what to run
            client.close()
            return
        request, streams = found
        process = os.fork()
        if not process:
            self._events.close()
            os.close(self._lifeline)
            for inherited in (self._listener, client, *self._clients.values()):
                inherited.close()
            _become(request, streams)
        for stream in streams:
            os.close(stream)
        with suppress(BrokenPipeError, ConnectionResetError):  # its end is seen below
            client.sendall(b"%d\n" % process)
        self._clients[process] = client
        descriptor = os.pidfd_open(process)
        watched = partial(self._tell, process, descriptor)
        self._events.register(descriptor, selectors.EVENT_READ, watched)
        self._events.register(client, selectors.EVENT_READ, partial(self._kill, process))

    def _kill(self, process: int) -> None:
        """End a fork whose executable was killed, and what it started."""
        client = self._clients.get(process)
        if client is None:  # its end came first
            return
        self._events.unregister(client)
        for end in (os.kill, os.killpg):  # it may not be the first of its group yet
            with suppress(ProcessLookupError):
                end(process, signal.SIGKILL)

    def _tell(self, process: int, descriptor: int) -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        client = self._clients.pop(process)
        if client in self._events.get_map():
            self._events.unregister(client)
        self._events.unregister(descriptor)
        os.close(descriptor)
        with suppress(BrokenPipeError, ConnectionResetError), client:
            client.sendall(b"%d\n" % status)

    def _end(self) -> None:
        for process in tuple(self._clients):
            self._kill(process)
        os._exit(0)


def _import_packages() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    # pytest warns of a package with a plugin that was imported before: transformers imports one.
    plugins = {
        entry.value.partition(".")[0] for entry in importlib.metadata.entry_points(group="pytest11")
    }
    for name in [name for name in sys.modules if name.partition(".")[0] in plugins]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()


def _received(client: socket.socket) -> tuple[_Request, list[int]] | None:
    """Return what to run, and its streams; None from an executable that has ended meanwhile."""
    size, streams, _flags, _address = socket.recv_fds(client, 8, 3)
    text = b""
    while size and len(text) < int.from_bytes(size, "big"):
        piece = client.recv(1 << 16)
        if not piece:
            size = b""
        text += piece
    if size:
        return json.loads(text), streams
    for stream in streams:
        os.close(stream)
    return None


def _become(request: _Request, streams: list[int]) -> None:
    """Run what the request says, as a new interpreter does, and end the process.

    The fork's parent is the server: a program that signals its parent needs a new process. Should
    the server end, so does the fork, or it would hold its locks for ever.
    """
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    argv, variables = request["argv"], request["variables"]
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(request["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable, sys.orig_argv = argv[0], argv
    sys.dont_write_bytecode = bool(variables.get("PYTHONDONTWRITEBYTECODE"))
    tempfile.tempdir = None
    is_unbuffered = argv[1] == "-u"
    for number, name in ((1, "stdout"), (2, "stderr")):  # the server's own knew a file, perhaps
        opened = open(number, "wb", buffering=0 if is_unbuffered else -1, closefd=False)  # noqa: SIM115 - for good
        text = io.TextIOWrapper(
            opened,
            encoding="utf-8",
            errors="backslashreplace" if name == "stderr" else "strict",
            write_through=is_unbuffered,
            line_buffering=name == "stderr" or os.isatty(number),
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    option, *rest = argv[2:] if is_unbuffered else argv[1:]
    kind, program = option[:2], option[2:]
    if not program:
        program, *rest = rest
    sys.argv = [kind, *rest]
    own = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [
        request["folder"] if kind == "-m" else "",
        *(str(Path.cwd() / path) for path in own),
    ]
    sys.modules["__main__"] = types.ModuleType("__main__")
    if "COVERAGE_PROCESS_CONFIG" in variables or "COVERAGE_PROCESS_START" in variables:
        importlib.import_module("coverage").process_startup(force=True)
    os._exit(_status_of(kind, program))


def _status_of(kind: str, program: str) -> int:
    status: object = 0
    try:
        if kind == "-c":
            exec(compile(program, "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            runpy._run_module_as_main(program)  # type: ignore[attr-defined]  # what -m runs
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # what an interpreter ends with
    atexit._run_exitfuncs()
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    return status & 0xFF if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    _import_packages()
    server = _Server(sys.argv[1], int(sys.argv[2]))
    os.write(1, b"ready\n")
    server.serve()
