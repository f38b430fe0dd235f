"""`tunbridge plumb` on a network host: its routers, its bridge to the outside. A hypervisor of a lab stands for it."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from labkit import ROOT, TUNBRIDGE
from labsite import site
from routedsite import FLOATING, GATEWAY, ROUTES, Routed, qrouter, router, text_of

from controller.tools.errors import BAD_INPUT, MISSING

pytestmark = pytest.mark.system


@pytest.fixture
def place() -> Iterator[Routed]:
    with site(Routed()) as made:
        yield made


def plumb(place: Routed, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    """On n1 as if it were a real host; its card on the underlay is there, that on the outside is `nic-external`."""
    file = place.rundir / "routed.yaml"
    file.write_text(text)
    return place.run("n1", "env", f"PYTHONPATH={ROOT}", *TUNBRIDGE, "plumb", "--host", "n1", "--topology", str(file),
                     "--rundir", os.path.realpath(place.rundir), "--underlay-device", "underlay0", *more)


def plumbed(place: Routed, text: str, *more: str) -> str:
    done = plumb(place, text, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_plumb_finds_what_is_wrong_with_a_router_and_puts_it_right(place: Routed) -> None:
    routed = router("blue-s", more=f"{GATEWAY}, {ROUTES}")
    text = text_of(FLOATING, r1=routed)
    place.up(FLOATING, r1=routed)
    assert plumbed(place, text, "--dry-run") == ""
    qr, qg = place.legs("r1")
    place.says("r1", "ip", "address", "add", "203.0.113.60/32", "dev", qg)
    place.says("r1", "ip", "route", "del", "default")
    place.says("r1", "iptables", "-t", "nat", "-F", "neutron-l3-agent-snat")
    place.says("r1", "sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    place.says("n1", "ovs-vsctl", "del-port", qr)
    todo = plumbed(place, text, "--dry-run")
    assert "iptables-restore" in todo and "ip_forward=1" in todo and "address del 203.0.113.60/32" in todo
    assert "route replace default" in todo and f"add-port br-int {qr}" in todo and "nic-external" not in todo
    assert "is plumbed" in plumbed(place, text)
    assert plumbed(place, text, "--dry-run") == ""
    place.says("n1", "ip", "netns", "del", qrouter("r1"))
    assert "is plumbed" in plumbed(place, text)
    assert plumbed(place, text, "--dry-run") == ""
    assert "is plumbed" in plumbed(place, text_of(r1=router()))
    assert place.namespaces() == set()
    assert not place.plugged()


def test_plumb_respects_a_namespace_and_a_bridge_of_somebody_else(place: Routed) -> None:
    place.up()
    text = text_of(r1=router("blue-s"))
    place.says("n1", "ip", "netns", "add", qrouter("r1"))
    done = plumb(place, text)
    assert done.returncode == MISSING and f"ip netns del {qrouter('r1')}" in done.stderr
    place.says("n1", "ip", "netns", "del", qrouter("r1"))
    place.says("n1", "ovs-vsctl", "add-br", "br-ex", "--", "set", "Bridge", "br-ex", "datapath_type=netdev")
    done = plumb(place, text)
    assert done.returncode == MISSING and "br-set-external-id br-ex tunbridge routed" in done.stderr


def test_plumb_plugs_a_network_card_into_br_ex_and_keeps_it_there(place: Routed) -> None:
    place.up()
    text = text_of(r1=router("blue-s"))
    place.says("n1", "ip", "link", "add", "name", "eth7", "type", "veth", "peer", "name", "eth7far")
    assert "--provider-device external=NIC" in plumbed(place, text)
    for wrong, code, words in (("eth7", BAD_INPUT, "PHYSICAL_NETWORK=NIC"),
                               ("office=eth7", BAD_INPUT, "needs external"),
                               ("external=eth8", MISSING, "no network card eth8")):
        done = plumb(place, text, "--provider-device", wrong)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "is plumbed" in plumbed(place, text, "--provider-device", "external=eth7")
    assert set(place.says("n1", "ovs-vsctl", "list-ports", "br-ex").split()) == {"eth7", "phy-br-ex"}
    assert plumbed(place, text, "--dry-run") == ""
