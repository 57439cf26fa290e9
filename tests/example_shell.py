"""A shell for the examples of the documentation: commands run in forks of one process that has loaded torch already.

``python example_shell.py SOCKET`` serves; ``make_stubs`` writes the programs that a shell then finds on its path. A
stub hands its arguments, environment, folder and standard descriptors to the server, whose fork runs the real ``main``
of the command on them: what an example does is what it does for people, but for the second that each start would cost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "rcan-video": "upscale",
    "rcan-video-compare": "compare",
    "rcan-video-eval": "evaluate",
    "rcan-video-train": "train",
}
LONGEST = 60  # seconds of a command
_ABOVE = 20  # descriptors below are those of the command

_STUB = """#!{python} -IS
import json, os, socket, sys
given = [number for number in range(10) if os.path.exists(f"/dev/fd/{{number}}")]
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ), given]).encode()
socket.send_fds(server, [len(order).to_bytes(4, "big")], given)
server.sendall(order)
sys.exit(int(server.recv(8) or b"99"))
"""


def make_stubs(folder: Path, address: str) -> None:
    """Programs in ``folder`` by the names of the commands, and ``python``."""
    for name in (*COMMANDS, "python"):
        stub = folder / name
        stub.write_text(_STUB.format(python=sys.executable, address=address, name=name), encoding="utf-8")
        stub.chmod(0o755)


def serve(address: str) -> None:
    for module in ("torch", "av", "cv2", "rcan_video.job", "rcan_video.commands.upscale"):
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        os.write(1, b"ready\n")
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(client)
            client.close()


def _answer(client: socket.socket) -> None:
    """Run one command in this fork, and end it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.alarm(LONGEST)
    code = 98
    try:
        client = socket.socket(fileno=_high(client.detach()))
        size, received, _, _ = socket.recv_fds(client, 4, 10)
        length, order = int.from_bytes(size, "big"), b""
        while len(order) < length:
            order += client.recv(length - len(order))
        name, arguments, folder, environment, given = json.loads(order)
        received = [_high(descriptor) for descriptor in received]
        os.closerange(0, _ABOVE)
        for number, descriptor in zip(given, received, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [name, *arguments]
        code = _run(name, arguments)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.closerange(0, _ABOVE)  # whoever reads a pipe sees its end before the exit code is known
        client.sendall(str(code).encode())
        os._exit(0)


def _high(descriptor: int) -> int:
    """The same under a number that no command is given."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE)


def _run(name: str, arguments: list[str]) -> int:
    try:
        if name == "python":
            sys.argv = arguments
            sys.path.insert(0, "")
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            import_module(f"rcan_video.commands.{COMMANDS[name]}").main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
