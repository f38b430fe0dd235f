"""The command line, and the only place that prints. stdout is data, stderr is words.

What a command needs is imported when it runs, so that `--help` and completion answer at once.
"""
from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.tools import stdio
from controller.tools.errors import BAD_INPUT, NO, Refusal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from controller.model.topology import Topology
    from controller.tools.rundir import Rundir

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Neutron-style tenant networks on real Open vSwitch, and the reason of every flow.")
lab = typer.Typer(no_args_is_help=True, rich_markup_mode=None,
                  help="The Mininet testbed: every hypervisor has its own Open vSwitch.")
app.add_typer(lab, name="lab")

File = Annotated[str, typer.Argument(metavar="FILE", help="The topology.")]
TopologyOption = Annotated[str, typer.Option("--topology", metavar="FILE", help="The topology.")]
RundirOption = Annotated[str | None, typer.Option("--rundir", metavar="DIR", envvar="TUNBRIDGE_RUNDIR",
                                                  help="Where the daemon and the lab live (default: /run/tunbridge).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_FILE = "topology.yaml"
_INTERRUPTED = 130  # as the shell has it: 128 and SIGINT
_PAGE = 160  # columns of a matrix or a story that goes to a file


def main() -> None:
    """The entry point: a Refusal becomes its sentence on stderr and its exit code."""
    stdio.guard()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except Refusal as refusal:
        say(str(refusal).rstrip())
        sys.exit(refusal.code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def say(sentence: str) -> None:
    """A word to the person, on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """Data for a program, on stdout."""
    print(json.dumps(value, indent=1))


def console(width: int = 100_000) -> Console:
    """Coloured text on stdout: colours on a terminal only, and `width` columns elsewhere."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=width, no_color=True, force_terminal=False)


def show_lines(lines: Iterable[RenderableType]) -> None:
    """Lines for a person, with rich's markup, on stdout."""
    out = console()
    for line in lines:
        out.print(line)


def where(rundir: str | None) -> Rundir:
    from controller.tools import rundir as rundirs

    return rundirs.rundir(rundir)


def valid(file: str) -> Topology:
    """The topology of a file; its warnings are said, its errors refuse it."""
    from controller.tools import topologies

    return topologies.valid(file, say)


# ---- topology and flows

@app.command()
def check(file: File = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Validate a topology: every problem of the file, each at its line and column."""
    from controller.model import reading
    from controller.model.problems import render, to_json

    found = reading.load(file)
    if as_json:
        show_json(to_json(found.problems, file))
    elif found.problems:
        print(render(found.problems))
    if found.topology is None:
        errors = sum(problem.severity == "error" for problem in found.problems)
        say(f"{file}: {errors} error{'s' * (errors != 1)}.")
        sys.exit(BAD_INPUT)
    cloud = found.topology
    say(f"{file} is valid: {len(cloud.hosts)} hosts, {len(cloud.networks)} networks, {len(cloud.vms)} VMs.")


@app.command()
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


@app.command()
def trace(source: Annotated[str, typer.Argument(metavar="SRC")], target: Annotated[str, typer.Argument(metavar="DST")],
          tcp: Annotated[int | None, typer.Option("--tcp", metavar="PORT", min=1, max=65535,
                                                  help="Open a TCP connection instead of a ping.")] = None,
          udp: Annotated[int | None, typer.Option("--udp", metavar="PORT", min=1, max=65535,
                                                  help="Send to a UDP port instead.")] = None,
          as_json: JsonOption = False, topology: TopologyOption = DEFAULT_FILE) -> None:
    """The journey of a packet, hop by hop and table by table, from the topology alone."""
    from controller.tools import trace as tool

    if tcp is not None and udp is not None:
        raise Refusal("Ask for one of --tcp and --udp.", BAD_INPUT)
    journey = tool.trace(valid(topology), source, target, service=tool.service(tcp, udp))
    if as_json:
        show_json(journey.document())
    else:
        show_lines(tool.story(journey))
    if journey.verdict == "dropped":
        sys.exit(NO)


@app.command()
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


# ---- the daemon

@app.command()
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


@app.command()
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


@app.command()
def apply(file: Annotated[str, typer.Argument(metavar="FILE", help="The topology; - for stdin.")],
          plan: Annotated[bool, typer.Option("--plan", help="Show what would change, and change nothing.")] = False,
          as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Hand the daemon a new topology; a lab that runs here follows. An invalid one changes nothing."""
    from controller.tools import handover

    at = where(rundir)
    if plan:
        from controller.tools import changes

        planned = changes.plan(at, file, sys.stdin.buffer)
        if as_json:
            show_json(planned)
        else:
            show_lines(changes.plan_lines(planned))
        return
    given = handover.hand_over(at, "apply", file, sys.stdin.buffer)
    # Not before: what this takes to load, the daemon takes to answer.
    from controller.tools import following

    if following.follow(given, at, say):
        say(f"{file} is in force.")
    else:
        say(f"{file} is in force. `tunbridge status --wait 10` tells when every switch has it.")


@app.command()
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


@app.command()
def recompute(as_json: JsonOption = False, rundir: RundirOption = None) -> None:
    """Read every switch again and compare it with everything computed anew; normally nothing changes."""
    from controller.tools import changes

    changed = changes.recompute(where(rundir))
    if as_json:
        show_json({"ok": not changed, "changed": changed})
    say(f"{changed} flow-mods were needed." if changed else "Nothing was out of place.")
    if changed:
        sys.exit(NO)


# ---- the VM's edge

@app.command()
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

    with _progress() as progress:
        found = tool.attack(where(rundir), vm, only or (), progress)
    if as_json:
        show_json(found.document())
    else:
        out = console(_PAGE)
        for thing in verdicts.table(found):
            out.print(thing)
    if not found.ok:
        sys.exit(NO)


@app.command()
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


# ---- the lab and real hosts

@app.command()
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


@lab.command()
def up(file: File = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """Bring the lab up, or converge the running one to a changed file. Returns when every VM is wired."""
    from controller.tools import demo
    from controller.tools import lab as tool

    at = where(rundir)
    tool.check_machine(valid(file))
    _make(at)
    with _progress() as progress:
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
        console(_PAGE).print(matrix.Matrix(found))
    if not found.ok:
        sys.exit(NO)


def _make(at: Rundir) -> None:
    from controller.tools.rundir import make

    make(at)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, nothing elsewhere; it disappears when the work is done."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None)

    def progress(done: int, total: int, what: str) -> None:
        bar.start()
        bar.update(task, completed=done, total=total, description=what)
        if done >= total:
            bar.stop()

    try:
        yield progress
    finally:
        bar.stop()


@app.command("demo")
def demonstrate(file: File = DEFAULT_FILE, rundir: RundirOption = None) -> None:
    """Daemon, lab, ping matrix and the journey of one packet; on a terminal, a Mininet prompt."""
    from controller.tools import demo

    out = console(_PAGE)
    with _progress() as progress, demo.running(file, where(rundir), say, progress) as show:
        for thing in show.report():
            out.print(thing)
        if sys.stdin.isatty() and sys.stdout.isatty():
            show.prompt()
    if not show.ok:
        sys.exit(NO)
