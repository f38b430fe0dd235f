"""The VM's edge: `attack` and `spoofers`."""
from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.tools.commands.options import JsonOption, RundirOption
from controller.tools.commands.output import PAGE, console, progress_bar, show_json, show_lines, where
from controller.tools.errors import NO


def attack(vm: Annotated[str | None, typer.Argument(metavar="VM", help="Who attacks (default: one that can try "
                                                    "most).")] = None,
           only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME",
                                                          help="Only this attack; repeatable.")] = None,
           as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Have a VM of the running lab attack all the others, and tell what stopped it; 1 if anything got through.

    Rules are changed and ovs-vswitchd of one host is restarted meanwhile; afterwards all is as it was.
    """
    from controller.tools import attack as tool
    from controller.tools import verdicts

    with progress_bar() as progress:
        found = tool.attack(where(rundir), vm, only or (), progress)
    if as_json:
        show_json(found.document())
    else:
        out = console(PAGE)
        for thing in verdicts.table(found):
            out.print(thing)
    if not found.ok:
        sys.exit(NO)


def spoofers(vm: Annotated[str | None, typer.Argument(metavar="VM", help="Only what it was refused.")] = None,
             host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Only on this host.")] = None,
             everything: Annotated[bool, typer.Option("--all", help="Also what has refused nothing yet.")] = False,
             as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Which port was refused what, how often, and by which flow or rule."""
    from controller.tools import spoofers as tool

    found = tool.refused(where(rundir), tool.Asked(vm, host, everything))
    if as_json:
        show_json(found)
    else:
        show_lines(tool.lines(found))
