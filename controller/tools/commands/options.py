"""Arguments that several commands take."""
from __future__ import annotations

from typing import Annotated

import typer

File = Annotated[str, typer.Argument(metavar="FILE", help="The topology.")]
TopologyOption = Annotated[str, typer.Option("--topology", metavar="FILE", help="The topology.")]
RundirOption = Annotated[str | None, typer.Option("--rundir", metavar="DIR", envvar="TUNBRIDGE_RUNDIR",
                                                  help="Where the daemon and the lab live (default: /run/tunbridge).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_FILE = "topology.yaml"
