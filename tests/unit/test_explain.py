"""`explain`: what Neutron's own classes installed is told line by line; what nobody knows is said to be unknown."""
from __future__ import annotations

import random
from pathlib import Path

import pytest

from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.explain import Told, explain
from controller.tools.labels import Labels
from controller.tools.ours import Ours

GOLDEN = Path(__file__).parents[1] / "golden" / "neutron"
DUMPS = sorted(GOLDEN.glob("*-br-*.txt"), key=str)
DUMPS = [path for path in DUMPS if "show" not in path.name]
SHOWN = (*sorted(GOLDEN.glob("ov*-show*.txt")), GOLDEN / "openstack-port-list.json")


def labels() -> Labels:
    found = Labels()
    for path in SHOWN:
        found.read(path.read_text(), path.name)
    return found


def told(text: str, names: Labels | None = None, bridge: str = "") -> list[Told]:
    names = names or Labels()
    return explain(text, names, Ours(None, "", names), bridge)


def one(text: str, names: Labels | None = None, bridge: str = "br-int") -> Told:
    (found,) = told(text, names, bridge)
    return found


# ---- Neutron's own flows

@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)
def test_no_flow_that_neutron_installed_is_left_unexplained(path: Path) -> None:
    found = told(path.read_text(), labels())
    assert [each.text for each in found if not each.known] == []
    assert len(found) == path.read_text().count("actions=")
    assert {each.bridge for each in found} == {"br-" + path.stem.removesuffix("-of13").rpartition("br-")[2]}
    assert all(each.owner == "neutron" and each.title for each in found)


@pytest.mark.parametrize("path", [path for path in DUMPS if "-of13" not in path.name], ids=lambda path: path.stem)
def test_both_versions_of_openflow_tell_the_same(path: Path) -> None:
    newer = path.with_name(f"{path.stem}-of13.txt").read_text()
    old, new = ([(each.table, each.sentence) for each in told(text)] for text in (path.read_text(), newer))
    assert [each for each in sorted(old) if "OpenFlow 1.0" not in each[1]] == [
        each for each in sorted(new) if "by meter" not in each[1]]


@pytest.mark.parametrize(("dump", "sentence"), [
    ("plain-br-int", "web1 (qvo7c4e9d0a-11) may send as fa:16:3e:00:00:11 (web1)."),
    ("plain-br-int", "VLAN 101 of the physical network behind br-ex (int-br-ex) is local VLAN 3 on this host."),
    ("plain-br-tun", "Local VLAN 1 is flooded with tunnel id 1001 into the tunnel to 192.0.2.12 (vxlan-c000020c) and the "
                     "tunnel to 192.0.2.13 (vxlan-c000020d)."),
    ("plain-br-tun", "Learned: fa:16:3e:00:00:14 of local VLAN 1 lives behind the tunnel to 192.0.2.13 (vxlan-c000020d); "
                     "sent there with tunnel id 1001, until this row is 300 seconds old."),
    ("l2population-br-tun", "Who asks in local VLAN 1 for 10.0.1.13 is answered here that it has fa:16:3e:00:00:13; the "
                            "request does not leave the host."),
    ("openvswitch-br-int", "web1 (qvo7c4e9d0a-11) may get TCP to ports 8000 to 8007 from 192.0.2.0/24; the new connection "
                           "is remembered."),
    ("openvswitch-br-int", "In local VLAN 1, IPv4 from 10.0.1.12 (web2) is from a member of a remote group: part 1 of 2 of "
                           "conjunction 16 (going on)."),
    ("dvr-br-tun", "Nothing leaves for fa:16:3e:00:00:01: every host has this gateway of local VLAN 1 itself, in its "
                   "distributed router."),
    ("extensions-br-ex", "Metadata requests go to the service at 240.0.0.10, port 9697, by port 2."),
])
def test_a_sentence_names_what_it_is_about(dump: str, sentence: str) -> None:
    assert sentence in [each.sentence for each in told((GOLDEN / f"{dump}.txt").read_text(), labels())]
