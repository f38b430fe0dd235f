"""A topology on its way to the daemon, which is at work on it while we get ready to follow."""
from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final

from controller.model.bounds import MAX_BYTES
from controller.tools import anchors
from controller.tools.client import ask
from controller.tools.rundir import Rundir

STDIN: Final = "-"


class Handover:
    """What was read of a file, and the daemon's answer to it, which may still be on its way."""

    def __init__(self, file: str, content: bytes | None, answer: Callable[[], dict[str, Any]]) -> None:
        self.file = file
        self.content = content  # None: the file cannot be read
        self.answer = answer  # waits for it; Refusal if no daemon runs


def hand_over(where: Rundir, verb: str, file: str, stdin: IO[bytes]) -> Handover:
    """Ask the daemon to `apply` or `plan` a file, `-` being stdin. What is unreadable or too large is not sent."""
    content = _content(file, stdin)
    if content is None or len(content) > MAX_BYTES:
        return Handover(file, content, lambda: {"ok": False})
    request = {"do": verb, "text": content.decode("utf-8", "surrogateescape"), "source": file,
               "filters": os.path.exists(anchors.filters_file(where.path))}
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(ask, where, request)
    pool.shutdown(wait=False)
    return Handover(file, content, answer.result)


def _content(file: str, stdin: IO[bytes]) -> bytes | None:
    try:
        if file == STDIN:
            return stdin.read(MAX_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
