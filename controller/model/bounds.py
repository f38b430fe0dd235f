"""What a file may have at most: known without loading what reads it."""
from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 64 * 1024 * 1024
