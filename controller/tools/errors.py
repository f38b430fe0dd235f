"""How a command ends when it cannot do what it was asked: one sentence with the cure, and an exit code."""
from __future__ import annotations

from typing import Final

NO: Final = 1  # unreachable, drift, not in sync
BAD_INPUT: Final = 2  # bad input or usage
MISSING: Final = 3  # something needed is missing or not running


class Refusal(Exception):
    """A command's clean failure: `str(error)` is the sentence for stderr, `code` the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code
