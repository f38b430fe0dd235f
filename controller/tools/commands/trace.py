"""`tunbridge trace`."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, JsonOption, RundirOption, TopologyOption
from controller.tools.commands.output import say, show_json, show_lines, valid, where
from controller.tools.errors import BAD_INPUT, MISSING, NO, Refusal

if TYPE_CHECKING:
    from controller.tools.journey import Journey


def trace(source: Annotated[str, typer.Argument(metavar="SRC")], target: Annotated[str, typer.Argument(metavar="DST")],
          tcp: Annotated[int | None, typer.Option("--tcp", metavar="PORT", min=1, max=65535,
                                                  help="Open a TCP connection instead of a ping.")] = None,
          udp: Annotated[int | None, typer.Option("--udp", metavar="PORT", min=1, max=65535,
                                                  help="Send to a UDP port instead.")] = None,
          icmp: Annotated[bool, typer.Option("--icmp", help="Ping (default).")] = False,
          packets: Annotated[int, typer.Option("--packets", metavar="N", min=1, max=100,
                                               help="So many, one after the other: the first teaches.")] = 1,
          live: Annotated[bool, typer.Option("--live", help="Also send it in the running lab, and watch it.")] = False,
          html: Annotated[str | None, typer.Option("--html", metavar="FILE",
                                                   help="Also write the journey as a page for a browser.")] = None,
          dump: Annotated[list[str] | None,
                          typer.Option("--dump", metavar="FILE", help="Through dumped flows: SRC is then a port, DST a "
                                       "packet in ovs-ofctl's words; repeatable.")] = None,
          names: Annotated[list[str] | None,
                           typer.Option("--names", metavar="FILE", help="Names for --dump: `ovs-vsctl show`, "
                                        "`ovs-ofctl show`, `openstack port list -f json`; repeatable.")] = None,
          as_json: JsonOption = False, topology: TopologyOption = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """The journey of a packet, hop by hop and table by table, from the topology alone.

    DST is a VM, an address, `internet`, or `broadcast`.
    """
    from controller.tools import trace as tool

    if (tcp is not None) + (udp is not None) + icmp > 1:
        raise Refusal("Ask for one of --tcp, --udp and --icmp.", BAD_INPUT)
    if dump or names:
        if not dump:
            raise Refusal("--names are for a dump: give it with --dump FILE.", BAD_INPUT)
        if live or html or packets > 1 or icmp or tcp or udp:
            raise Refusal("--dump goes with --names and --json only: the packet itself says what it is.", BAD_INPUT)
        _dumped((dump, names or ()), source, target, as_json=as_json)
        return
    service = tool.service(tcp, udp) if icmp or tcp or udp else None
    if live:
        from controller.tools import live as watching

        cloud = watching.lab_topology(where(rundir))
        journey = watching.live(where(rundir), source, target, service, packets)
    else:
        cloud = valid(topology)
        journey = tool.trace(cloud, source, target, service=service, packets=packets)
    if as_json:
        show_json(journey.document())
    else:
        show_lines(tool.story(journey))
    if html is not None:
        from controller.tools import page

        page.write(journey.document(), cloud, html)
    if code := _code(journey):
        sys.exit(code)


def _dumped(files: tuple[Iterable[str], Iterable[str]], port: str, packet: str, *, as_json: bool) -> None:
    from controller.tools import dumptrace, dumptrace_telling

    answer = dumptrace.trace(files, port, packet, sys.stdin, say)
    if as_json:
        show_json(dumptrace_telling.document(answer))
    else:
        show_lines(dumptrace_telling.lines(answer))
    if not answer.known:
        sys.exit(NO)


def _code(journey: Journey) -> int:
    """Whether it comes, as computed; and whether all that was asked has answered."""
    if journey.live and journey.live.unknown:
        return MISSING
    return NO if journey.verdict == "dropped" or (journey.live and not journey.live.agrees) else 0
