"""The testbed: `lab up`, `down`, `exec`, `cli`, `reach`, `plan`, and `demo`, which is all of it in one."""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, File, JsonOption, RundirOption
from controller.tools.commands.output import PAGE, console, progress_bar, say, show_json, valid, where
from controller.tools.errors import NO

if TYPE_CHECKING:
    from controller.tools.rundir import Rundir

lab = typer.Typer(no_args_is_help=True, rich_markup_mode=None,
                  help="The Mininet testbed: every hypervisor has its own Open vSwitch.")


@lab.command()
def up(file: File = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """Bring the lab up, or converge the running one to a changed file. Returns when every VM is wired."""
    from controller.tools import demo
    from controller.tools import lab as tool

    at = where(rundir)
    tool.check_machine(valid(file))
    _make(at)
    with progress_bar() as progress:
        demo.lab_up(file, at, say, progress)


@lab.command()
def plan(file: File = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """Print the lab as JSON, for `mn --custom mininet/lab.py --topo tunbridge,PLAN`."""
    from controller.tools import lab as tool

    show_json(tool.plan(valid(file), where(rundir).path))


@lab.command()
def down(rundir: RundirOption = None) -> None:
    """End the lab and remove everything it made, also after a crash."""
    from controller.tools import lab as tool

    tool.down(where(rundir).path, say)


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(name: Annotated[str, typer.Argument(metavar="NAME", help="A VM, a host, a router, or `internet`.")],
            command: Annotated[list[str], typer.Argument(metavar="-- CMD...")], rundir: RundirOption = None) -> None:
    """Run a command inside a VM, host, router or `internet`, with the command's exit code.

    Of a simulated router it is `ip route`, `ip address` and `ip neighbour` that are answered.
    """
    from controller.tools import lab as tool

    words, at = command[1:] if command[:1] == ["--"] else command, where(rundir).path
    if (text := tool.answer(at, name, words)) is not None:
        print(text, end="")
    else:
        tool.execute(at, name, words)


@lab.command("cli")
def prompt(rundir: RundirOption = None) -> None:
    """The Mininet prompt on the running lab."""
    from controller.tools import lab as tool

    sys.exit(tool.prompt(where(rundir).path))


@lab.command()
def reach(sample: Annotated[int, typer.Option(metavar="N", min=0, help="Ask only N pairs.")] = 0,
          seed: Annotated[int | None, typer.Option(metavar="SEED", help="Ask the same sample again.")] = None,
          as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Ping every pair of VM ports and compare with what the topology allows."""
    from controller.tools import demo, matrix

    found = demo.lab_reach(where(rundir), sample, seed, say)
    if as_json:
        show_json(found.document())
    else:
        console(PAGE).print(matrix.Matrix(found))
    if not found.ok:
        sys.exit(NO)


def _make(at: Rundir) -> None:
    from controller.tools.rundir import make

    make(at)


def demonstrate(file: File = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """Daemon, lab, ping matrix and the journey of one packet; on a terminal, a Mininet prompt."""
    from controller.tools import demo

    out = console(PAGE)
    with progress_bar() as progress, demo.running(file, where(rundir), say, progress) as show:
        for thing in show.report():
            out.print(thing)
        if sys.stdin.isatty() and sys.stdout.isatty():
            show.prompt()
    if not show.ok:
        sys.exit(NO)
