"""Others at work on the tables of a real Open vSwitch, and the daemon that minds them. Dummy ports, no lab."""
from __future__ import annotations

import json
import random
import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.model import placement
from controller.tools import flows, rundir, status
from flows.cookie import LEARNED_COOKIE
from flows.routing.wireformat import Arp, mac_bytes
from tests.clouds import parse
from tests.commands import Daemon, daemon, place
from tests.private_ovs import Control, PrivateOvs
from tests.routerkit import number

pytestmark = [pytest.mark.system, pytest.mark.shared]
PATIENCE = 60  # seconds; only something that hangs needs them
CLOUD = """
cloud: healing
underlay: {cidr: 192.0.2.0/24}
firewall: openvswitch
hosts:
  n1: {tunnel_ip: 192.0.2.11, role: network}
  n2: {tunnel_ip: 192.0.2.12}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
routers:
  r1: {host: n1, driver: simulated, interfaces: [blue-subnet, green-subnet]}
security_groups:
  web: [{direction: ingress, protocol: tcp, port: 80}, {direction: egress, protocol: any}]
vms:
  a: {host: n1, network: blue, ip: 10.0.1.11, security_groups: [web]}
  b: {host: n1, network: blue, ip: 10.0.1.12, security_groups: [web]}
  c: {host: n2, network: blue, ip: 10.0.1.13, security_groups: [web]}
  d: {host: n1, network: green, ip: 10.0.2.11, security_groups: [web]}
"""
TOPOLOGY = parse(CLOUD)
PORTS = {port.name: port for port in TOPOLOGY.ports()}
BRIDGES = ("br-int", "br-tun")
ROW = re.compile(r"cookie=(0x[0-9a-f]+), (?:table=(\d+), )?priority=(\d+)(?:,(\S+))? actions=(.*)")
STRANGER = 0x7700000000000001
ODD = "priority=30000,dl_vlan=4000"  # no flow of ours is there


class Site:
    """The host n1."""

    def __init__(self, ovs: PrivateOvs, control: Control, where: Path) -> None:
        self.ovs, self.rundir = ovs, where
        self._control = control
        self._read = 24
        self._claims = 0

    def ours(self, bridge: str) -> list[str]:
        return sorted(line for line in self.ovs.dump(bridge) if line.startswith("cookie=0x5401"))

    def others(self, bridge: str) -> list[str]:
        return sorted(line for line in self.ovs.dump(bridge) if not line.startswith("cookie=0x5401"))

    def meters(self) -> list[str]:
        return sorted(self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "dump-meters", "br-int").splitlines()[1:])

    def ofctl(self, *words: str) -> None:
        self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", *words)

    def claims_anothers_address(self) -> bytes:
        """VM a says to b that it is 10.0.1.66. Nothing is cached of what became of it before, and no two are equal.

        A busy machine may take one of before for a while yet.
        """
        self._claims += 1
        self._control.ask("revalidator/purge")
        own, to = mac_bytes(PORTS["a"].mac), mac_bytes(PORTS["b"].mac)
        claim = Arp(2, own, number("10.0.1.66"), to, number("10.0.1.12")).framed(own, to)
        frame = claim.ljust(58, b"\0") + self._claims.to_bytes(2)
        self._control.ask("netdev-dummy/receive", PORTS["a"].device, frame.hex())
        return frame

    def heard(self) -> list[bytes]:
        """The frames that b has got and this test has not yet seen."""
        data, found = (self.ovs.dir / "b.pcap").read_bytes(), []
        while self._read + 16 <= len(data):
            length = struct.unpack_from("<I", data, self._read + 8)[0]
            found.append(data[self._read + 16:self._read + 16 + length])
            self._read += 16 + length
        return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    seen, host = placement.imagined(TOPOLOGY, "n1"), TOPOLOGY.hosts["n1"]
    with place() as made, PrivateOvs() as ovs, ovs.control() as control:
        (made / "topology.yaml").write_text(CLOUD)
        (ovs.dir / "of.sock").symlink_to(made / "openflow.sock")  # it takes no path outside of its own directory
        for bridge, ports in seen.ports.items():
            ovs.add_bridge(bridge, ports)
            ovs.vsctl("set", "bridge", bridge, f"other-config:datapath-id={host.datapath_ids[bridge]:016x}",
                      "--", "set-controller", bridge, f"unix:{ovs.dir}/of.sock",
                      "--", "set", "controller", bridge, "max_backoff=1000")
        ovs.vsctl("set", "interface", PORTS["b"].device, f"options:tx_pcap={ovs.dir}/b.pcap")
        yield Site(ovs, control, made)


@contextmanager
def served(site: Site, *options: str) -> Iterator[Daemon]:
    """A daemon that is in sync."""
    words = ("--listen", "none", "--host", "n1", *options)
    with daemon(site.rundir, site.rundir / "topology.yaml", *words) as made:
        until(lambda: asked(made)["ok"], made.words)
        yield made
        assert " ERROR " not in made.words(), made.words()


def asked(made: Daemon, verb: str = "status") -> Any:
    return json.loads(made.asks(json.dumps({"do": verb}).encode()))


def described(made: Daemon, bridge: str) -> Any:
    return next(one for one in asked(made)["switches"] if one["bridge"] == bridge)


def until(true: Callable[[], bool], words: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, words()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def module_daemon(site: Site) -> Iterator[Daemon]:
    with served(site) as made:
        yield made


@pytest.fixture
def healed(site: Site, module_daemon: Daemon) -> Iterator[Callable[[], None]]:
    """To be called when something has been done to the tables: waits until all is as it was before the test."""
    before, meters = {bridge: site.ours(bridge) for bridge in BRIDGES}, site.meters()

    def wrong() -> object:
        now = {bridge: set(site.ours(bridge)) ^ set(before[bridge]) for bridge in BRIDGES}
        return {**now, "meters": set(site.meters()) ^ set(meters), "ok": asked(module_daemon)["ok"]}

    def whole() -> bool:
        return (all(site.ours(bridge) == before[bridge] for bridge in BRIDGES) and site.meters() == meters
                and bool(asked(module_daemon)["ok"]))

    def wait() -> None:
        until(whole, lambda: (wrong(), module_daemon.words()))

    yield wait
    wait()


def parts(line: str) -> tuple[str, str, str, str]:
    """(cookie, table, priority and match, actions) of a dumped row."""
    found = ROW.fullmatch(line)
    assert found, line
    match = f",{found[4]}" if found[4] else ""
    return found[1], f"table={found[2] or 0}", f"priority={found[3]}{match}", found[5]


def test_whatever_others_do_to_any_flow_it_is_back_and_told(
        site: Site, module_daemon: Daemon, seed: int, healed: Callable[[], None]) -> None:
    dice = random.Random(seed)
    for bridge in BRIDGES:
        rows = site.ours(bridge)
        dice.shuffle(rows)
        for at, (what, tamper) in enumerate(TAMPER.items()):
            told = module_daemon.words().count(f"WARNING healed switch=n1/{bridge} what={what}")
            for row in rows[at::len(TAMPER)][:8]:
                tamper(site, bridge, *parts(row))
            healed()
            assert module_daemon.words().count(f"WARNING healed switch=n1/{bridge} what={what}") > told


def deleted(site: Site, bridge: str, cookie: str, table: str, match: str, actions: str) -> None:
    site.ofctl("--strict", "del-flows", bridge, f"{table},{match}")


def altered(site: Site, bridge: str, cookie: str, table: str, match: str, actions: str) -> None:
    other = "drop" if actions != "drop" else "set_field:7->reg15"
    site.ofctl("--strict", "mod-flows", bridge, f"{table},{match} actions={other}")


def overwritten(site: Site, bridge: str, cookie: str, table: str, match: str, actions: str) -> None:
    site.ofctl("add-flow", bridge, f"cookie={STRANGER},{table},{match} actions=drop")


def expiring(site: Site, bridge: str, cookie: str, table: str, match: str, actions: str) -> None:
    site.ofctl("add-flow", bridge, f"cookie={cookie},hard_timeout=600,{table},{match} actions={actions}")


def copied(site: Site, bridge: str, cookie: str, table: str, match: str, actions: str) -> None:
    site.ofctl("add-flow", bridge, f"cookie={cookie},{table},{ODD},reg15=0x{cookie[-6:]} actions=drop")


def surplus(site: Site, bridge: str, cookie: str, table: str, match: str, actions: str) -> None:
    site.ofctl("add-flow", bridge, f"cookie=0x5401{cookie[-6:]:>012},{table},{ODD},reg15=1 actions=drop")


TAMPER = {"deleted": deleted, "altered": altered, "overwritten": overwritten, "copied": copied,
          "surplus": surplus}


def test_a_flow_that_was_made_to_expire_is_for_ever_again(site: Site, healed: Callable[[], None]) -> None:
    for row in site.ours("br-tun")[:3]:
        expiring(site, "br-tun", *parts(row))
    healed()


def test_all_flows_deleted_at_once_are_all_back(site: Site, module_daemon: Daemon,
                                                healed: Callable[[], None]) -> None:
    for bridge in BRIDGES:
        site.ofctl("del-flows", bridge)
    healed()
    assert all(described(module_daemon, bridge)["healed"] for bridge in BRIDGES)


def test_deleted_meters_come_back_with_their_flows(site: Site, healed: Callable[[], None]) -> None:
    assert any("meter:" in row for row in site.ours("br-int"))
    site.ofctl("del-meters", "br-int")
    healed()


def test_strangers_and_learned_flows_are_left_alone(site: Site, module_daemon: Daemon,
                                                    healed: Callable[[], None]) -> None:
    learned = f"cookie={LEARNED_COOKIE:#x},table=20,priority=2,vlan_tci=0x0001/0x0fff,dl_dst=00:00:00:00:00:09"
    for bridge in BRIDGES:
        site.ofctl("add-flow", bridge, f"cookie={STRANGER},table=0,priority=9,dl_type=0x1234 actions=drop")
    site.ofctl("add-flow", "br-tun", f"{learned} actions=output:1")
    before = [site.others(bridge) for bridge in BRIDGES]
    count = [described(module_daemon, bridge)["counters"] for bridge in BRIDGES]
    for row in site.ours("br-tun")[:2]:
        deleted(site, "br-tun", *parts(row))
    healed()
    assert [site.others(bridge) for bridge in BRIDGES] == before
    after = [described(module_daemon, bridge)["counters"] for bridge in BRIDGES]
    assert after[0] == count[0], "nothing was written to br-int"
    assert after[1] == {**count[1], "added": count[1]["added"] + 2, "writes": after[1]["writes"]}
    for bridge in BRIDGES:
        site.ofctl("del-flows", bridge, f"cookie={STRANGER}/-1")
    site.ofctl("--strict", "del-flows", "br-tun", learned.partition(",")[2])


def test_a_crowd_of_strangers_costs_no_write(site: Site, module_daemon: Daemon, healed: Callable[[], None]) -> None:
    before = described(module_daemon, "br-int")["counters"]
    site.ovs.add_flows("br-int", (f"cookie={STRANGER},table=60,priority=9,reg15={value} actions=drop"
                                  for value in range(5000)))
    healed()
    site.ofctl("del-flows", "br-int", f"cookie={STRANGER}/-1")
    healed()
    assert {**described(module_daemon, "br-int")["counters"], "compiled": before["compiled"]} == before


def test_a_hole_made_by_hand_is_told_of_or_closed_and_who_makes_it_again_is_named(
        site: Site, module_daemon: Daemon) -> None:
    module_daemon.end()
    guard = next(row for row in site.ours("br-int") if f"table=24, priority=1,arp,in_port={in_port(site)}" in row)
    _, table, match, _ = parts(guard)
    hole = f"{table},{match} actions=goto_table:25"
    with served(site, "--no-heal") as watching:
        assert site.claims_anothers_address() not in site.heard()
        site.ofctl("--strict", "mod-flows", "br-int", hole)
        until(lambda: described(watching, "br-int")["drift"] == 1, watching.words)
        until(lambda: site.claims_anothers_address() in site.heard(), lambda: "or this test would show nothing")
        assert not asked(watching)["ok"]
        assert any("drift[/red]: altered: table 24 arp-spoof" in line for line in status.lines(
            status.with_dead(asked(watching), rundir.rundir(str(site.rundir)))))
        differing = flows.differing(asked(watching, "flows")["bridges"])
        assert [(one["status"], one["actions"]) for one in differing[0]["flows"]] == [("altered", "goto_table:25")]
        assert "WARNING drift switch=n1/br-int what=altered" in watching.words()
    with served(site) as healing:  # the hole was made while it was away
        until(lambda: guard in site.ours("br-int"), healing.words)
        until(lambda: asked(healing)["ok"], healing.words)
        assert site.claims_anothers_address() not in site.heard()
        site.ofctl("--strict", "mod-flows", "br-int", hole)
        until(lambda: described(healing, "br-int")["healed"] == 2, healing.words)
        until(lambda: asked(healing)["ok"], healing.words)
        assert site.claims_anothers_address() not in site.heard()
        assert "WARNING fought over switch=n1/br-int what=altered" in healing.words()


def in_port(site: Site) -> str:
    return site.ovs.vsctl("get", "interface", PORTS["a"].device, "ofport").strip()
