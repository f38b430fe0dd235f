"""The life of the hybrid firewall in a hypervisor's own kernel: rules come, change, fail, go, and are put right."""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.labkit import Cloud, cloud, tunbridge, until

pytestmark = pytest.mark.system

TEXT = """
cloud: hybrid
underlay: {{cidr: 192.0.2.0/24}}
firewall: iptables_hybrid
hosts: {{c1: {{tunnel_ip: 192.0.2.11}}, c2: {{tunnel_ip: 192.0.2.12}}}}
networks:
  blue:
    tunnel_id: 7
    subnets: {{four: {{cidr: 10.0.0.0/24}}, six: {{cidr: "fd00::/64"}}}}
security_groups:
  web: [{web}]
  peers:
    - {{direction: ingress, protocol: tcp, port: 22, remote_group: peers}}
  quiet: [{{direction: egress, protocol: udp, port: 53}}]
vms:
  web: {{host: c1, network: blue, ip: 10.0.0.11, security_groups: [web]}}
  web6: {{host: c1, network: blue, ip: "fd00::11", security_groups: [web]}}
  one: {{host: c1, network: blue, ip: 10.0.0.21, security_groups: [peers]}}
  two: {{host: c2, network: blue, ip: 10.0.0.22, security_groups: [{two}]}}
  free: {{host: c2, network: blue, ip: 10.0.0.31}}
  free6: {{host: c2, network: blue, ip: "fd00::31"}}
  quiet: {{host: c2, network: blue, ip: 10.0.0.41, security_groups: [quiet]}}
{more}
"""
PING = "{direction: ingress, protocol: icmp}"
PING6 = "{direction: ingress, protocol: icmp, ethertype: IPv6}"
HTTP = "{direction: ingress, protocol: tcp, port: 80}"
SSH = "{direction: ingress, protocol: tcp, port: 22}"


def text(*web: str, two: str = "peers", more: str = "") -> str:
    return TEXT.format(web=", ".join(web), two=two, more=f"  {more}" if more else "")


START = text(PING, PING6, HTTP, SSH)


@pytest.fixture(scope="module")
def place() -> Iterator[Cloud]:
    with cloud(START) as made:
        yield made


@pytest.fixture(autouse=True)
def as_at_the_start(place: Cloud) -> None:
    if place.file.read_text() != START:
        change(place, START)


def change(place: Cloud, wanted: str) -> None:
    """The daemon obeys another topology, and the lab follows it."""
    place.file.write_text(wanted)
    tunbridge("apply", str(place.file), rundir=place.rundir)


class Talk:
    """A TCP connection between two VMs, from whose ends anything can be said."""

    def __init__(self, place: Cloud, client: str, server: str, port: int) -> None:
        address = str(place.port(server).ip)
        with place.socket(server) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
            listening.listen()
            self.client = place.socket(client)
            self.client.connect((address, port))
            self.server, _ = listening.accept()

    def passes(self, patience: float = 5.0) -> bool:
        """Whether a line said now is heard, both ways."""
        for out, into in ((self.client, self.server), (self.server, self.client)):
            into.settimeout(patience)
            out.send(b"still there?\n")
            try:
                while not into.recv(100).endswith(b"?\n"):
                    pass
            except TimeoutError:
                return False
        return True

    def close(self) -> None:
        self.client.close()
        self.server.close()


@contextlib.contextmanager
def talk(place: Cloud, client: str, server: str, port: int) -> Iterator[Talk]:
    made = Talk(place, client, server, port)
    try:
        yield made
    finally:
        made.close()


def connects(place: Cloud, client: str, server: str, port: int) -> bool:
    """Whether a SYN is answered, be it by a refusal of the VM itself."""
    with place.socket(client) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect((str(place.port(server).ip), port))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
    return True


def tap(place: Cloud, vm: str) -> str:
    return f"tap{str(place.port(vm).id)[:11]}"


def master(place: Cloud, host: str, device: str) -> str | None:
    (link,) = json.loads(place.run(host, "ip", "-json", "link", "show", "dev", device))
    return link.get("master")


def troubles(place: Cloud) -> list[dict[str, Any]]:
    return json.loads((place.rundir / "lab" / "troubles.json").read_text())


def failing(directory: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A program of this name that fails comes first from now on."""
    directory.mkdir(exist_ok=True)
    real = shutil.which(program)
    (directory / program).write_text(f"#!/bin/sh\n[ \"$1\" = save ] && exec {real} save\n"
                                     "cat >/dev/null\necho 'no more memory' >&2\nexit 4\n")
    (directory / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_it_looks_as_the_operators_guides_of_neutron_show_it(place: Cloud) -> None:
    key = str(place.port("web").id)
    name, chain, ours = f"tap{key[:11]}", f"{key[:10]}", "-A neutron-openvswi"
    rules = place.run("c1", "iptables", "-S").splitlines()
    assert [line for line in rules if name in line and "-j DROP" not in line] == [
        f"{ours}-FORWARD -m physdev --physdev-out {name} --physdev-is-bridged -j neutron-openvswi-sg-chain",
        f"{ours}-FORWARD -m physdev --physdev-in {name} --physdev-is-bridged -j neutron-openvswi-sg-chain",
        f"{ours}-INPUT -m physdev --physdev-in {name} -j neutron-openvswi-o{chain}",
        f"{ours}-sg-chain -m physdev --physdev-out {name} --physdev-is-bridged -j neutron-openvswi-i{chain}",
        f"{ours}-sg-chain -m physdev --physdev-in {name} --physdev-is-bridged -j neutron-openvswi-o{chain}"]
    assert f"-A neutron-openvswi-i{chain} -p tcp -m tcp --dport 80 -j RETURN" in rules
    assert rules[rules.index("-A FORWARD -j neutron-filter-top"):][1] == "-A FORWARD -j neutron-openvswi-FORWARD"
    wires = place.run("c1", "bridge", "link")
    assert re.search(rf"{name}@.* master qbr{key[:11]} state forwarding", wires)
    assert re.search(rf"qvb{key[:11]}@.* master qbr{key[:11]} state forwarding", wires)
    raw = place.run("c1", "iptables", "-t", "raw", "-S")
    assert len(set(re.findall(rf"(?:qvb|tap){key[:11]} -j CT --zone (\d+)", raw))) == 1


def test_what_no_rule_allows_stays_out_and_what_one_allows_comes_in_by_either_version_of_ip(place: Cloud) -> None:
    assert place.pings("free", "10.0.0.11") and place.pings("free6", "fd00::11")
    assert connects(place, "free", "web", 80) and not connects(place, "free", "web", 81)
    assert not place.pings("free", "10.0.0.21")
    assert connects(place, "two", "one", 22) and connects(place, "one", "two", 22)
    assert not connects(place, "free", "one", 22) and not connects(place, "web", "one", 22)
    assert place.pings("web", "10.0.0.31"), "who has no egress rule may begin anything"
    assert not place.pings("quiet", "10.0.0.31")
    change(place, text(HTTP))
    assert not place.pings("free", "10.0.0.11") and not place.pings("free6", "fd00::11")


def test_a_rule_that_goes_cuts_what_only_it_allowed_and_nothing_else(place: Cloud) -> None:
    with talk(place, "free", "web", 80) as cut, talk(place, "free", "web", 22) as stays:
        assert cut.passes() and stays.passes()
        change(place, text(PING, PING6, SSH))
        assert stays.passes()
        assert not cut.passes(1.0), "for good, and both ways"
        cut.client.settimeout(0.3)
        cut.server.send(b"and from the other side?\n")
        with pytest.raises(TimeoutError):
            cut.client.recv(100)
        assert not connects(place, "free", "web", 80)
        change(place, START)
        until(lambda: cut.passes(5.0), "an allowed conversation goes on where TCP has not given up")
        assert stays.passes()


def test_what_a_vm_has_begun_is_judged_by_its_egress_rules_when_groups_change(place: Cloud) -> None:
    with talk(place, "two", "free", 8080) as begun:
        change(place, text(PING, PING6, HTTP, SSH, two="quiet"))
        assert not begun.passes(1.0)
    with talk(place, "free", "web", 80) as heard:
        assert heard.passes()


def test_who_leaves_a_group_loses_what_the_group_was_allowed(place: Cloud) -> None:
    with talk(place, "two", "one", 22) as talking:
        assert talking.passes()
        change(place, text(PING, PING6, HTTP, SSH, two=""))
        assert not talking.passes(1.0) and not connects(place, "two", "one", 22)
    change(place, START)
    assert connects(place, "two", "one", 22)


@pytest.mark.parametrize("program", ["ip6tables-restore", "ipset"])
def test_a_port_whose_rules_do_not_get_in_is_closed_and_reported_and_mended(
        place: Cloud, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    new = "new: {host: c1, network: blue, ip: 10.0.0.51, security_groups: [web]}"
    grown = text(PING, PING6, HTTP, SSH, "{direction: ingress, protocol: tcp, remote_group: quiet}", more=new)
    with monkeypatch.context() as patch:
        failing(place.rundir / "fail", patch, program)
        place.file.write_text(grown)
        done = tunbridge("apply", str(place.file), rundir=place.rundir, check=False)
    assert done.returncode == 3 and "port new" in done.stderr and "no more memory" in done.stderr
    closed = {"web", "web6", "new"}
    assert {one["object"] for one in troubles(place) if one["host"] == "c1"} == {f"port {vm}" for vm in closed}
    assert all("no more memory" in one["problem"] for one in troubles(place))
    assert all(master(place, "c1", tap(place, vm)) is None for vm in closed)
    assert not connects(place, "free", "web", 22) and not place.pings("free", "10.0.0.51", wait=0.3)
    assert connects(place, "two", "one", 22), "who has the rules that it shall have is not touched"
    place.up()
    assert troubles(place) == []
    assert connects(place, "free", "web", 22)
    until(lambda: place.pings("free", "10.0.0.51"), "the new port is open")


def test_rules_that_somebody_has_removed_come_back(place: Cloud) -> None:
    before = place.run("c1", "iptables-save")
    place.run("c1", "iptables", "-F")
    place.run("c1", "ip6tables", "-t", "raw", "-F")
    place.run("c1", "sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0")
    assert connects(place, "free", "web", 81), "without rules everything passes"
    place.up()
    assert not connects(place, "free", "web", 81) and connects(place, "free", "web", 80)
    assert rules_of(place.run("c1", "iptables-save")) == rules_of(before)
    assert "-j CT --zone" in place.run("c1", "ip6tables", "-t", "raw", "-S")
    assert "is as the topology wants it" in tunbridge("lab", "up", str(place.file), rundir=place.rundir).stderr


def test_other_rules_come_by_a_short_way_but_not_upon_what_somebody_has_touched(place: Cloud) -> None:
    short = "The rules of 2 ports have changed"
    place.file.write_text(text(PING, PING6, SSH))
    assert short in tunbridge("apply", str(place.file), rundir=place.rundir).stderr
    assert not connects(place, "free", "web", 80) and connects(place, "free", "web", 22)
    place.run("c1", "iptables", "-F")
    place.file.write_text(START)
    assert short not in tunbridge("apply", str(place.file), rundir=place.rundir).stderr
    assert connects(place, "free", "web", 80) and not connects(place, "free", "web", 81)


def test_the_short_way_is_gone_only_from_the_file_that_both_the_daemon_and_the_lab_have(place: Cloud) -> None:
    short = "The rules of 2 ports have changed"
    place.kill_daemon()
    place.start_daemon()
    place.in_sync()
    place.file.write_text(text(PING, PING6, SSH))
    assert short in tunbridge("apply", str(place.file), rundir=place.rundir).stderr, "a new daemon read the same file"
    place.file.write_text(text(PING, PING6, HTTP))
    place.up()
    place.file.write_text(START)
    assert short not in tunbridge("apply", str(place.file), rundir=place.rundir).stderr, "the lab had become another"
    assert connects(place, "free", "web", 80) and connects(place, "free", "web", 22)
    assert not connects(place, "free", "web", 81)


def rules_of(saved: str) -> list[str]:
    return sorted(line for line in saved.splitlines() if line.startswith("-A"))


def test_a_vm_cannot_speak_to_its_host_by_the_bridge_between_them(place: Cloud) -> None:
    """The bridge has a MAC, and the host takes a packet for any address of its own, whatever device it came by."""
    qbr = f"qbr{str(place.port('web').id)[:11]}"
    (link,) = json.loads(place.run("c1", "ip", "-json", "link", "show", "dev", qbr))
    place.run("web", "ip", "route", "replace", "192.0.2.0/24", "dev", "eth0")
    place.run("web", "ip", "neighbour", "replace", "192.0.2.11", "lladdr", link["address"], "dev", "eth0")
    place.attempt("web", "ping", "-c", "2", "-i", "0.05", "-W", "0.3", "192.0.2.11")
    counted = place.run("c1", "iptables", "-nvxL", "neutron-openvswi-INPUT")
    (dropped,) = (line.split()[0] for line in counted.splitlines()
                  if "the host is not on its wire" in line and tap(place, "web") in line)
    assert dropped == "2"


def test_no_vm_fills_tables_that_all_share(place: Cloud) -> None:
    assert "default limit=100000" in place.run("c1", "ovs-appctl", "dpctl/ct-get-limits")
    fragments = place.run("c1", "ovs-appctl", "dpctl/ipf-get-status")
    assert "v4 enabled: 0" in fragments and "v6 enabled: 0" in fragments, "tenants' fragments wait in no common place"
    limits = place.run("c1", "ovs-vsctl", "--bare", "--columns=flow_limit,overflow_policy,groups", "list", "Flow_Table")
    by_vlan = "NXM_OF_VLAN_TCI[0..11]"
    assert sorted(limits.split()) == sorted(["10000", "evict", by_vlan, "20000", "evict", by_vlan])


def test_where_no_vm_is_left_no_chain_is_left(place: Cloud) -> None:
    change(place, "\n".join(line for line in START.splitlines() if "host: c1" not in line))
    assert "neutron" not in place.run("c1", "iptables-save") + place.run("c1", "ip6tables-save")
    assert "NIPv" not in place.run("c1", "ipset", "save")
