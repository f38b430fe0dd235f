"""`tunbridge why-not`."""
from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, JsonOption, TopologyOption
from controller.tools.commands.output import say, show_json, show_lines
from controller.tools.errors import BAD_INPUT, NO, Refusal


def why_not(source: Annotated[str, typer.Argument(metavar="SRC")],
            target: Annotated[str, typer.Argument(metavar="DST")],
            tcp: Annotated[int | None, typer.Option("--tcp", metavar="PORT", min=1, max=65535,
                                                    help="Open a TCP connection instead of a ping.")] = None,
            udp: Annotated[int | None, typer.Option("--udp", metavar="PORT", min=1, max=65535,
                                                    help="Send to a UDP port instead.")] = None,
            icmp: Annotated[bool, typer.Option("--icmp", help="Ping (the default).")] = False,
            as_json: JsonOption = False, topology: TopologyOption = DEFAULT_FILE) -> None:
    """Where a packet dies, and the smallest edits of the topology that would deliver it; 0 if it is delivered."""
    from controller.tools import topologies, whynot, whynot_lines
    from controller.tools.trace import service

    if (tcp is not None) + (udp is not None) + icmp > 1:
        raise Refusal("Ask for one of --tcp, --udp and --icmp.", BAD_INPUT)
    content = topologies.content(topology, say)
    found = whynot.why_not(content, topology, (source, target), service(tcp, udp))
    if as_json:
        show_json(whynot_lines.document(found))
    else:
        show_lines(whynot_lines.lines(found))
    if not found.delivered:
        sys.exit(NO)
