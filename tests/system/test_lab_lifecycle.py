"""The lab's life: up, used, changed while it runs, taken down, also after the worst. No daemon is needed for it."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit import ROOT, TUNBRIDGE, until
from labsite import Site, kill_all, site

from controller.host import processes
from controller.model import reading
from controller.model.topology import Topology
from controller.tools import lab
from controller.tools.errors import Refusal

pytestmark = [pytest.mark.system, pytest.mark.alone]

HOSTS = {"c1": "192.0.2.11", "c2": "192.0.2.12"}
VMS = {"a": ("c1", "10.0.0.11"), "b": ("c2", "10.0.0.12"), "c": ("c1", "10.0.0.13")}


def topology(hosts: dict[str, str] = HOSTS, vms: dict[str, tuple[str, str]] = VMS,
             firewall: str = "iptables_hybrid") -> Topology:
    """A small cloud of one network."""
    text = "\n".join(["cloud: life", "underlay: {cidr: 192.0.2.0/24, mtu: 1500}", f"firewall: {firewall}",
                      "networks: {blue: {tunnel_id: 7, subnets: {s: {cidr: 10.0.0.0/24, gateway: 10.0.0.1}}}}",
                      "hosts:", *(f"  {name}: {{tunnel_ip: {ip}}}" for name, ip in hosts.items()),
                      "vms:", *(f"  {name}: {{host: {host}, network: blue, ip: {ip}}}"
                                for name, (host, ip) in vms.items())])
    found = reading.parse(text, "life.yaml")
    assert found.topology, found.problems
    return found.topology


class Small(Site):
    """A site for labs of that cloud."""

    def up(self, **cloud: object) -> None:
        self.build(topology(**cloud))


@pytest.fixture
def place() -> Iterator[Small]:
    with site(Small()) as made:
        yield made


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "none"])
def test_vms_ping_across_hosts_at_full_size_and_tcp_passes(place: Small, firewall: str) -> None:
    place.up(firewall=firewall)
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.0.12"), "a reaches b")
    full = place.run("a", "ping", "-c", "1", "-M", "do", "-s", str(1450 - 28), "10.0.0.12")
    assert full.returncode == 0, full.stdout
    argv, environment = lab.exec_argv(place.rundir, "b", (
        sys.executable, "-c", "import socket; s = socket.create_server(('', 5000)); print('ready', flush=True); "
        "c, _ = s.accept(); n = 0\nwhile data := c.recv(65536): n += len(data)\nprint(n, flush=True)"))
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdout.readline() == "ready\n"
        sent = place.run("a", sys.executable, "-c", "import socket; c = socket.create_connection(('10.0.0.12', 5000), "
                         "20); c.sendall(bytes(3_000_000))")
        assert sent.returncode == 0, sent.stderr
        assert server.stdout.readline() == "3000000\n"


def test_exec_passes_the_exit_code_and_the_tools_of_open_vswitch_just_work(place: Small) -> None:
    place.up()
    assert place.run("a", "sh", "-c", "exit 37").returncode == 37
    assert place.run("a", "no-such-command").returncode == 127
    assert set(place.run("c1", "ovs-vsctl", "list-br").stdout.split()) == {"br-int", "br-tun", "br-phy"}
    assert "dpid" in place.run("c1", "ovs-ofctl", "show", "br-int").stdout
    assert "vxlan-c000020c" in place.run("c1", "ovs-appctl", "dpif/show").stdout
    with pytest.raises(Refusal, match="no node 'zz'; it has a, b, c, c1, c2"):
        lab.exec_argv(place.rundir, "zz", ("true",))


def test_the_prompt_of_mininet_attaches_to_the_lab_and_leaves_it_running(place: Small) -> None:
    place.up()
    place.switch_by_hand()
    before = place.pids()
    said = subprocess.run([*TUNBRIDGE, "lab", "cli", "--rundir", str(place.rundir)], cwd=ROOT, text=True, timeout=100,
                          input="nodes\nnet\ndump\na ping -c 3 b\n", capture_output=True, check=False)
    assert "a b c c1 c2 underlay" in said.stdout + said.stderr
    assert "a eth0:tap" in said.stdout + said.stderr
    assert "from 10.0.0.12" in said.stdout + said.stderr
    assert place.pids() == before


def test_a_vm_and_a_host_are_added_and_nothing_that_runs_notices(place: Small) -> None:
    place.up()
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.0.12"), "a reaches b")
    before = place.pids()
    # A count, not a deadline (-w): with a deadline, ping ends without the answer to what it sent last.
    argv, environment = lab.exec_argv(place.rundir, "a", ("ping", "-n", "-i", "0.005", "-c", "800", "10.0.0.12"))
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as ping:
        place.up(hosts={**HOSTS, "c3": "192.0.2.13"}, vms={**VMS, "d": ("c3", "10.0.0.14"), "e": ("c2", "10.0.0.15")})
        said = ping.communicate(timeout=60)[0]
    assert " 0% packet loss" in said, said
    assert before.items() <= place.pids().items()
    # c3 stays empty: three bridges that flood by themselves would make a loop.
    until(lambda: place.reaches("e", "10.0.0.11"), "the new VM is wired")


def test_a_vm_that_moves_keeps_its_processes_and_is_found_again(place: Small) -> None:
    place.up()
    place.switch_by_hand()
    until(lambda: place.reaches("b", "10.0.0.13"), "b reaches c")
    pid = lab.state(place.rundir)["c"].pid
    place.up(vms={**VMS, "c": ("c2", "10.0.0.13")})
    assert lab.state(place.rundir)["c"].pid == pid
    until(lambda: place.reaches("b", "10.0.0.13"), "c is found on c2")
    assert "qvo" not in place.run("c1", "ovs-vsctl", "list-ports", "br-int").stdout.replace(
        topology().vms["a"].ports[0].device, "")


def test_hosts_and_vms_that_go_leave_nothing(place: Small) -> None:
    place.up()
    place.up(hosts={"c1": "192.0.2.11"}, vms={"a": VMS["a"]})
    assert set(lab.state(place.rundir)) == {"underlay", "c1", "a"}
    assert not (lab.directory(place.rundir) / "c2").exists()
    assert place.run("c1", "ovs-vsctl", "list-ports", "br-tun").stdout.split() == ["patch-int", "strangers"]
    assert "to-c000020c" not in place.run("underlay", "ip", "link").stdout


def test_up_of_a_lab_that_is_right_does_nothing(place: Small) -> None:
    place.up()
    before = place.pids()
    place.up()
    assert place.said[-1] == "The lab is as the topology wants it."
    assert place.pids() == before


def test_a_hypervisor_of_the_lab_is_a_host_as_plumb_wants_it(place: Small) -> None:
    place.up()
    script = ("import sys; from pathlib import Path; from controller.model import reading; "
              "from controller.tools import plumb; t = reading.load(sys.argv[1]).topology; "
              "w = plumb.Wanted(t, 'c1', Path(sys.argv[2]), None, 'underlay0'); "
              "plumb.converge(w, print) if sys.argv[3] == 'do' else print(*plumb.commands(w), sep='\\n')")
    file = place.rundir / "life.yaml"
    text = ["cloud: life", "underlay: {cidr: 192.0.2.0/24, mtu: 1500}",
            "networks: {blue: {tunnel_id: 7, subnets: {s: {cidr: 10.0.0.0/24, gateway: 10.0.0.1}}}}",
            "hosts: {c1: {tunnel_ip: 192.0.2.11}, c2: {tunnel_ip: 192.0.2.12}}",
            "vms: {a: {host: c1, network: blue, ip: 10.0.0.11}, b: {host: c2, network: blue, ip: 10.0.0.12}, "
            "c: {host: c1, network: blue, ip: 10.0.0.13}}"]
    file.write_text("\n".join(text))

    def plumbing(what: str) -> str:
        done = place.run("c1", "env", f"PYTHONPATH={ROOT}", sys.executable, "-c", script, str(file),
                         os.path.realpath(place.rundir), what)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    assert plumbing("look") == ""
    place.run("c1", "ovs-vsctl", "del-port", "vxlan-c000020c", "--", "add-port", "br-int", "stray", "--", "set",
              "Interface", "stray", "type=internal", "external_ids:tunbridge=life")
    place.run("c1", "ip", "link", "set", "dev", topology().vms["a"].ports[0].device.replace("qvo", "tap"), "nomaster")
    todo = plumbing("look").splitlines()
    assert len(todo) == 3 and "del-port" in todo[0] and "vxlan-c000020c" in todo[1] and "master qbr" in todo[2]
    assert "is plumbed" in plumbing("do")
    assert plumbing("look") == ""


@pytest.mark.parametrize("what", ["anchors", "daemons", "everything", "what was written down", "nothing"])
def test_down_leaves_nothing_whatever_was_lost_before(what: str) -> None:
    with site(Small()) as place:
        place.up()
        stray = subprocess.Popen(["nsenter", f"--target={lab.state(place.rundir)['a'].pid}", "--net", "env", "-i",
                                  "sleep", "1000"])
        until(lambda: processes.namespace(stray.pid) != processes.namespace(os.getpid()), "the stray is in the VM")
        nodes = {node.pid: node.start for node in lab.state(place.rundir).values()}
        match what:
            case "anchors":
                stray.kill()
                kill_all(nodes)
            case "daemons":
                kill_all({pid: 0 for pid in place.pids() if pid not in nodes})
            case "everything":
                kill_all(place.pids())
            case "what was written down":
                shutil.rmtree(lab.directory(place.rundir))
        place.down()
        stray.wait(20)


def test_a_lab_killed_while_it_was_built_is_removed_or_built_anew(place: Small) -> None:
    file = place.rundir / "life.yaml"
    hosts = "".join(f"  h{n}: {{tunnel_ip: 192.0.2.{n}}}\n" for n in range(1, 9))
    vms = "".join(f"  v{n}: {{host: h{n % 8 + 1}, network: blue}}\n" for n in range(24))
    file.write_text("cloud: life\nunderlay: {cidr: 192.0.2.0/24}\nnetworks: {blue: {tunnel_id: 7, subnets: "
                    f"{{s: {{cidr: 10.0.0.0/24}}}}}}}}\nhosts:\n{hosts}vms:\n{vms}")
    with subprocess.Popen([*TUNBRIDGE, "lab", "up", str(file), "--rundir", str(place.rundir)], cwd=ROOT,
                          stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as builder:
        until(lambda: len(place.pids()) > 10, "the building is under way")
        builder.kill()
        for pid in place.pids():
            if b"lab.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    assert not (lab.directory(place.rundir) / "plan.json").exists()
    place.up()
    assert "not whole" in place.said[0]
    assert set(lab.state(place.rundir)) == {"underlay", "c1", "c2", "a", "b", "c"}


def test_two_labs_side_by_side_do_not_meet() -> None:
    with site(Small()) as one, site(Small()) as other:
        one.up()
        other.up()
        one.switch_by_hand()
        until(lambda: one.reaches("a", "10.0.0.12"), "a reaches b in the first lab")
        assert not other.reaches("a", "10.0.0.12"), "the twin has no flows"
        assert not one.pids().keys() & other.pids().keys()
        other.down()
        assert one.reaches("a", "10.0.0.12")


def test_a_process_that_only_looks_like_ours_is_left_alone(place: Small) -> None:
    place.up()
    environment = {**os.environ, processes.MARK: f"{lab.directory(place.rundir)}x"}
    with subprocess.Popen(["sleep", "1000"], env=environment) as stranger:
        place.down()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("kill9", [True, False])
def test_a_restarted_vswitchd_has_its_bridges_and_its_tunnel_address_again(place: Small, kill9: bool) -> None:
    place.up()
    lab.restart_vswitchd(place.rundir, "c1", kill9=kill9)
    assert "192.0.2.11/24" in place.run("c1", "ip", "address", "show", "dev", "br-phy").stdout
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.0.12"), "a reaches b")


def test_devices_that_come_and_go_in_a_hypervisor_cost_no_packet_of_a_tunnel(place: Small) -> None:
    place.up()
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.0.12"), "a reaches b")
    argv, environment = lab.exec_argv(place.rundir, "a", ("ping", "-n", "-i", "0.002", "-c", "1000", "10.0.0.12"))
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as ping:
        while ping.poll() is None:
            for host in ("c1", "c2"):
                place.run(host, "sh", "-c", "ip link add one type veth peer name other && ip link set one up && "
                                            "ip link set other up && ip link del one")
        assert ping.stdout and " 0% packet loss" in ping.stdout.read()


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "none"])
def test_up_mends_a_lab_whose_vm_and_open_vswitch_have_died_and_leaves_the_rest(place: Small, firewall: str) -> None:
    place.up(firewall=firewall)
    place.switch_by_hand()
    nodes = lab.state(place.rundir)
    os.kill(nodes["b"].pid, signal.SIGKILL)
    for program in ("ovs-vswitchd", "ovsdb-server"):
        os.kill(int((lab.directory(place.rundir) / "c1" / f"{program}.pid").read_text()), signal.SIGKILL)
    until(lambda: not nodes["b"].alive, "b is dead")
    place.up(firewall=firewall)
    after = lab.state(place.rundir)
    assert {name for name in nodes if nodes[name] != after[name]} == {"b"}
    place.switch_by_hand()
    until(lambda: place.reaches("a", "10.0.0.12"), "a reaches the new b")


def test_two_ups_at_once_on_one_rundir_are_one_too_many(place: Small) -> None:
    with lab.alone(place.rundir), pytest.raises(Refusal, match="wait for it"):
        place.up()


def test_a_rundir_too_long_for_sockets_is_refused_before_anything_is_made() -> None:
    with pytest.raises(Refusal, match="choose a shorter --rundir"):
        lab.up(topology(), Path("/tmp") / ("x" * 90), lambda _: None)
    assert not (Path("/tmp") / ("x" * 90)).exists()
