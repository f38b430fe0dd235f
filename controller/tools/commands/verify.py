"""`tunbridge verify`."""
from __future__ import annotations

import sys

from controller.tools.commands.options import DEFAULT_FILE, File, JsonOption
from controller.tools.commands.output import show_json, show_lines, valid
from controller.tools.errors import NO


def verify(file: File = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Prove from the tables alone who can reach whom, for all packets; a breach comes with a packet and its flow."""
    from controller.tools import verify as tool
    from controller.tools import verify_findings

    report = tool.verify(valid(file))
    if as_json:
        show_json(report.document())
    else:
        show_lines(verify_findings.lines(report))
    if not report.ok:
        sys.exit(NO)
