"""Numbers of a host: local VLANs that stay, ports that are there or not, neighbours that are known before."""
from __future__ import annotations

from ipaddress import ip_network

import pytest

from controller.model import placement
from controller.model.placement import LAST_VLAN, Seen, VlansExhausted, allot_vlans, imagined, place
from flows.host import Identity
from tests.clouds import golden


def test_vlans_are_given_from_1_in_the_order_asked() -> None:
    assert allot_vlans(["amber", "blue"], {}) == {"amber": 1, "blue": 2}


def test_a_vlan_in_use_stays_with_its_network_wherever_others_come_or_go() -> None:
    assert allot_vlans(["amber", "blue", "green"], {"green": 1, "blue": 7}) == {"amber": 2, "blue": 7, "green": 1}


def test_a_vlan_that_a_network_leaves_is_given_out_last() -> None:
    assert allot_vlans(["amber"], {"blue": 1}) == {"amber": 2}
    full = {f"n{n}": n for n in range(1, LAST_VLAN + 1)}
    assert allot_vlans(["new", *list(full)[1:]], full)["new"] == 1


@pytest.mark.parametrize("nonsense", [0, -1, 4095, 5000])
def test_a_vlan_that_cannot_be_is_not_kept(nonsense: int) -> None:
    assert allot_vlans(["blue"], {"blue": nonsense}) == {"blue": 1}


def test_a_vlan_is_never_given_twice() -> None:
    assert allot_vlans(["amber", "blue"], {"amber": 3, "blue": 3}) == {"amber": 3, "blue": 1}


def test_the_last_vlan_is_4094_and_then_they_are_exhausted() -> None:
    names = [f"n{n}" for n in range(LAST_VLAN)]
    assert set(allot_vlans(names, {}).values()) == set(range(1, 4095))
    with pytest.raises(VlansExhausted, match="4095 networks on one host, but only 4094 VLANs"):
        allot_vlans([*names, "more"], {})


def test_a_host_carries_the_networks_of_its_ports() -> None:
    cloud = golden("equal-tenants")
    assert [network.name for network in placement.carried(cloud, "compute1")] == ["blue", "green"]
    assert placement.carriers(cloud, "admin") == ["compute2"]
    assert placement.carried(golden("idle-host"), "network1") == []


def test_a_host_that_has_just_been_built_has_every_device() -> None:
    cloud = golden("idle-host")
    assert {bridge: sorted(ports) for bridge, ports in imagined(cloud, "compute1").ports.items()} == {
        "br-int": ["patch-tun", cloud.vms["web1"].ports[0].device],
        "br-tun": ["patch-int", "strangers", "vxlan-c000020c", "vxlan-c0000215"]}


def test_a_port_that_the_switch_does_not_have_is_left_out() -> None:
    cloud = golden("several-ports")
    host = place(cloud, "compute1", Seen({"br-int": {}, "br-tun": {}}, {"blue": 1, "green": 2}))
    assert (host.patch_tun, host.patch_int, host.tunnels) == (None, None, ())
    assert [network.ports for network in host.networks] == [(), ()]


def test_a_neighbour_is_known_before_the_tunnel_to_it_is_there() -> None:
    cloud = golden("one-network-two-hosts")
    bare = place(cloud, "compute1", Seen({}, {"blue": 1})).networks[0]
    whole = place(cloud, "compute1", imagined(cloud, "compute1")).networks[0]
    assert [(one.name, one.remote) for one in bare.neighbours] == [("web2", "compute2")]
    assert bare.tunnels == ()
    assert bare.neighbours == whole.neighbours
    assert [one.remote for one in whole.tunnels] == ["compute2"]


def test_identities_are_the_port_itself_and_its_pairs_by_mac() -> None:
    cloud = golden("allowed-address-pairs")
    ports = {port.name: port for port in place(cloud, "compute1", imagined(cloud, "compute1")).networks[0].ports}
    assert ports["lb1"].identities == (
        Identity(ports["lb1"].mac, (ip_network("10.0.1.11"), ip_network("10.0.1.101"))),
        Identity("00:00:5e:00:01:01", (ip_network("10.0.1.100"),)))
    assert ports["lb1"].macs == (ports["lb1"].mac, "00:00:5e:00:01:01")


def test_a_port_without_port_security_has_no_identities() -> None:
    cloud = golden("port-security-off")
    ports = {port.name: port for port in place(cloud, "compute1", imagined(cloud, "compute1")).networks[0].ports}
    assert ports["fw1"].identities == ()
    (neighbour,) = [one for one in place(cloud, "compute2", imagined(cloud, "compute2")).networks[0].neighbours
                    if one.name == "fw1"]
    assert not neighbour.secured
