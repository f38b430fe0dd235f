"""Of a real host: `plumb`, and `fill`."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, RundirOption, TopologyOption
from controller.tools.commands.output import say, valid, where


def plumb(host: Annotated[str, typer.Option("--host", metavar="NAME", help="Which host of the topology this is.")],
          dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, run none.")] = False,
          controller: Annotated[str | None, typer.Option(metavar="tcp:ADDRESS:PORT",
                                                         help="The daemon, if it is not on this host.")] = None,
          underlay_device: Annotated[str | None, typer.Option(metavar="NIC", help="The NIC of the underlay; needed "
                                                              "where the kernel has no openvswitch module.")] = None,
          provider_device: Annotated[list[str] | None, typer.Option(metavar="PHYSICAL_NETWORK=NIC",
                                                                    help="The NIC on a physical network; "
                                                                         "repeatable.")] = None,
          topology: TopologyOption = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """Converge the devices of a real host: bridges, patch ports, tunnels, wires, routers."""
    from controller.tools import plumb as tool

    at, cards = where(rundir), tool.provider_devices(provider_device or ())
    wanted = tool.Wanted(valid(topology), host, at.path, controller, underlay_device, cards)
    if dry_run:
        for line in tool.commands(wanted):
            print(line)
    else:
        tool.converge(wanted, say)


def fill(ovs: Annotated[str, typer.Option("--ovs", metavar="DIR", help="Where Open vSwitch has its sockets.",
                                          envvar="OVS_RUNDIR")] = "/run/openvswitch",
         wait: Annotated[float, typer.Option("--wait", metavar="S", help="For at most S seconds.")] = 10) -> None:
    """Have the daemon fill the bridges of an ovs-vswitchd that waits (`flow-restore-wait`), before it forwards."""
    from controller.tools import filling

    filling.fill_here(Path(ovs), wait, say)
