"""`tunbridge flows`."""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.tools.commands.options import DEFAULT_FILE, JsonOption, RundirOption, TopologyOption
from controller.tools.commands.output import show_json, show_lines, valid, where
from controller.tools.errors import BAD_INPUT, NO, Refusal

if TYPE_CHECKING:
    from controller.tools.rundir import Rundir


def flows(target: Annotated[str | None, typer.Argument(metavar="HOST[/BRIDGE]")] = None,
          intended: Annotated[bool, typer.Option("--intended", help="From the topology alone; no switch.")] = False,
          installed: Annotated[bool, typer.Option("--installed", help="What the switches hold (default).")] = False,
          diff: Annotated[bool, typer.Option("--diff", help="Only what is not as wanted.")] = False,
          ofctl: Annotated[bool, typer.Option("--ofctl", help="In the form of ovs-ofctl.")] = False,
          as_json: JsonOption = False, topology: TopologyOption = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """The flow tables, with the reason of each flow."""
    from controller.tools import flows as tool

    if intended + installed + diff > 1:
        raise Refusal("Ask for one of --intended, --installed and --diff.", BAD_INPUT)
    host, bridge = tool.split_target(target)
    if intended:
        source, bridges = topology, tool.intended(valid(topology), host, bridge)
    else:
        source, bridges = _ask_for_flows(where(rundir), host, bridge)
    shown = tool.differing(bridges) if diff else bridges
    if as_json:
        show_json({"ok": tool.in_sync(bridges) if not intended else True, "topology": source, "bridges": shown})
    elif ofctl:
        for one in shown:
            print(f"# {one['host']}/{one['bridge']}")
            for line in tool.ofctl_lines(one):
                print(line)
    else:
        show_lines(tool.lines(shown, source))
    if diff and not tool.in_sync(bridges):
        sys.exit(NO)


def _ask_for_flows(at: Rundir, host: str | None, bridge: str | None) -> tuple[str, list[dict[str, Any]]]:
    from controller.tools import flows as tool
    from controller.tools.client import ask

    status = ask(at, {"do": "status"})
    tool.check_target(host, bridge, ((switch["host"], switch["bridge"]) for switch in status["switches"]))
    return status["topology"], ask(at, {"do": "flows", "host": host, "bridge": bridge})["bridges"]
