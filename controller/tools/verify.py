"""`tunbridge verify`: prove from the tables alone that they do what the topology promises, for all packets."""
from __future__ import annotations

from dataclasses import replace

from controller.model.topology import Topology
from controller.tools import verify_live as live
from controller.tools.rundir import Rundir
from controller.tools.verify_checks import Prover
from controller.tools.verify_findings import Breach, Report
from controller.tools.verify_search import Suspect
from controller.tools.verify_wires import Flows, Laid, compiled
from controller.tools.verify_witness import Witnesses

_SENT = 500  # suspects that are sent on paper; the rest are counted


def verify(topology: Topology) -> Report:
    """The tables that the topology asks for."""
    laid = Laid(topology)
    return prove(laid, compiled(laid.hosts.values()))


def verify_live(topology: Topology, where: Rundir) -> Report:
    """The tables that the switches have now, with what they have learned. Refusal if no daemon runs."""
    found = live.installed(topology, where)
    report = prove(found.laid, found.flows, found.intended)
    return replace(report, undecided=(*found.unknown, *report.undecided))


def prove(laid: Laid, flows: Flows, intended: Flows | None = None) -> Report:
    """Any tables for a topology, plugged together as `laid` says. `intended`: what they shall be, to find the blame."""
    prover = Prover(laid, flows)
    suspects = list(prover.suspects())
    breaches, more = _told(laid, flows, intended, suspects)
    ports = len([*laid.topology.ports()])
    return Report(breaches, more, sum(map(len, flows.values())), len(laid.topology.hosts), ports, ports * (ports - 1),
                  len(prover.reaching), prover.undecided)


def _told(laid: Laid, flows: Flows, intended: Flows | None, suspects: list[Suspect]) -> tuple[tuple[Breach, ...], int]:
    """One breach for each kind and flow to blame."""
    if not suspects:
        return (), 0
    witnesses = Witnesses(laid, flows, compiled(laid.hosts.values()) if intended is None else intended)
    found: dict[object, Breach] = {}
    for suspect in suspects[:_SENT]:
        breach = witnesses.breach(suspect)
        key = breach.kind, breach.blame, breach.blame is None and (breach.source, breach.target)
        if key not in found or (breach.confirmed and not found[key].confirmed):
            found[key] = breach
    return tuple(found.values()), len(suspects) - len(found)
