"""The daemon, and what is asked of it: `run`, `status`, `apply`, `routers`, `recompute`."""
from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.tools.commands.options import DEFAULT_FILE, File, JsonOption, RundirOption
from controller.tools.commands.output import say, show_json, show_lines, where
from controller.tools.errors import NO


def run(file: File = DEFAULT_FILE,
        listen: Annotated[list[str] | None, typer.Option("--listen", metavar="tcp:ADDRESS:PORT|none",
                                                         help="Where switches may connect besides the Unix socket "
                                                              "(default: tcp:127.0.0.1:6653).")] = None,
        host: Annotated[list[str] | None, typer.Option("--host", metavar="NAME", help="Serve only this host.")] = None,
        no_heal: Annotated[bool, typer.Option("--no-heal", help="Only report what others do to our flows.")] = False,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every event.")] = False,
        rundir: RundirOption = None) -> None:
    """The daemon, in the foreground. SIGTERM ends it and leaves the flows in place; SIGHUP reads the file again."""
    from controller.tools import daemon

    daemon.run(daemon.Options(file, where(rundir), tuple(listen or (daemon.DEFAULT_LISTEN,)), tuple(host or ()),
                              verbose, heal=not no_heal))


def status(wait: Annotated[float, typer.Option("--wait", metavar="S", help="Wait up to S seconds.")] = 0,
           as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Are all expected bridges connected and in sync, and is nothing closed that shall be open?"""
    from controller.tools import status as tool
    from controller.tools.client import wait_for_status

    at = where(rundir)
    found = tool.with_dead(wait_for_status(at, wait), at)
    if as_json:
        show_json(found)
    else:
        show_lines(tool.lines(found))
    if not found["ok"]:
        sys.exit(NO)


def apply(file: Annotated[str, typer.Argument(metavar="FILE", help="The topology; - for stdin.")],
          plan: Annotated[bool, typer.Option("--plan", help="Show what would change, and change nothing.")] = False,
          as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Hand the daemon a new topology; a lab that runs here follows. An invalid one changes nothing."""
    from controller.tools import handover

    at = where(rundir)
    if plan:
        from controller.tools import changes, plan_lines

        planned = changes.plan(at, file, sys.stdin.buffer)
        if as_json:
            show_json(planned)
        else:
            show_lines(plan_lines.lines(planned))
        return
    given = handover.hand_over(at, "apply", file, sys.stdin.buffer)
    # Not before: what this takes to load, the daemon takes to answer.
    from controller.tools import following

    if following.follow(given, at, say):
        say(f"{file} is in force.")
    else:
        say(f"{file} is in force. `tunbridge status --wait 10` tells when every switch has it.")


def at_once(words: list[str]) -> bool:
    """`apply FILE` and nothing more: whether that was it, and it is done.

    What typer loads to check words takes as long as a rule of 500 ports takes to change.
    """
    if len(words) != 2 or words[0] != "apply" or (words[1].startswith("-") and words[1] != "-"):
        return False
    apply(words[1])
    return True


def routers(name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this one.")] = None,
            as_json: JsonOption = False,
            topology: Annotated[str | None, typer.Option("--topology", metavar="FILE", help="The topology (default: "
                                                         "that of the lab or the daemon, else topology.yaml).")] = None,
            rundir: RundirOption = None) -> None:
    """Each router's interfaces, routes, neighbours, NAT sessions and counters, as far as they are known."""
    from controller.tools import routers as tool

    found = tool.described(tool.sources(where(rundir), topology), name)
    if as_json:
        show_json({"routers": found})
    else:
        show_lines(tool.lines(found))


def recompute(as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Read every switch again and compare it with everything computed anew; normally nothing changes."""
    from controller.tools import changes

    changed = changes.recompute(where(rundir))
    if as_json:
        show_json({"ok": not changed, "changed": changed})
    say(f"{changed} flow-mods were needed." if changed else "Nothing was out of place.")
    if changed:
        sys.exit(NO)
