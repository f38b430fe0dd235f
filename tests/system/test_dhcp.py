"""DHCP in a running cloud: real dnsmasq, real clients, the whole way through the tables and the tunnel between them."""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from dhcpsite import DECLINE, FULL, RELEASE, VMS, Served, dhcp_frame, text_of
from labkit import ROOT, TUNBRIDGE, tunbridge, until

from controller.tools import lab, leases

POOL = "allocation_pools: [{start: 10.0.1.100, end: 10.0.1.110}]"
OTHER = f"{FULL}, {POOL}"  # from which `a` gets another address

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    made = Served(text_of())
    failed = True
    try:
        made.start_daemon()
        made.up()
        made.in_sync()
        yield made
        failed = False
    finally:
        made.finish(failed=failed)


@pytest.fixture
def changed(running: Served) -> Served:
    """The cloud as the test before has left it."""
    return running


@pytest.fixture
def cloud(running: Served) -> Served:
    """The cloud as it is in the beginning."""
    if running.file.read_text() != text_of():
        running.change(text_of())
    running.has_leases()
    return running


def test_a_vm_is_given_its_address_and_all_that_the_file_says_through_a_tunnel(cloud: Served) -> None:
    machines_own = Path("/etc/resolv.conf").read_text()
    assert cloud.addresses("a") == [f"{cloud.port('a').ip}/24"]
    assert sorted(cloud.routes("a")) == ["10.9.0.0/16 via 10.0.1.8 dev eth0", "198.51.100.0/24 via 10.0.1.7 dev eth0",
                                         "default via 10.0.1.1 dev eth0"]
    assert cloud.run("a", "cat", "/etc/resolv.conf") == "nameserver 9.9.9.9\nnameserver 149.112.112.112\n"
    assert Path("/etc/resolv.conf").read_text() == machines_own
    assert cloud.pings("a", "10.0.1.20")
    home = f"/run/tunbridge-dhcp/{cloud.topology.networks['blue'].id}"
    assert f"{cloud.port('a').mac} {cloud.port('a').ip}" in cloud.run("n1", "cat", f"{home}/leases")
    assert cloud.pings("a", str(cloud.topology.dhcp_by_network["blue"].addresses[0][1]))


def test_it_learns_the_mtu_of_the_tunnel(cloud: Served) -> None:
    cloud.run("a", "ip", "link", "set", "dev", "eth0", "mtu", "1280")
    cloud.renew("a")
    until(lambda: cloud.card("a")["mtu"] == 1450, "the client has set the MTU that it was told")


def test_tenants_with_equal_addresses_have_servers_that_never_meet(cloud: Served) -> None:
    assert cloud.spaces() == {cloud.space(network) for network in ("blue", "twin", "six")}
    assert cloud.addresses("t") == [f"{cloud.port('t').ip}/24"]
    assert cloud.routes("t") == [], "its subnet has no gateway and no routes"
    assert cloud.run("t", "cat", "/etc/resolv.conf") == ""
    assert not cloud.pings("t", "10.0.1.20")
    seen = cloud.sniff("t")
    cloud.asks_anew("a")
    cloud.has_leases()
    mac = bytes.fromhex(cloud.port("a").mac.replace(":", ""))
    assert seen.with_token(mac) == []


def test_the_server_has_no_rights_that_it_does_not_need(cloud: Served) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{cloud.server('blue')}/status").read_text().splitlines()
                  if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) & ~(1 << 12 | 1 << 13) == 0, "beside NET_ADMIN and NET_RAW, in its namespace"
    assert status["NoNewPrivs"] == "1"


def test_no_name_server_listens(cloud: Served) -> None:
    ports = cloud.run("n1", "ip", "netns", "exec", cloud.space("blue"), "ss", "-H", "-l", "-t", "-u", "-n").splitlines()
    assert [line.split()[4].rpartition(":")[2] for line in ports] == ["67"]


def test_nobody_gives_back_the_lease_of_another(cloud: Served) -> None:
    """The neighbour releases and declines it, from its own card: it cannot wear another's."""
    victim, server = cloud.port("a"), str(cloud.topology.dhcp_by_network["blue"].addresses[0][1])
    before = cloud.dropped("blue")
    for kind in (RELEASE, DECLINE):
        cloud.send("b", dhcp_frame(kind, cloud.port("b"), victim, server))
    until(lambda: cloud.dropped("blue") == before + 2, "both have arrived, and are counted")
    home = f"/run/tunbridge-dhcp/{cloud.topology.networks['blue'].id}"
    assert f"{victim.mac} {victim.ip}" in cloud.run("n1", "cat", f"{home}/leases")
    cloud.send("a", dhcp_frame(RELEASE, victim, victim, server))
    until(lambda: victim.mac not in cloud.run("n1", "cat", f"{home}/leases"), "it may itself")
    assert cloud.dropped("blue") == before + 2
    cloud.asks_anew("a")
    cloud.has_leases()


def test_a_server_of_ipv6_offers_a_port_its_own_address(cloud: Served) -> None:
    offer = cloud.solicit("six")
    assert cloud.port("six").ip.packed in offer
    assert ip_address("2620:fe::fe").packed in offer, "the name server"


def test_a_dnsmasq_that_died_is_named_and_started_again(cloud: Served) -> None:
    twin = cloud.server("twin")
    cloud.run("n1", "kill", "-KILL", cloud.server("blue"))
    until(lambda: not cloud.server("blue"), "it is gone")
    assert [one["object"] for one in leases.dead(cloud.rundir)] == ["DHCP of blue"]
    cloud.up()
    assert leases.dead(cloud.rundir) == []
    assert cloud.server("twin") == twin
    cloud.asks_anew("a")
    cloud.has_leases()


def plumb(cloud: Served, *more: str) -> str:
    """On n1 as if it were a real host; the commands that are about DHCP."""
    done = cloud.attempt("n1", "env", f"PYTHONPATH={ROOT}", *TUNBRIDGE, "plumb", "--host", "n1", "--topology",
                         str(cloud.file), "--rundir", str(cloud.rundir), "--underlay-device", "underlay0", *more)
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if "dhcp" in line)


def test_plumb_finds_all_as_the_lab_made_it_and_mends_what_is_not(cloud: Served) -> None:
    assert plumb(cloud, "--dry-run") == ""
    files = f"/run/tunbridge-dhcp/{cloud.topology.networks['twin'].id}"
    cloud.run("n1", "kill", "-KILL", cloud.server("blue"))
    cloud.run("n1", "truncate", "--size=0", f"{files}/host")
    until(lambda: not cloud.server("blue"), "it is gone")
    twin = cloud.server("twin")
    plumb(cloud)
    assert cloud.server("blue")
    assert cloud.server("twin") == twin, "it has only read its file again"
    assert cloud.port("t").mac in cloud.run("n1", "cat", f"{files}/host")
    assert plumb(cloud, "--dry-run") == ""


def test_a_vm_that_restarts_asks_anew(cloud: Served) -> None:
    cloud.run("a", "kill", "-KILL", str(cloud.pid("a")))
    until(lambda: not lab.state(cloud.rundir)["a"].alive, "it is dead")
    cloud.up()
    cloud.has_leases()
    until(lambda: sorted(cloud.routes("a"))[-1:] == ["default via 10.0.1.1 dev eth0"], "its routes, after its address")


def test_a_client_that_died_is_started_again(cloud: Served) -> None:
    cloud.run("a", "pkill", "-KILL", "-F", "/run/tunbridge-vm/udhcpc.eth0.pid")
    cloud.run("a", "ip", "address", "flush", "dev", "eth0")
    cloud.up()
    cloud.has_leases()


def test_a_vm_that_is_added_is_served_without_a_restart(cloud: Served) -> None:
    before = cloud.server("blue"), cloud.server("twin")
    cloud.change(text_of(vms={**VMS, "new": "{host: c2, network: blue, ip: dhcp}"}))
    cloud.has_leases()
    assert cloud.addresses("new") == [f"{cloud.port('new').ip}/24"]
    assert (cloud.server("blue"), cloud.server("twin")) == before
    assert cloud.pings("new", str(cloud.port("a").ip))


def test_an_address_that_moves_to_another_vm_is_not_refused_for_the_old_lease(changed: Served) -> None:
    narrow = FULL + ", allocation_pools: [{start: 10.0.1.77, end: 10.0.1.78}]"  # one for the server, one for a VM
    others = {name: VMS[name] for name in "bt"}
    for vm in ("x", "y"):
        changed.change(text_of(narrow, {**others, vm: "{host: c1, network: blue, ip: dhcp}"}))
        changed.has_leases()
        assert changed.addresses(vm) == ["10.0.1.77/24"]


def test_a_vm_follows_when_the_file_gives_it_another_host_and_another_address(cloud: Served) -> None:
    before = cloud.port("a").ip
    twin = cloud.server("twin")
    cloud.change(text_of(OTHER, {**VMS, "a": VMS["a"].replace("c1", "c2")}))
    assert cloud.port("a").ip != before
    cloud.has_leases()
    cloud.gets("a", f"{cloud.port('a').ip}/24")
    assert cloud.pings("a", "10.0.1.20")
    assert cloud.server("twin") == twin, "the neighbour's server has not been touched"


def test_a_renewal_brings_what_has_changed(changed: Served) -> None:
    changed.change(text_of(OTHER))
    changed.has_leases()
    before = changed.server("blue")
    changed.change(text_of(f"gateway: 10.0.1.9, dhcp: true, dns: [1.1.1.1], {POOL}"))
    assert changed.server("blue") == before, "options are read again, nothing is restarted"
    changed.renew("a")
    until(lambda: changed.routes("a") == ["default via 10.0.1.9 dev eth0"], "the new gateway, and no host routes")
    assert changed.run("a", "cat", "/etc/resolv.conf") == "nameserver 1.1.1.1\n"
    assert changed.addresses("a") == [f"{changed.port('a').ip}/24"]


def test_a_subnet_without_dhcp_has_no_server_and_its_vms_keep_nothing_of_it(changed: Served) -> None:
    static = {**VMS, "a": "{host: c1, network: blue, ip: 10.0.1.11}"}
    changed.change(text_of("gateway: 10.0.1.1, dhcp: false", static))
    assert changed.spaces() == {changed.space("twin"), changed.space("six")}
    assert changed.addresses("a") == ["10.0.1.11/24"]
    assert changed.routes("a") == []
    assert changed.attempt("a", "pgrep", "-F", "/run/tunbridge-vm/udhcpc.eth0.pid").returncode != 0
    assert len(changed.plugged()) == 2
    changed.change(text_of())
    changed.has_leases()
    assert changed.space("blue") in changed.spaces()


def test_a_dnsmasq_that_cannot_start_harms_no_other_and_is_mended(changed: Served, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    twin, real = changed.server("twin"), shutil.which("dnsmasq")
    (tmp_path / "dnsmasq").write_text(f"""#!/bin/sh
case "$*" in *{changed.topology.networks["blue"].id}*) echo "no luck today" >&2; exit 5;; esac
exec {real} "$@"
""")
    (tmp_path / "dnsmasq").chmod(0o755)
    changed.file.write_text(text_of(OTHER, {**VMS, "u": "{host: c2, network: twin, ip: dhcp}"}))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        done = tunbridge("apply", str(changed.file), rundir=changed.rundir, check=False)
    assert done.returncode and "The DHCP of blue is not set up" in done.stderr and "no luck today" in done.stderr
    assert changed.server("twin") == twin
    until(lambda: changed.addresses("u") == [f"{changed.port('u').ip}/24"], "twin's new VM is served")
    assert leases.wait(changed.topology, changed.rundir, 0) == ("a",)
    assert [one["object"] for one in changed.status()["troubles"]] == ["DHCP of blue"]
    changed.up()
    changed.has_leases()
    assert changed.status()["troubles"] == []


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "openvswitch"])
def test_a_vm_whose_groups_let_nothing_in_gets_its_lease_all_the_same(changed: Served, firewall: str) -> None:
    shut = {name: f"{words[:-1]}, security_groups: [shut]}}" for name, words in VMS.items()}
    changed.change(text_of(vms=shut, firewall=firewall))
    changed.asks_anew("a")
    changed.has_leases()
    assert not changed.pings("b", str(changed.port("a").ip))
    assert changed.port("six").ip.packed in changed.solicit("six")
