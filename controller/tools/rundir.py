"""Where a daemon and its lab live: the paths in a run directory."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.tools.errors import BAD_INPUT, MISSING, Refusal

DEFAULT: Final = "/run/tunbridge"
_SOCKET_PATH_LIMIT: Final = 107  # bytes; unix(7), sun_path


@dataclass(frozen=True)
class Rundir:
    """The files of one daemon and one lab."""

    path: Path

    @property
    def openflow(self) -> Path:
        """Where switches connect."""
        return self.path / "openflow.sock"

    @property
    def control(self) -> Path:
        """Where commands ask the daemon."""
        return self.path / "control.sock"

    @property
    def lock(self) -> Path:
        """Held by the daemon while it lives."""
        return self.path / "daemon.lock"

    @property
    def log(self) -> Path:
        """The log of a daemon that was started in the background, by `demo`."""
        return self.path / "daemon.log"


def rundir(given: str | None) -> Rundir:
    """From --rundir, TUNBRIDGE_RUNDIR or the default. Refusal if its sockets would have too long a path."""
    path = Path(given or os.environ.get("TUNBRIDGE_RUNDIR") or DEFAULT).absolute()
    found = Rundir(path)
    if len(os.fsencode(found.openflow)) > _SOCKET_PATH_LIMIT:
        raise Refusal(f"The run directory {path} has too long a path for a socket: choose a --rundir of at most "
                      f"{_SOCKET_PATH_LIMIT - len('/openflow.sock')} characters.", BAD_INPUT)
    return found


def make(where: Rundir) -> None:
    """Create the run directory, for its owner only, unless it is there. Refusal if that cannot be."""
    try:
        where.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise Refusal(f"The run directory {where.path} is not a directory. Name another with --rundir.",
                      MISSING) from None
    except OSError as error:
        raise Refusal(f"The run directory {where.path} cannot be used: {error.strerror}. "
                      "Run as root, or name another with --rundir.", MISSING) from None
