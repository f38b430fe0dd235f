"""What a topology wants of a host, and the commands that make it so."""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.host import bridges, steps, underlay, wires
from controller.host.converge import converge
from controller.host.devices import Bridge, Devices, Link, OvsPort, Underlay, from_json, to_json
from controller.host.observe import NotOurs, controllers, flushed, observe
from controller.host.steps import Step
from controller.model import reading
from controller.model.topology import Topology

CLOUD = """
cloud: plans
underlay: {{cidr: 192.0.2.0/24, mtu: 1500}}
firewall: {firewall}
tunnel: {{type: {tunnel}}}
hosts:
  c1: {{tunnel_ip: 192.0.2.11}}
  c2: {{tunnel_ip: 192.0.2.12}}
  c3: {{tunnel_ip: 192.0.2.13}}
networks:
  blue: {{tunnel_id: 7, subnets: {{s: {{cidr: 10.0.0.0/24}}}}}}
vms:
  a: {{host: c1, network: blue, ip: 10.0.0.11}}
  b: {{host: c2, network: blue, ip: 10.0.0.12}}
"""


def topology(firewall: str = "iptables_hybrid", tunnel: str = "vxlan") -> Topology:
    found = reading.parse(CLOUD.format(firewall=firewall, tunnel=tunnel), "plans.yaml")
    assert found.topology, found.problems
    return found.topology


def devices_of(cloud: Topology, name: str = "c1") -> Devices:
    """What plumb wants of a host with the userspace datapath."""
    host = cloud.hosts[name]
    feet = underlay.userspace(cloud, host, "eth1", neighbours=False)
    ports = wires.ports_of(cloud, name)
    return Devices(cloud.cloud, (*feet.bridges, *bridges.bridges(cloud, host, "netdev", "tcp:192.0.2.1:6653")),
                   (*feet.ports, *bridges.ports(cloud, host, "netdev"),
                    *(wires.ovs_port(cloud, port) for port in ports)),
                   tuple(link for port in ports for link in wires.links(cloud, port, lab=False)), feet.underlay)


def commands(todo: tuple[Step, ...]) -> list[str]:
    return [line for step in todo for line in steps.as_commands(step)]


def test_a_new_host_gets_all_of_its_bridges_in_one_transaction_and_born_secure() -> None:
    todo = converge(devices_of(topology()), Devices("plans"))
    transactions = [step for step in todo if step.argv[0] == "ovs-vsctl"]
    assert len(transactions) == 1
    text = " ".join(transactions[0].argv)
    assert text.index("fail_mode=secure") < text.index("set-controller") < text.index("patch-tun")
    assert "del-controller" not in text


def test_a_host_has_a_tunnel_to_every_other_host_and_none_to_itself() -> None:
    cloud = topology()
    tunnels = [port for port in bridges.ports(cloud, cloud.hosts["c1"], "netdev") if port.type == "vxlan"]
    assert [(port.name, dict(port.options)["remote_ip"]) for port in tunnels] == [
        ("vxlan-c000020c", "192.0.2.12"), ("vxlan-c000020d", "192.0.2.13"), ("strangers", "flow")]
    assert all(dict(port.options)["key"] == "flow" for port in tunnels)


@pytest.mark.parametrize(("tunnel", "overhead"), [("vxlan", 50), ("geneve", 50), ("gre", 42)])
def test_the_vms_mtu_leaves_room_for_the_tunnel(tunnel: str, overhead: int) -> None:
    (port, *_) = topology(tunnel=tunnel).ports()
    assert {link.mtu for link in wires.links(topology(tunnel=tunnel), port, lab=True)} == {1500 - overhead}


def test_the_hybrid_wire_is_tap_qbr_qvb_qvo_and_the_qbr_is_no_switch() -> None:
    todo = commands(converge(devices_of(topology()), Devices("plans")))
    created = [line for line in todo if line.startswith("ip link add")]
    assert [line.split()[4][:3] for line in created] == ["qbr", "qvb"]
    assert "stp_state 0" in created[0] and "mcast_snooping 0" in created[0] and "forward_delay 0" in created[0]
    assert " peer name qvo" in created[1] and "mtu 1450" in created[1]
    assert any("disable_ipv6=1" in line and "qbr" in line and "qvo" in line for line in todo)


@pytest.mark.parametrize("firewall", ["openvswitch", "none"])
def test_without_the_hybrid_firewall_the_tap_itself_is_the_port(firewall: str) -> None:
    want = devices_of(topology(firewall))
    assert want.links == ()
    assert [port.name[:3] for port in want.ports if port.bridge == "br-int" and not port.type] == ["tap"]


def test_a_tap_that_libvirt_has_made_is_plugged_in_and_one_it_has_not_is_awaited() -> None:
    want = devices_of(topology())
    tap = next(link for link in want.links if link.kind == "given")
    have = replace(want, links=tuple(link for link in want.links if link is not tap))
    assert converge(want, have) == ()
    seen = replace(have, links=(*have.links, replace(tap, kind="tun", master="", up=False)))
    assert commands(converge(want, seen)) == [f"ip link set dev {tap.name} master {tap.master}",
                                              f"ip link set dev {tap.name} up"]


def test_a_host_that_is_right_needs_no_command() -> None:
    want = devices_of(topology())
    assert converge(want, want) == ()


def test_only_what_wears_our_mark_is_removed() -> None:
    want = devices_of(topology())
    strangers = (Link("docker0", "bridge", 1500), Link("veth7", "veth", 1500, peer="veth8", alias="tunbridge:other"))
    ours = Link("qbrdeadbeef-00", "bridge", 1450, alias="tunbridge:plans")
    todo = commands(converge(want, replace(want, links=(*want.links, *strangers, ours))))
    assert todo == ["ip link del dev qbrdeadbeef-00"]


def test_a_veth_pair_is_removed_by_one_end() -> None:
    want = Devices("plans")
    pair = (Link("qvbx", "veth", 1450, peer="qvox", alias=want.mark),
            Link("qvox", "veth", 1450, peer="qvbx", alias=want.mark))
    assert commands(converge(want, Devices("plans", links=pair))) == ["ip link del dev qvbx"]


def test_a_changed_tunnel_is_set_in_place_and_a_changed_type_is_made_anew() -> None:
    mark = (("tunbridge", "plans"),)
    old = OvsPort("vxlan-1", "br-tun", "vxlan", (("remote_ip", "192.0.2.1"),), mark)
    have = Devices("plans", ports=(old,))
    moved = commands(converge(Devices("plans", ports=(replace(old, options=(("remote_ip", "192.0.2.9"),)),)), have))
    assert len(moved) == 1 and "add-port" not in moved[0] and '192.0.2.9' in moved[0]
    anew = " ".join(commands(converge(Devices("plans", ports=(replace(old, type="geneve"),)), have)))
    assert anew.index("del-port") < anew.index("add-port")


def test_a_port_whose_device_has_vanished_is_plugged_in_anew() -> None:
    want = devices_of(topology())
    text = " ".join(commands(converge(want, replace(want, links=()))))
    qvo = next(link.name for link in want.links if link.name.startswith("qvo"))
    assert text.index(f"del-port br-int {qvo}") < text.index(f"add-port br-int {qvo}")


def test_labels_that_others_put_on_a_port_are_left_alone() -> None:
    want = devices_of(topology())
    labelled = tuple(replace(port, external_ids=(*port.external_ids, ("vm-uuid", "x"))) for port in want.ports)
    assert converge(want, replace(want, ports=labelled)) == ()


def test_an_existing_controller_is_never_taken_away() -> None:
    want = Devices("plans", (Bridge("br-int", "netdev", 1, "tcp:192.0.2.1:6653"),))
    have = replace(want, bridges=(replace(want.bridges[0], controller="tcp:192.0.2.2:6653"),))
    text = " ".join(commands(converge(want, have)))
    assert "set-controller br-int tcp:192.0.2.1:6653" in text and "del-controller" not in text
    flags = replace(have, bridges=(replace(want.bridges[0], datapath_id=2),))
    assert "set-controller" not in " ".join(commands(converge(want, flags)))


def test_only_a_primary_controller_has_flows_flushed_so_a_new_bridge_gets_none() -> None:
    """And one that has been another's gets one, whose coming flushes what is there; a controller keeps its type."""
    want = Devices("plans", (Bridge("br-int", "netdev", 1, "tcp:192.0.2.1:6653"),))

    def have(**there: object) -> Devices:
        return replace(want, bridges=(replace(want.bridges[0], **there),))  # type: ignore[arg-type]

    new, old, handed_over = (" ".join(commands(converge(want, one))) for one in (
        Devices("plans"), have(service=False, controller="tcp:192.0.2.2:6653"), have(controller=None)))
    moved = " ".join(commands(converge(want, have(controller="tcp:192.0.2.2:6653"))))
    assert "type=service" in new and "type=service" in moved
    assert "set-controller" in old and "type=service" not in old
    assert "set-controller" in handed_over and "type=service" not in handed_over
    assert converge(want, have(service=False)) == ()


def test_the_tunnel_address_leaves_the_network_card_for_br_phy() -> None:
    want = devices_of(topology())
    on_card = replace(want, underlay=Underlay("eth1", "192.0.2.11/24", uplink="eth1"))
    assert commands(converge(want, on_card)) == [
        "ovs-appctl --timeout=10 dpctl/ipf-set-disabled v4", "ovs-appctl --timeout=10 dpctl/ipf-set-disabled v6",
        "ovs-appctl --timeout=10 dpctl/ct-disable-tcp-seq-chk",
        "ovs-appctl --timeout=10 dpctl/ct-set-limits default=100000",
        "ip address del 192.0.2.11/24 dev eth1", "ip link set dev eth1 up",
        "ip address replace 192.0.2.11/24 dev br-phy", "ip link set dev br-phy up",
        "ovs-appctl --timeout=10 version", "ovs-appctl --timeout=10 ovs/route/add 192.0.2.0/24 br-phy"]


def test_devices_survive_a_journey_through_a_file() -> None:
    want = devices_of(topology())
    assert from_json(json.loads(json.dumps(to_json(want)))) == want


def test_every_step_says_why() -> None:
    assert all(step.why for step in converge(devices_of(topology()), Devices("plans")))


def ovs_answer(rows: dict[str, list[dict[str, object]]]) -> Callable[[Step], str]:
    """ovs-vsctl and ip as a host with these rows would answer."""
    def read(step: Step) -> str:
        if step.argv[0] != "ovs-vsctl":
            return "[]"
        headings = next(word for word in step.argv if word.startswith("--columns="))[10:].split(",")
        return json.dumps({"headings": headings, "data": [[row[heading] for heading in headings]
                                                          for row in rows.get(step.argv[-1], [])]})
    return read


def bridge_row(owner: list[list[str]]) -> dict[str, object]:
    return {"name": "br-int", "datapath_type": "", "fail_mode": "secure", "controller": ["set", []],
            "other_config": ["map", []], "external_ids": ["map", owner], "ports": ["set", []],
            "flow_tables": ["map", []]}


def test_somebody_elses_bridge_is_refused_with_the_cure() -> None:
    with pytest.raises(NotOurs, match="br-set-external-id br-int tunbridge plans"):
        observe(devices_of(topology()), ovs_answer({"Bridge": [bridge_row([])]}))


def test_our_own_bridge_is_recognised() -> None:
    sight = observe(devices_of(topology()), ovs_answer({"Bridge": [bridge_row([["tunbridge", "plans"]])]}))
    assert sight.devices.bridges == (Bridge("br-int", "system"),)


@pytest.mark.parametrize(("kind", "service"), [("service", True), ("primary", False), (["set", []], False)])
def test_the_type_of_a_controller_is_seen(kind: object, service: bool) -> None:
    row = {**bridge_row([["tunbridge", "plans"]]), "controller": ["uuid", "7"]}
    target = {"_uuid": ["uuid", "7"], "target": "tcp:192.0.2.1:6653", "type": kind}
    read = ovs_answer({"Bridge": [row], "Controller": [target]})
    assert observe(devices_of(topology()), read).devices.bridges == (
        Bridge("br-int", "system", controller="tcp:192.0.2.1:6653", service=service),)
    assert controllers(read) == {"br-int": ("tcp:192.0.2.1:6653",)}
    assert flushed(read) == ([] if service else ["br-int"])


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "co:lon,comma"])
def test_a_value_reaches_ovs_whatever_it_holds(name: str) -> None:
    port = OvsPort("p", "br-int", external_ids=(("iface-id", name),))
    (step,) = converge(Devices("x", ports=(port,)), Devices("x"))
    assert json.loads(step.argv[-1].partition("=")[2]) == name
