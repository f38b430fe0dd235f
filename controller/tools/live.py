"""One marked packet in the running lab: sent, heard at every device of its computed way, and both put side by side."""
from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from controller.model.placement import Seen
from controller.model.topology import Topology
from controller.tools import lab
from controller.tools.beside import Beside
from controller.tools.client import ask
from controller.tools.counted import Switches
from controller.tools.errors import MISSING, Refusal
from controller.tools.journey import Journey, Live
from controller.tools.nodes import state
from controller.tools.rundir import Rundir
from controller.tools.services import Service
from controller.tools.shooting import Shooting
from controller.tools.topologies import valid
from controller.tools.trace import trace


def live(where: Rundir, src: str, dst: str, service: Service | None = None, packets: int = 1, *,
         counting: bool = True) -> Journey:
    """The journey in the lab that runs, computed with the numbers of its switches, and what was observed of it.

    Of several packets the last is the one that is told. `counting`: ask the flows, too, which takes a second or two
    each time, as they count late. Refusal without a lab, or for a name that there is not.
    """
    topology = lab_topology(where)
    switches = Switches(topology, where.path)
    seen, unknown = _seen(where, switches, _hosts(trace(topology, src, dst, service=service)))
    journey = trace(topology, src, dst, seen, service)
    if not journey.legs:
        return replace(journey, live=Live((), tuple(unknown), ""))
    shooting = Shooting(topology, where.path, switches, journey)
    for _ in range(packets):
        record = shooting.shoot(counting=counting)
    beside = Beside(topology, shooting.lookouts, journey, record)
    legs = tuple(beside.leg(leg) for leg in journey.legs)
    unknown += [f"{sentence}: what its flows count is not known" for sentence in switches.mute.values()]
    return replace(journey, legs=legs, live=Live(beside.sentences(), tuple(unknown), f"{shooting.mark.run:08x}"))


def lab_topology(where: Rundir) -> Topology:
    """What the running lab was built from. Refusal without one."""
    file = lab.topology_file(where.path)
    if not state(where.path) or not file.exists():
        raise Refusal(f"No lab runs at {where.path}: bring one up with `tunbridge lab up`.", MISSING)
    return valid(str(file))


def _hosts(journey: Journey) -> tuple[str, ...]:
    found = [hop.host for hop in journey.hops] + [host for leg in journey.legs for host in leg.hosts]
    return tuple(dict.fromkeys(found))


def _seen(where: Rundir, switches: Switches, hosts: Iterable[str]) -> tuple[dict[str, Seen], list[str]]:
    """The hosts' numbers, and what is not known of them."""
    vlans, unknown = {}, []
    try:
        status = ask(where, {"do": "status"})["switches"]
        vlans = {one["host"]: one["vlans"] for one in status if one["connected"]}
        unknown = [f"{host} is not connected to the daemon: its local VLANs are computed as on a new host"
                   for host in sorted({one["host"] for one in status} - set(vlans)) if host in hosts]
    except Refusal as reason:
        unknown = [f"{str(reason).partition('. ')[0]}: local VLANs are computed as on new hosts"]
    there = [host for host in hosts if host in switches.topology.hosts]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda host: switches.seen(host, vlans.get(host, {})), there))
    return {host: seen for host, seen in zip(there, answers, strict=True) if seen is not None}, unknown
