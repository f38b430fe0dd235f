"""The command line: every command's name. stdout is data, stderr is words.

The commands are in `commands/`, and only they print. What a command needs is imported when it runs, so that `--help`
and completion answer at once.
"""
from __future__ import annotations

import sys

import typer

from controller.tools import stdio
from controller.tools.commands.check import check
from controller.tools.commands.daemon import apply, at_once, recompute, routers, run, status
from controller.tools.commands.edge import attack, spoofers
from controller.tools.commands.explain import explain
from controller.tools.commands.flows import flows
from controller.tools.commands.lab import demonstrate, lab
from controller.tools.commands.output import say
from controller.tools.commands.plumb import fill, plumb
from controller.tools.commands.trace import trace
from controller.tools.commands.verify import verify
from controller.tools.commands.whynot import why_not
from controller.tools.errors import Refusal

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Neutron-style tenant networks on real Open vSwitch, and the reason of every flow.")
app.add_typer(lab, name="lab")
for command in (check, flows, trace, verify, explain, run, status, apply, routers, recompute, attack, spoofers, plumb,
                fill):
    app.command()(command)
app.command("why-not")(why_not)
app.command("demo")(demonstrate)
_INTERRUPTED = 130  # as the shell has it: 128 and SIGINT


def main() -> None:
    """The entry point: a Refusal becomes its sentence on stderr and its exit code."""
    stdio.guard()
    try:
        try:
            if not at_once(sys.argv[1:]):
                app()
        finally:
            sys.stdout.flush()
    except Refusal as refusal:
        say(str(refusal).rstrip())
        sys.exit(refusal.code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
