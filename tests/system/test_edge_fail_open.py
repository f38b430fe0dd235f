"""Never a moment open: a VM sends 10,000 forbidden packets a second, whatever happens to its port, rules and switches.

Who counts is the kernel, at the interfaces of those that must not hear it; among them goes what they may hear, so that
silence is not taken for safety.
"""
from __future__ import annotations

import itertools
import json
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from edgewatch import ALLOWED, FORBIDDEN, Blaster, Tally, tallies
from labkit import Cloud, cloud, tunbridge, until

from controller.tools import lab
from tests.edge_oracle import link_local
from tests.edge_packets import ICMPV6, TCP, UDP, Packet, arp, ip, ipv4_header, mac_bytes

pytestmark = [pytest.mark.system, pytest.mark.alone]

RATE = 10_000  # frames a second
ENOUGH = 2_000  # frames of a blast that must be sent while something happens
MACS = {"evil": "fa:16:3e:00:00:66", "evil:eth1": "fa:16:3e:00:00:67", "near": "fa:16:3e:00:00:11",
        "far": "fa:16:3e:00:00:12", "bare": "fa:16:3e:00:00:13", "late": "fa:16:3e:00:00:14"}
IPS = {"evil": "10.0.1.66", "evil:eth1": "10.0.1.67", "near": "10.0.1.11", "far": "10.0.1.12", "bare": "10.0.1.13",
       "late": "10.0.1.14"}
LISTENERS = ["near", "far", "bare", "late", "twin"]
RULES = """  web:
    - {direction: ingress, protocol: udp, port: 80}
    - {direction: ingress, protocol: any, remote_group: friends}
  friends: []
"""
NO_RULES = """  web: [{direction: ingress, protocol: tcp, port: 9}]
  friends: []
"""
OTHER_RULES = """  web:
    - {direction: ingress, protocol: udp, port: "79-80", remote: 10.0.1.0/24}
    - {direction: ingress, protocol: tcp, port: 443, remote: 10.0.1.13}
    - {direction: ingress, protocol: icmp, remote_group: friends}
  friends: [{direction: ingress, protocol: tcp, port: 22}]
"""


def topology(firewall: str, *, rules: str = RULES, host: str = "c1", evil: bool = False, late: bool = False) -> str:
    """The cloud; `evil` and `late`: these have a second port, on blue."""
    return f"""
cloud: never-open
underlay: {{cidr: 192.0.2.0/24}}
firewall: {firewall}
hosts: {{c1: {{tunnel_ip: 192.0.2.11}}, c2: {{tunnel_ip: 192.0.2.12}}}}
networks:
  blue: {{tunnel_id: 1001, subnets: {{blue4: {{cidr: 10.0.1.0/24}}}}}}
  red: {{tunnel_id: 1002, subnets: {{red4: {{cidr: 10.0.1.0/24}}}}}}
security_groups:
  closed:
    - {{direction: egress, protocol: udp, port: "80-81"}}
    - {{direction: egress, protocol: tcp, port: 81}}
{rules}
vms:
  evil:
    host: {host}
    ports:
      - {{network: blue, ip: 10.0.1.66, mac: "{MACS['evil']}", security_groups: [closed]}}
      {f'- {{network: blue, ip: 10.0.1.67, mac: "{MACS["evil:eth1"]}", security_groups: [closed]}}' if evil else ''}
  late:
    host: c2
    ports:
      - {{network: red, ip: 10.0.1.50}}
      {f'- {{network: blue, ip: 10.0.1.14, mac: "{MACS["late"]}", security_groups: [web]}}' if late else ''}
  near: {{host: c1, network: blue, ip: 10.0.1.11, mac: "{MACS['near']}", security_groups: [web]}}
  far: {{host: c2, network: blue, ip: 10.0.1.12, mac: "{MACS['far']}", security_groups: [web]}}
  bare: {{host: c2, network: blue, ip: 10.0.1.13, mac: "{MACS['bare']}"}}
  twin: {{host: c1, network: red, ip: 10.0.1.11, mac: "{MACS['near']}"}}
"""


# ---- what is sent

_PORTS = itertools.count(5000)  # of senders: every frame begins a conversation of its own


def udp(source: str, target: str, port: int, end: bytes, **worn: str) -> bytes:
    packet = Packet(UDP, ip_address(worn.get("ip", IPS[source])), ip_address(IPS.get(target, target)),
                    next(_PORTS), port)
    return ethernet(worn.get("mac", MACS[source]), MACS.get(target, "ff:ff:ff:ff:ff:ff"), 0x0800, ip(packet, end))


def ethernet(source: str, target: str, kind: int, body: bytes, tag: bytes = b"") -> bytes:
    return mac_bytes(target) + mac_bytes(source) + tag + struct.pack("!H", kind) + body


def forbidden(who: str) -> Iterator[bytes]:
    """Frames that nobody may ever hear of this port."""
    own, end = MACS[who], b"\0" * 20 + FORBIDDEN
    everybody = "255.255.255.255"
    for target in ("near", "far", "late"):
        yield udp(who, target, 81, end)  # they let nobody in there
        yield udp(who, target, 80, end, ip="10.0.1.99")  # somebody else's addresses
        yield udp(who, target, 80, end, mac="fa:16:3e:00:00:99")
        ack = Packet(TCP, ip_address(IPS[who]), ip_address(IPS[target]), 5000, 81, flags="A")
        yield ethernet(own, MACS[target], 0x0800, ip(ack, end))
        yield ethernet(own, MACS[target], 0x88B5, bytes(40) + FORBIDDEN)  # no IP, no ARP
        for tag in (b"\x81\x00\x00\x01", b"\x81\x00\x00\x02", b"\x81\x00\x00\x01\x81\x00\x00\x02"):
            yield ethernet(own, MACS[target], 0x0800, udp(who, target, 80, end)[14:], tag)
        header = ipv4_header(ip_address(IPS[who]), ip_address(IPS[target]), UDP, len(end), fragment=100)
        yield ethernet(own, MACS[target], 0x0800, header + end)  # a fragment of nothing
    for target in ("near", "bare", everybody):
        yield udp(who, target, 82, end)  # its own groups do not let it
    yield udp(who, everybody, 80, end, ip="10.0.1.1")
    lie = arp(own, IPv4Address(IPS["far"]), IPv4Address("10.0.1.13"), 0)
    yield lie[:-4] + FORBIDDEN
    offer = Packet(UDP, ip_address(IPS[who]), ip_address(everybody), 67, 68)
    yield ethernet(own, "ff:ff:ff:ff:ff:ff", 0x0800, ip(offer, end))
    advertisement = Packet(ICMPV6, link_local(own), IPv6Address("ff02::1"), icmp_type=134)
    yield ethernet(own, "33:33:00:00:00:01", 0x86DD, ip(advertisement, end))


def allowed(who: str) -> Iterator[bytes]:
    """What they may hear, in conversations that nobody has had before, so that each must be let in."""
    for _ in range(5):
        yield from (udp(who, target, 80, bytes(20) + ALLOWED) for target in ("near", "far", "bare"))


# ---- who is there

class Scene:
    """A cloud under fire."""

    def __init__(self, running: Cloud, firewall: str, bad: dict[str, Tally], good: dict[str, Tally]) -> None:
        self.cloud, self.firewall, self.bad, self.good = running, firewall, bad, good

    def change(self, **what: object) -> None:
        self.cloud.file.write_text(topology(self.firewall, **what))  # type: ignore[arg-type]
        self.cloud.tunbridge("apply", str(self.cloud.file))
        self.cloud.in_sync()

    def heard(self, *who: str, times: int = 20) -> None:
        """Wait until these hear what they may hear, from now on and so often."""
        before = {name: self.good[name].count for name in who}
        until(lambda: all(self.good[name].count > count + times for name, count in before.items()), f"{who} hear again")

    @contextmanager
    def under_fire(self, who: str = "evil", interface: str = "eth0") -> Iterator[None]:
        """A blast before, while and after something happens, of which nobody hears what is forbidden."""
        blaster = Blaster(self.cloud, "evil", interface, [*forbidden(who), *allowed(who)], RATE)
        try:
            yield
            self.heard("near", "far", "bare", times=400)
        finally:
            sent = blaster.stop()
        leaks = {name: (each.count, each.some()) for name, each in self.bad.items() if each.count}
        assert sent > ENOUGH
        assert not leaks, json.dumps(leaks, indent=1)


@pytest.fixture(scope="module", params=["openvswitch", "iptables_hybrid"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with ExitStack() as stack:
        running = stack.enter_context(cloud(topology(request.param)))
        bad = stack.enter_context(tallies(running, LISTENERS, FORBIDDEN))
        good = stack.enter_context(tallies(running, LISTENERS, ALLOWED))
        yield Scene(running, request.param, bad, good)


# ---- what happens

def test_nothing_happens(scene: Scene) -> None:
    with scene.under_fire():
        scene.heard("near", "far", "bare")


def test_its_port_is_created_and_removed(scene: Scene) -> None:
    with scene.under_fire("evil:eth1", "eth1"):
        scene.change(evil=True)
        scene.heard("near", "far", "bare")
    scene.change()


def test_the_port_of_its_victim_is_created_and_removed(scene: Scene) -> None:
    with scene.under_fire():
        scene.change(late=True)
        scene.heard("near", "far", "bare")
        scene.change()


def test_rules_change(scene: Scene) -> None:
    with scene.under_fire():
        for rules in (OTHER_RULES, RULES):
            scene.change(rules=rules)


def test_a_rule_goes_and_the_stream_that_it_allowed_ends_with_it(scene: Scene) -> None:
    with scene.under_fire():
        scene.change(rules=NO_RULES)
        for _ in range(2):  # what was under way then
            scene.heard("bare")
        before = scene.good["near"].count, scene.good["far"].count
        scene.heard("bare", times=200)
        assert (scene.good["near"].count, scene.good["far"].count) == before
        scene.change()


@pytest.mark.parametrize("scene", ["iptables_hybrid"], indirect=True)
def test_rules_do_not_get_in(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without its rules is closed; with the next convergence it is there."""
    for program in ("iptables-restore", "ip6tables-restore"):
        (tmp_path / program).write_text("#!/bin/sh\ncat >/dev/null\necho 'no more memory' >&2\nexit 4\n")
        (tmp_path / program).chmod(0o755)
    with scene.under_fire("evil:eth1", "eth1"):
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
            scene.cloud.file.write_text(topology(scene.firewall, evil=True, late=True))
            done = tunbridge("apply", str(scene.cloud.file), rundir=scene.cloud.rundir, check=False)
        assert done.returncode == 3 and "no more memory" in done.stderr
        status = tunbridge("status", "--json", rundir=scene.cloud.rundir, check=False)
        told = json.loads(status.stdout)
        assert (status.returncode, told["ok"], told["in_sync"]) == (1, False, True)
        assert {one["object"] for one in told["troubles"]} >= {"port evil:eth1", "port late:eth1"}
        time.sleep(0.5)  # of a blast into closed ports
        scene.cloud.up()
    scene.change()


def test_lone_fragments_wait_nowhere_for_a_packet_to_come_out_with(scene: Scene) -> None:
    """Open vSwitch puts fragments together in one place for all tenants; what expires there leaves with anybody's."""
    lab.restart_vswitchd(scene.cloud.rundir, "c1", kill9=True)
    with scene.under_fire():
        scene.cloud.in_sync()
    for host in ("c1", "c2"):
        told = scene.cloud.run(host, "ovs-appctl", "dpctl/ipf-get-status")
        assert re.findall(r"v[46] enabled: (\d)", told) == ["0", "0"], told


def test_the_daemon_is_killed_and_comes_back(scene: Scene) -> None:
    with scene.under_fire():
        scene.cloud.kill_daemon()
        scene.heard("near", "far", "bare")
        scene.cloud.start_daemon()
        scene.cloud.in_sync()


@pytest.mark.parametrize("host", ["c1", "c2"])
def test_ovs_vswitchd_is_killed_and_comes_back(scene: Scene, host: str) -> None:
    with scene.under_fire():
        lab.restart_vswitchd(scene.cloud.rundir, host, kill9=True)
        scene.cloud.in_sync()


def test_the_switch_restarts_while_there_is_no_daemon(scene: Scene) -> None:
    with scene.under_fire():
        scene.cloud.kill_daemon()
        lab.restart_vswitchd(scene.cloud.rundir, "c1", kill9=True)
        scene.cloud.start_daemon()
        scene.cloud.in_sync()


def test_it_moves_to_another_host_and_back(scene: Scene) -> None:
    with scene.under_fire():
        scene.change(host="c2")
        scene.heard("near", "far", "bare")
        scene.change()


def test_the_lab_converges_again_under_fire(scene: Scene) -> None:
    with scene.under_fire():
        tunbridge("lab", "up", str(scene.cloud.file), rundir=scene.cloud.rundir)
        tunbridge("recompute", rundir=scene.cloud.rundir)
