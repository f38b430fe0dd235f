"""Standard streams that never end a command by surprise: a reader that leaves, a full disk, a closed descriptor."""
from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from controller.tools.errors import MISSING, Refusal

_STDOUT = 1


class _Stdout(io.FileIO):
    """When its reader leaves (`tunbridge flows | head`), the command ends with its own code; nobody reads the rest."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self._give_up()
            return len(data)
        except OSError as error:
            self._give_up()
            raise Refusal(f"The output cannot be written: {error.strerror}.", MISSING) from None

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def guard() -> None:
    """Make it so, for the rest of this process."""
    # Where the terminal cannot show a name, its characters are escaped.
    if sys.stdout is None:
        sys.stdout = _nowhere()
    else:
        raw = _Stdout(_STDOUT, "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding=sys.stdout.encoding, errors="backslashreplace",
                                      line_buffering=raw.isatty())
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if sys.stdin is None:
        sys.stdin = _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "r+", encoding="utf-8")
