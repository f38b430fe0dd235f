"""Routers that are real namespaces, in a lab without a daemon: how they are set up, changed, mended and removed."""
from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit import ROOT, TUNBRIDGE, Sniffer, until
from labsite import kill_all, site
from routedsite import FLOATING, GATEWAY, ROUTES, Routed, qrouter, router, text_of, topology

from controller.host import nat, processes
from controller.host.routers import namespace
from controller.model import names
from controller.tools import lab
from controller.tools.errors import MISSING, Refusal

pytestmark = pytest.mark.system


@pytest.fixture
def place() -> Iterator[Routed]:
    with site(Routed()) as made:
        yield made


def test_a_router_is_there_exactly_while_it_has_an_interface(place: Routed) -> None:
    place.up(r1=router())
    assert place.namespaces() == set()
    assert not place.plugged()
    with pytest.raises(Refusal, match="has no interface"):
        place.says("r1", "ip", "route")
    place.up(r1=router("blue-s"))
    assert place.namespaces() == {qrouter("r1")}
    assert place.plugged() == set(place.legs("r1"))
    assert len(place.plugged()) == 2
    before = place.says("r1", "ip", "-o", "link", "show")
    place.up(r1=router("blue-s", "green-s"))
    assert len(place.plugged()) == 3
    assert set(re.findall("q[rg]-.*", before)) < set(re.findall("q[rg]-.*", place.says("r1", "ip", "-o", "link")))
    place.up(r1=router())
    assert place.namespaces() == set()
    assert not place.plugged()
    assert "q" not in {line[0] for line in place.says("n1", "ip", "-br", "link").splitlines()}
    assert not any(name.startswith("qrouter-") for name in os.listdir("/run/netns")), "seen on the machine itself"


def test_its_routes_look_as_an_operator_of_openstack_expects(place: Routed) -> None:
    place.up(r1=router("blue-s", "green-s", more=f"{GATEWAY}, {ROUTES}"))
    qr1, qr2, qg = place.legs("r1")
    shown = place.says("n1", "ip", "netns", "exec", qrouter("r1"), "ip", "route").splitlines()
    assert [line.rstrip() for line in shown] == [
        f"default via 203.0.113.1 dev {qg} proto static",
        f"10.0.1.0/24 dev {qr1} proto kernel scope link src 10.0.1.1",
        f"10.0.2.0/24 dev {qr2} proto kernel scope link src 10.0.2.1",
        f"198.51.100.0/24 via 10.0.1.11 dev {qr1} proto static",
        f"203.0.113.0/24 dev {qg} proto kernel scope link src 203.0.113.10"]
    assert f"inet 203.0.113.10/24 brd 203.0.113.255 scope global {qg}" in place.says("r1", "ip", "address")
    assert "mtu 1450" in place.says("r1", "ip", "link", "show", "dev", qr1)
    assert "mtu 1500" in place.says("r1", "ip", "link", "show", "dev", qg)


@pytest.mark.parametrize("more", [GATEWAY, f"{GATEWAY}, {ROUTES}", ROUTES])
def test_a_simulated_router_shows_the_routes_that_a_real_one_has(place: Routed, more: str) -> None:
    place.up(FLOATING if GATEWAY in more else "", r1=router("green-s", "blue-s", more=more))
    real = place.says("r1", "ip", "route")
    addresses = re.findall("inet .*", place.says("r1", "ip", "address"))
    place.up(FLOATING if GATEWAY in more else "", r1=router("green-s", "blue-s", more=more, driver="simulated"))
    assert lab.answer(place.rundir, "r1", ("ip", "route")) == real
    assert re.findall("inet .*", lab.answer(place.rundir, "r1", ("ip", "address")) or "") == addresses
    for command in (("ip", "route", "add", "default"), ("ls",), ()):
        with pytest.raises(Refusal, match="r1 is simulated"):
            lab.answer(place.rundir, "r1", command)
    assert place.namespaces() == set()


def test_its_rules_are_in_the_chains_of_neutron(place: Routed) -> None:
    place.up(FLOATING, r1=router("blue-s"))
    chains = place.says("r1", "iptables", "-t", "nat", "-S").splitlines()
    prefix = "-A neutron-l3-agent"
    assert "-A POSTROUTING -j neutron-postrouting-bottom" in chains
    assert f"{prefix}-PREROUTING -d 203.0.113.50/32 -j DNAT --to-destination 10.0.1.11" in chains
    assert f"{prefix}-OUTPUT -d 203.0.113.50/32 -j DNAT --to-destination 10.0.1.11" in chains
    assert f"{prefix}-float-snat -s 10.0.1.11/32 -j SNAT --to-source 203.0.113.50" in chains
    assert f"{prefix}-snat -o {place.legs('r1')[-1]} -j SNAT --to-source 203.0.113.10" in chains
    cloud = topology(FLOATING, r1=router("blue-s"))
    saved = place.says("r1", "iptables-save").splitlines()
    assert nat.canonical(saved) == namespace(cloud, cloud.routers["r1"]).rules


def test_vms_meet_through_it_and_reach_the_world(place: Routed) -> None:
    place.up(FLOATING, r1=router("blue-s", "green-s"))
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.2.11"), "a reaches b")
    until(lambda: place.reaches("b", "198.51.100.7"), "b reaches an address of the world")
    assert '"from": "203.0.113.10"' in place.says("b", "curl", "-s", "-m", "9", "http://198.51.100.7/")
    assert '"from": "203.0.113.50"' in place.says("a", "curl", "-s", "-m", "9", "http://198.51.100.8/")
    assert place.reaches("internet", "203.0.113.50"), "a floating IP, from outside"
    way = place.says("b", "traceroute", "-n", "-q", "3", "-w", "2", "-m", "5", "198.51.100.9").splitlines()[1:]
    assert [line.split()[1] for line in way] == ["10.0.2.1", "198.51.100.9"]
    lab.restart_vswitchd(place.rundir, "n1")
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.2.11"), "a reaches b again after a restart of ovs-vswitchd")


def listen(place: Routed, node: str, port: int) -> subprocess.Popen[str]:
    code = (f"import socket; s = socket.create_server(('', {port})); print('ready', flush=True); c, _ = s.accept()\n"
            "while data := c.recv(9): c.sendall(data)")
    argv, environment = lab.exec_argv(place.rundir, node, (sys.executable, "-c", code))
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)


CLIENT = """
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
c.settimeout(3)
for line in sys.stdin:
    try:
        c.sendall(line.encode()), print("echo", c.recv(9).decode().strip(), flush=True)
    except OSError:
        print("nothing", flush=True)
"""


def test_what_changes_does_not_disturb_what_stays(place: Routed) -> None:
    """A floating IP goes: its connection ends, and that of another VM by the same router goes on."""
    place.up(FLOATING, r1=router("blue-s", "green-s"))
    place.switch_by_hand()
    until(lambda: place.reaches("b", "203.0.113.1"), "b reaches the outside")
    until(lambda: place.reaches("internet", "203.0.113.50"), "the outside reaches a")
    servers = [listen(place, "internet", 5001), listen(place, "a", 5002)]
    for server in servers:
        assert server.stdout and server.stdout.readline() == "ready\n"
    clients = []
    for node, target, port in (("b", "198.51.100.7", "5001"), ("internet", "203.0.113.50", "5002")):
        argv, environment = lab.exec_argv(place.rundir, node, (sys.executable, "-u", "-c", CLIENT, target, port))
        clients.append(subprocess.Popen(argv, env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE))

    def asks(client: subprocess.Popen[str]) -> str:
        assert client.stdin and client.stdout
        client.stdin.write("hello\n")
        client.stdin.flush()
        return client.stdout.readline()
    try:
        assert [asks(client) for client in clients] == ["echo hello\n"] * 2
        place.up(r1=router("blue-s", "green-s"))
        assert "203.0.113.50" not in place.says("r1", "ip", "address") + place.says("r1", "iptables-save")
        assert [asks(client) for client in clients] == ["echo hello\n", "nothing\n"]
        assert "src=10.0.1.11" not in place.says("r1", "conntrack", "-L"), "no connection is translated to a any more"
    finally:
        for process in (*clients, *servers):
            process.kill()
            process.communicate()


def test_a_new_address_is_announced_by_request_and_by_reply(place: Routed) -> None:
    place.up(r1=router("blue-s"))
    place.switch_by_hand()
    with contextlib.closing(Sniffer(lab.state(place.rundir)["internet"].pid, "gw-public")) as outside:
        place.up(FLOATING, r1=router("blue-s"))
        address = bytes((203, 0, 113, 50))

        def heard() -> set[int]:
            return {frame[21] for frame in outside.frames() if frame[12:14] == b"\x08\x06" and frame[28:32] == address
                    and frame[38:42] == address}
        until(lambda: heard() == {1, 2}, "an ARP request and a reply of the floating IP for itself")


def test_two_labs_of_one_file_have_equal_routers_and_never_meet() -> None:
    with site(Routed()) as one, site(Routed()) as other:
        one.up(r1=router("blue-s", "green-s"))
        other.up(r1=router("blue-s", "green-s"))
        assert one.namespaces() == other.namespaces() == {qrouter("r1")}
        one.switch_by_hand()
        until(lambda: one.reaches("a", "10.0.2.11"), "a reaches b in the first lab")
        assert not other.reaches("a", "10.0.2.11")
        other.up()
        assert other.namespaces() == set()
        assert one.reaches("a", "10.0.2.11")


@pytest.mark.parametrize("what", ["everything", "the hypervisor", "nothing"])
def test_nothing_is_left_of_routers_whatever_was_lost(what: str) -> None:
    with site(Routed()) as place:
        place.up(FLOATING, r1=router("blue-s"))
        argv, _ = lab.exec_argv(place.rundir, "r1", ("sleep", "1000"))
        stray = subprocess.Popen(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        until(lambda: b"sleep" in Path(f"/proc/{stray.pid}/cmdline").read_bytes()[:5], "the stray is in the router")
        if what == "everything":
            kill_all(pid for pid in place.pids() if pid != stray.pid)
            kill_all([stray.pid])
        elif what == "the hypervisor":
            hypervisor = lab.state(place.rundir)["n1"].pid
            kill_all([hypervisor, stray.pid])
        place.down()
        stray.wait(20)


def test_a_router_that_fails_harms_no_other_and_the_next_up_mends_it(place: Routed) -> None:
    place.up()
    both = {"r1": router("blue-s"), "r2": router("green-s", more="gateway: {network: public, ip: 203.0.113.11}")}
    leg = names.device("qr-", topology(**both).routers["r1"].interfaces[0].id)
    place.says("n1", "ip", "link", "add", "name", leg, "type", "veth", "peer", "name", "intheway")
    with pytest.raises(Refusal) as caught:
        place.up(**both)
    assert caught.value.code == MISSING
    (words,) = str(caught.value).splitlines()
    assert "router r1" in words and "n1" in words and f"`ip link add name {leg} " in words and "File exists" in words
    assert place.namespaces() >= {qrouter("r2")}
    with pytest.raises(Refusal, match="could not be set up"):
        place.says("r1", "ip", "route")
    place.switch_by_hand()
    until(lambda: place.reaches("b", "198.51.100.7"), "b reaches the world by the other router")
    place.up(**both)
    assert place.namespaces() == {qrouter("r1"), qrouter("r2")}
    place.switch_by_hand()
    until(lambda: place.reaches("a", "198.51.100.7"), "a reaches the world by the mended router")


def test_what_somebody_took_away_is_put_back(place: Routed) -> None:
    place.up(r1=router("blue-s"))
    place.switch_by_hand()
    place.says("n1", "ip", "netns", "del", qrouter("r1"))
    server = int(re.findall(r'"pid": (\d+)', (lab.directory(place.rundir) / "internet/web.json").read_text())[0])
    os.kill(server, signal.SIGKILL)
    until(lambda: processes.start_time(server) is None, "the web server is dead")
    place.up(r1=router("blue-s"))
    until(lambda: place.reaches("a", "198.51.100.7"), "a reaches the world")
    assert "203.0.113.10" in place.says("a", "curl", "-s", "-m", "9", "http://198.51.100.7/")


def test_a_machine_without_iptables_is_told_what_it_lacks(place: Routed) -> None:
    file = place.rundir / "routed.yaml"
    file.write_text(text_of(r1=router("blue-s")))
    tool = os.path.realpath("/usr/sbin/iptables-restore")
    hidden = ["unshare", "--mount", "sh", "-c", f'mount --bind /dev/null {tool} && exec "$@"', "sh"]
    done = subprocess.run([*hidden, *TUNBRIDGE, "lab", "up", str(file), "--rundir", str(place.rundir)], cwd=ROOT,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == MISSING
    assert "router r1" in done.stderr and "apt-get install iptables" in done.stderr
    assert not place.pids()
