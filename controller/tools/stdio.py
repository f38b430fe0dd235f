"""Standard streams that never end a command by surprise: a reader that leaves, a full disk, a closed descriptor."""
from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from controller.tools.errors import MISSING, Refusal

_STDOUT, _STDERR = 1, 2


class _Patient(io.FileIO):
    """When its reader leaves (`tunbridge flows | head`), the command ends with its own code; nobody reads the rest."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self.fileno() == _STDOUT and not isinstance(error, BrokenPipeError):
                raise Refusal(f"The output cannot be written: {error.strerror}.", MISSING) from None
            return len(data)


def guard() -> None:
    """Make it so, for the rest of this process."""
    sys.stdin = sys.stdin or _nowhere()
    sys.stdout = _patient(sys.stdout, _STDOUT)
    sys.stderr = _patient(sys.stderr, _STDERR)


def _patient(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return _nowhere()
    raw = _Patient(number, "wb", closefd=False)
    # Where the terminal cannot show a name, its characters are escaped.
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors="backslashreplace",
                            line_buffering=raw.isatty() or number == _STDERR)


def _nowhere() -> TextIO:
    return open(os.devnull, "r+", encoding="utf-8")
