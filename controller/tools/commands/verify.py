"""`tunbridge verify`."""
from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, File, JsonOption, RundirOption
from controller.tools.commands.output import show_json, show_lines, valid, where
from controller.tools.errors import NO


def verify(file: File = DEFAULT_FILE,
           live: Annotated[bool, typer.Option("--live", help="The tables that the switches have now.")] = False,
           as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Prove from the tables alone who can reach whom, for all packets; a breach comes with a packet and its flow."""
    from controller.tools import verify as tool
    from controller.tools import verify_findings

    topology = valid(file)
    report = tool.verify_live(topology, where(rundir)) if live else tool.verify(topology)
    if as_json:
        show_json(report.document())
    else:
        show_lines(verify_findings.lines(report))
    if not report.ok:
        sys.exit(NO)
