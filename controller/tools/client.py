"""Asking a running daemon: one JSON line each way on its control socket."""
from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.rundir import Rundir

Json = dict[str, Any]
_PATIENCE: Final = 60.0  # seconds for an answer; reading a switch of 100,000 flows takes some
_POLL: Final = 0.05  # seconds between two looks at the status


def ask(where: Rundir, request: Json) -> Json:
    """The daemon's answer. Refusal if no daemon runs, or if it refuses."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(str(where.control))
            sock.sendall(json.dumps(request).encode() + b"\n")
            line = sock.makefile("rb").readline()
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        except TimeoutError:
            raise Refusal(f"The daemon at {where.path} does not answer. Look at its log.", MISSING) from None
        except PermissionError:
            raise Refusal(f"You may not ask the daemon at {where.path}. Run this as its owner.", MISSING) from None
        except OSError:
            raise Refusal(f"No daemon runs at {where.path}. Start one with `tunbridge run`, or name its --rundir.",
                          MISSING) from None
    if not line:
        raise Refusal(f"The daemon at {where.path} ended while it was asked. Look at its log.", MISSING)
    answer: Json = json.loads(line)
    if "error" in answer:
        raise Refusal(answer["error"], MISSING if answer.get("missing") else BAD_INPUT)
    return answer


def wait_for_status(where: Rundir, seconds: float, good: Callable[[Json], bool] = lambda status: status["ok"]) -> Json:
    """The status as soon as it is good (by default: all in sync), or the last one when the time is up.

    A daemon that does not run yet is waited for, too; Refusal if it does not run at the end.
    """
    deadline = time.monotonic() + seconds
    while True:
        late = not time.monotonic() < deadline  # `--wait nan`, too, comes to an end
        try:
            status = ask(where, {"do": "status"})
        except Refusal:
            if late:
                raise
        else:
            if late or good(status):
                return status
        time.sleep(_POLL)
