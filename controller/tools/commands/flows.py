"""`tunbridge flows`."""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.tools.commands.options import DEFAULT_FILE, JsonOption, RundirOption, TopologyOption
from controller.tools.commands.output import console, say, show_json, valid, where
from controller.tools.errors import BAD_INPUT, MISSING, NO, Refusal

if TYPE_CHECKING:
    from controller.tools.flows_lines import Line
    from controller.tools.flows_pick import Choice

Json = dict[str, Any]
_SOONEST = 0.2  # seconds between two looks


@dataclass
class _Asked:
    """What is shown, and what came of it."""

    source: str  # the topology's file
    read: Callable[[], Iterator[Json]]
    diff: bool
    choices: list[Choice]
    drift: bool = False
    away: list[Json] = field(default_factory=list)  # bridges that could not be asked
    found: bool = False

    def parts(self) -> Iterator[Json]:
        """What is asked for, as it comes."""
        from controller.tools import flows as tool

        parts: Iterable[Json] = self._watched(self.read())
        for choice in self.choices:
            parts = choice.of(parts)
        for part in parts:
            shown = tool.differing([part])[0] if self.diff else part
            self.found = self.found or bool(shown["flows"])
            yield shown

    def _watched(self, parts: Iterable[Json]) -> Iterator[Json]:
        from controller.tools import flows as tool

        self.away, self.drift = [], False
        for part in parts:
            if not part.get("connected", True):
                self.away.append(part)
            self.drift = self.drift or not tool.in_sync([part])
            yield part


def flows(target: Annotated[str | None, typer.Argument(metavar="HOST[/BRIDGE]")] = None,
          intended: Annotated[bool, typer.Option("--intended", help="From the topology alone; no switch.")] = False,
          installed: Annotated[bool, typer.Option("--installed", help="What the switches hold (default).")] = False,
          diff: Annotated[bool, typer.Option("--diff", help="Only what is not as wanted.")] = False,
          origin: Annotated[str | None, typer.Option("--from", metavar="[FILE:]LINE", help="Only what a line of the "
                                                     "topology, or an object like vms.web1, brings.")] = None,
          vm: Annotated[str | None, typer.Option("--vm", metavar="NAME", help="Only what has to do with a VM.")] = None,
          watch: Annotated[bool, typer.Option("--watch", help="Look again and again, and show rates.")] = False,
          every: Annotated[float, typer.Option("--every", metavar="S", min=_SOONEST, max=3600,
                                               help="Seconds between two looks.")] = 2.0,
          count: Annotated[int, typer.Option("--count", metavar="N", min=0,
                                             help="End after N looks with rates (0: when you do).")] = 0,
          ofctl: Annotated[bool, typer.Option("--ofctl", help="In the form of ovs-ofctl.")] = False,
          as_json: JsonOption = False, topology: TopologyOption = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """The flow tables, with names, counters, and the reason and origin of each flow."""
    if intended + installed + diff > 1:
        raise Refusal("Ask for one of --intended, --installed and --diff.", BAD_INPUT)
    if watch and (intended or ofctl):
        raise Refusal("--watch shows what installed flows count, without --intended and --ofctl.", BAD_INPUT)
    asked = _asked(target, rundir, topology if intended else None, diff)
    asked.choices += _choices(origin, vm, asked.source)
    if watch:
        _watch(asked, every, count, as_json)
    elif as_json:
        _show_json(asked)
    else:
        _show(asked, ofctl)
    _end(asked, vm, intended)


def _asked(target: str | None, rundir: str | None, file: str | None, diff: bool) -> _Asked:
    """`file`: the topology, where no daemon is asked."""
    from controller.tools import flows as tool

    host, bridge = tool.split_target(target)
    if file is not None:
        from controller.tools import flows_intended

        found = flows_intended.intended(valid(file), host, bridge)
        return _Asked(file, lambda: found, diff, [])
    at = where(rundir)
    source, first = tool.installed(at, host, bridge)
    looks = iter((first,))
    return _Asked(source, lambda: next(looks, None) or tool.installed(at, host, bridge)[1], diff, [])


def _choices(origin: str | None, vm: str | None, source: str) -> list[Choice]:
    from controller.tools import flows_pick

    found = [flows_pick.from_line(origin, source)] if origin is not None else []
    return [*found, *([flows_pick.of_vm(vm)] if vm is not None else [])]


# ---- on stdout

def _show(asked: _Asked, ofctl: bool) -> None:
    from controller.model.places import Places
    from controller.tools import flows as tool
    from controller.tools import flows_lines

    if ofctl:
        for part in asked.parts():
            print(f"# {part['host']}/{part['bridge']}")
            for line in tool.ofctl_lines(part):
                print(line)
    else:
        empty = "all is as wanted" if asked.diff else "no flows"
        _print(flows_lines.lines(asked.parts(), Places(asked.source), asked.source, empty))


def _print(lines: Iterable[Line]) -> None:
    """Coloured on a terminal; as they are, and quickly, elsewhere."""
    if not sys.stdout.isatty():
        told = time.monotonic()
        for line in lines:
            print("".join(text for _, text in line))
            if time.monotonic() - told > _SOONEST:  # whoever reads along sees what is there
                sys.stdout.flush()
                told = time.monotonic()
        return
    from rich.text import Text

    out = console()
    for line in lines:
        out.print(Text.assemble(*((text, style) for style, text in line)), soft_wrap=True)


def _show_json(asked: _Asked) -> None:
    from controller.model.places import Places
    from controller.tools import flows as tool
    from controller.tools import flows_lines

    places, bridges = Places(asked.source), tool.together(asked.parts())
    for bridge in bridges:
        bridge["flows"] = [{**flow, "line": flows_lines.line_of(flow, places)} for flow in bridge["flows"]]
    show_json({"ok": not asked.drift, "topology": asked.source, "bridges": bridges})


def _watch(asked: _Asked, every: float, count: int, as_json: bool) -> None:
    from controller.tools import flows as tool
    from controller.tools import flows_watch

    rounds = flows_watch.rounds(lambda: tool.together(asked.parts()), every, count)
    try:
        if as_json:
            for bridges in rounds:
                print(json.dumps(flows_watch.document(bridges)), flush=True)
        elif sys.stdout.isatty():
            _live(rounds)
        else:
            for bridges in rounds:
                _print(flows_watch.lines(bridges, idle=False))
                sys.stdout.flush()
    except KeyboardInterrupt:  # the way to end it
        return


def _live(rounds: Iterable[list[Json]]) -> None:
    """As much of the latest look as the terminal has lines for."""
    from rich.live import Live
    from rich.text import Text

    from controller.tools import flows_watch

    out = console()
    with Live(console=out, screen=True, auto_refresh=False) as live:
        for bridges in rounds:
            lines = [Text.assemble(*((text, style) for style, text in line))
                     for line in flows_watch.lines(bridges, idle=True)]
            whole = Text("\n", no_wrap=True, overflow="ellipsis").join(lines[:out.height])
            live.update(whole, refresh=True)


# ---- what came of it

def _end(asked: _Asked, vm: str | None, intended: bool) -> None:
    """Say what is not known, or was not found; and end with the code that tells."""
    for part in asked.away:
        name = f"{part['host']}/{part['bridge']}"
        say(f"What {name} holds is not known: {part.get('trouble') or 'it is not connected.'} What it shall hold: "
            f"`tunbridge flows {name} --intended`.")
    if asked.away:
        sys.exit(MISSING)
    if asked.choices and not asked.found:
        if vm is not None:
            _check_vm(vm, asked.source)
        say(f"No flow has to do with {' and '.join(choice.words for choice in asked.choices)}."
            + "".join(choice.hint for choice in asked.choices))
        sys.exit(NO)
    if asked.diff and asked.drift and not intended:
        sys.exit(NO)


def _check_vm(name: str, file: str) -> None:
    """Refusal if the topology knows nobody of this name; where it cannot be read, nobody knows better."""
    from controller.model import reading
    from controller.tools import flows_pick

    topology = reading.load(file).topology
    if topology is not None:
        flows_pick.check_vm(name, [*topology.vms, *(port.name for port in topology.ports())])
