"""Filtered VMs behind simulated routers of their own host: groups, the routed hop and NAT, in one pass of br-int."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import count

import pytest
from groupkit import Card, Site, site

from flows.fields import TCP, UDP
from flows.host import ANNOUNCEMENT_METER, Filter, Host, Identity, Network, Port, Profile
from tests import hopcloud
from tests.edge_packets import ICMP, Packet
from tests.groupcloud import rule

pytestmark = [pytest.mark.system, pytest.mark.shared]

_PORTS = count(30000)
_WEB, _DB = 0x80000301, 0x80000302
_PROFILES = {"web1": Profile(_WEB, "web", "networks.blue", (
                 rule("web: tcp 80", protocol=TCP, ports=(80, 80)), rule("web: ping", protocol=ICMP, icmp=(8, None))),
                 may_begin=True),
             "db1": Profile(_DB, "db", "networks.green", (
                 rule("db: tcp 5432 from blue", protocol=TCP, ports=(5432, 5432), remote="10.0.1.0/24"),
                 rule("db: tcp 80", protocol=TCP, ports=(80, 80)),
                 rule("db: udp 53 to blue", by_vm=True, protocol=UDP, ports=(53, 53), remote="10.0.1.0/24")),
                 may_begin=False)}
_EARS = {"blue": 51, "green": 52}  # somebody on each network to hear the ARP that rings
_FIP_WEB, _FIP_DB = "203.0.113.50", "203.0.113.51"


def _ear(network: str) -> hopcloud.Vm:
    return hopcloud.Vm(network, hopcloud.VMS["web1" if network == "blue" else "db1"].address[:-2] + "99",
                       _EARS[network])


def _filtered(net: Network) -> Network:
    ports = tuple(replace(port, filter=Filter(port.ofport, _PROFILES[port.name].number))
                  if port.name in _PROFILES else port for port in net.ports)
    if net.name in _EARS:
        ear = _ear(net.name)
        ports += (Port("ear", "vms.ear", ear.port, ear.mac, (Identity(ear.mac, (ip_network(ear.address),)),)),)
    here = tuple(_PROFILES[port.name] for port in net.ports if port.name in _PROFILES)
    return replace(net, ports=ports, profiles=here)


def _host() -> Host:
    made = hopcloud.host()
    return replace(made, firewall="openvswitch", networks=tuple(map(_filtered, made.networks)))


@pytest.fixture(scope="module")
def there() -> Iterator[Site]:
    vms = {**hopcloud.VMS, **{f"ear-{name}": _ear(name) for name in _EARS}}
    cards = {name: Card(vm.port, vm.mac, vm.address) for name, vm in vms.items()}
    with site(_host(), cards, (*hopcloud.METERS, ANNOUNCEMENT_METER)) as made:
        yield made


def routed(there: Site, sender: str, packet: Packet) -> list[str]:
    """Who gets what somebody sends to its gateway."""
    leg = next(leg for simulated in hopcloud.routers() for leg in simulated.router.legs
               if ip_address(there.cards[sender].address) in leg.addresses[0].network)
    return there.reaches(sender, packet, leg.mac)


def tcp(source: str, target: str, port: int, protocol: int = TCP) -> Packet:
    return Packet(protocol, ip_address(source), ip_address(target), next(_PORTS), port)


WEB, WEB2, DB = (hopcloud.VMS[name].address for name in ("web1", "web2", "db1"))


def test_what_two_filtered_vms_say_through_a_router_passes_as_the_groups_of_both_allow(there: Site) -> None:
    sent = tcp(WEB, DB, 5432)
    assert routed(there, "web1", sent) == ["db1"]
    assert routed(there, "db1", sent.answer()) == ["web1"]
    assert routed(there, "web1", tcp(WEB, DB, 5433)) == []
    assert routed(there, "db1", tcp(DB, WEB, 80)) == []  # web1 would hear it, but db1 may not begin it
    asked = tcp(DB, WEB2, 53, UDP)
    assert routed(there, "db1", asked) == ["web2"]
    assert routed(there, "web2", asked.answer()) == ["db1"]
    assert routed(there, "web2", asked.answer().error(ip_address(DB))) == []
    assert routed(there, "web2", asked.error(ip_address(WEB2))) == ["db1"]


def test_a_filtered_vm_reaches_a_filtered_vm_by_its_floating_ip_and_is_answered(there: Site) -> None:
    """The longest way that there is: out of a VM, translated at both ends, into a VM."""
    sent = tcp(WEB, _FIP_DB, 80)
    assert routed(there, "web1", sent) == ["db1"]
    seen = tcp(_FIP_WEB, DB, 80)  # as db1 sees it
    answer = replace(seen.answer(), dport=sent.sport)
    assert routed(there, "db1", answer) == ["web1"]
    assert routed(there, "web1", tcp(WEB, _FIP_DB, 81)) == []
    assert routed(there, "web1", tcp(WEB, _FIP_DB, 5432)) == []  # db1 is called from outside of blue now


def test_an_unfiltered_vm_calls_a_filtered_one_by_its_floating_ip(there: Site) -> None:
    assert routed(there, "web2", tcp(WEB2, _FIP_WEB, 80)) == ["web1"]
    assert routed(there, "web2", tcp(WEB2, _FIP_WEB, 22)) == []


def test_what_leaves_a_vm_by_its_groups_is_not_taken_for_what_enters_one(there: Site) -> None:
    """A VM that calls its own floating IP: out of it and into it in one pass, in one zone."""
    assert routed(there, "web1", tcp(WEB, _FIP_WEB, 80)) == ["web1"]
    assert routed(there, "web1", tcp(WEB, _FIP_WEB, 22)) == []
