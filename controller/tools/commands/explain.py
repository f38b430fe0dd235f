"""`tunbridge explain`."""
from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.tools.commands.options import JsonOption
from controller.tools.commands.output import say, show_json, show_lines
from controller.tools.errors import NO


def explain(file: Annotated[str, typer.Argument(metavar="FILE", help="A dump of flows; - for stdin.")] = "-",
            names: Annotated[list[str] | None,
                             typer.Option("--names", metavar="FILE", help="Output of `ovs-vsctl show`, `ovs-ofctl "
                                          "show` or `openstack port list -f json`; repeatable.")] = None,
            bridge: Annotated[str, typer.Option("--bridge", metavar="NAME",
                                                help="Whose flows they are, if the dump does not tell.")] = "",
            topology: Annotated[str | None,
                                typer.Option("--topology", metavar="FILE", help="The topology of our own flows "
                                             "(default: topology.yaml, if it is there).")] = None,
            as_json: JsonOption = False) -> None:
    """Every line of an `ovs-ofctl dump-flows`, ours or Neutron's, in a sentence; 1 if some are not known."""
    from controller.tools import explaining

    told = explaining.told(file, names or (), bridge, topology, sys.stdin, say)
    if as_json:
        show_json(explaining.document(told))
    else:
        show_lines(explaining.lines(told))
    if not all(one.known for one in told):
        sys.exit(NO)
