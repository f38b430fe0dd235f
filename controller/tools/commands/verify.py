"""`tunbridge verify`."""
from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, JsonOption, RundirOption
from controller.tools.commands.output import show_json, show_lines, valid, where
from controller.tools.errors import NO


def verify(file: Annotated[str | None, typer.Argument(metavar="FILE", help="The topology (default: topology.yaml; with "
                                                      "--live, that of the lab or the daemon).")] = None,
           live: Annotated[bool, typer.Option("--live", help="The tables that the switches have now.")] = False,
           as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Prove from the tables alone who can reach whom, for all packets; a breach comes with a packet and its flow."""
    from controller.tools import verify as tool
    from controller.tools import verify_findings, verify_live

    if live:
        at = where(rundir)
        report = tool.verify_live(valid(file or verify_live.in_force(at)), at)
    else:
        report = tool.verify(valid(file or DEFAULT_FILE))
    if as_json:
        show_json(report.document())
    else:
        show_lines(verify_findings.lines(report))
    if not report.ok:
        sys.exit(NO)
