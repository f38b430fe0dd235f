"""From one lab to the next: what changes is done, and nothing else is touched."""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from controller.host.lab import LabPlan, damaged, from_json, lab_plan, to_json
from controller.host.stages import stages
from controller.model import reading

HEAD = """
cloud: moves
underlay: {cidr: 192.0.2.0/24, mtu: 1500}
networks:
  blue: {tunnel_id: 7, subnets: {s: {cidr: 10.0.0.0/24, gateway: 10.0.0.1}}}
"""
HOSTS = {"c1": "{tunnel_ip: 192.0.2.11}", "c2": "{tunnel_ip: 192.0.2.12}"}
VMS = {"a": "{host: c1, network: blue, ip: 10.0.0.11}", "b": "{host: c2, network: blue, ip: 10.0.0.12}"}


def lab(hosts: dict[str, str] = HOSTS, vms: dict[str, str] = VMS, head: str = HEAD) -> LabPlan:
    text = "\n".join([head, "hosts:", *(f"  {name}: {value}" for name, value in hosts.items()),
                      "vms:", *(f"  {name}: {value}" for name, value in vms.items())])
    found = reading.parse(text, "moves.yaml")
    assert found.topology, found.problems
    return lab_plan(found.topology, datapath="netdev",
                    controllers={name: f"unix:/run/x/{name}.sock" for name in found.topology.hosts})


def jobs(todo: list[dict[str, Any]], what: str = "") -> list[dict[str, Any]]:
    return [job for stage in todo if what in ("", stage["what"]) for job in stage["jobs"]]


def touched(todo: list[dict[str, Any]]) -> set[str]:
    return {job["node"] for job in jobs(todo)}


def lines(todo: list[dict[str, Any]], node: str) -> Iterator[str]:
    for job in jobs(todo):
        if job["node"] == node:
            for step in job.get("steps", ()):
                yield from step["lines"] or (" ".join(step["argv"]),)


def test_nothing_is_done_to_a_lab_that_is_right() -> None:
    assert stages(lab(), lab()) == []


def test_a_plan_survives_a_journey_through_a_file() -> None:
    assert from_json(json.loads(json.dumps(to_json(lab())))) == lab()


def test_a_lab_from_nothing_starts_every_node_and_every_switch() -> None:
    todo = stages(None, lab())
    assert {job["node"]: job["kind"] for job in jobs(todo, "starting")} == {
        "underlay": "underlay", "c1": "hypervisor", "c2": "hypervisor", "a": "vm", "b": "vm"}
    assert [job["node"] for job in jobs(todo, "switches")] == ["c1", "c2"]


def test_a_vms_wire_reaches_into_its_namespace_with_its_mac_and_mtu() -> None:
    plan = lab()
    (card,) = plan.vms["a"].cards
    wire = next(line for line in lines(stages(None, plan), "c1") if "netns pid:a" in line)
    assert f"peer name eth0 address {card.mac} mtu 1450" in wire
    assert "ethtool -K eth0 tx off" in list(lines(stages(None, plan), "a"))


def test_a_new_vm_touches_its_host_and_itself_alone() -> None:
    todo = stages(lab(), lab(vms={**VMS, "new": "{host: c2, network: blue, ip: 10.0.0.13}"}))
    assert touched(todo) == {"c2", "new"}
    assert not any("tapdel" in line or "link del" in line for line in lines(todo, "c2"))


def test_a_vm_that_goes_is_unplugged_and_stopped() -> None:
    todo = stages(lab(), lab(vms={"a": VMS["a"]}))
    assert touched(todo) == {"c2", "b"}
    assert [(stage["what"], job["do"]) for stage in todo for job in stage["jobs"]] == [
        ("unplugging", "run"), ("stopping", "stop"), ("firewall", "run")]


def test_a_vm_that_moves_keeps_running_is_rewired_and_says_so() -> None:
    todo = stages(lab(), lab(vms={**VMS, "a": VMS["a"].replace("c1", "c2")}))
    assert touched(todo) == {"c1", "c2", "a"}
    assert not jobs(todo, "stopping") and not jobs(todo, "starting")
    order = [stage["what"] for stage in todo]
    assert order == ["unplugging", "firewall", "wiring", "plugging in", "addresses", "announcing"]
    (job,) = jobs(todo, "announcing")
    (step,) = job["steps"]
    assert step["background"] and step["argv"][-3] == "eth0" and step["argv"][-1] == "10.0.0.11"


def test_a_new_host_gets_a_tunnel_everywhere_and_no_vm_notices() -> None:
    todo = stages(lab(), lab(hosts={**HOSTS, "c3": "{tunnel_ip: 192.0.2.13}"}))
    assert touched(todo) == {"c1", "c2", "c3", "underlay"}
    assert not any("link" in line.split()[0:1] for line in lines(todo, "c1"))


def test_a_host_that_goes_hands_its_vm_over_before_it_stops() -> None:
    todo = stages(lab(), lab(hosts={"c1": HOSTS["c1"]}, vms={**VMS, "b": VMS["b"].replace("c2", "c1")}))
    order = [(stage["what"], job["node"]) for stage in todo for job in stage["jobs"]]
    assert order.index(("unplugging", "c2")) < order.index(("stopping", "c2")) < order.index(("wiring", "c1"))
    assert ("announcing", "b") in order


def test_another_address_is_set_without_rewiring() -> None:
    todo = stages(lab(), lab(vms={**VMS, "a": VMS["a"].replace(".11", ".99")}))
    assert touched(todo) == {"c1", "a"}
    assert {job["namespace"] for job in jobs(todo) if job["node"] == "c1"} == {"firewall"}
    assert "address add 10.0.0.99/24 dev eth0" in list(lines(todo, "a"))


def test_no_port_is_plugged_in_before_its_rules_are_in_and_none_at_all_if_they_do_not_get_in() -> None:
    todo = stages(None, lab())
    order = [stage["what"] for stage in todo]
    assert order.index("firewall") < order.index("wiring") < order.index("plugging in")
    ends = [link.name for link in lab().hypervisors["c1"].links if link.name.startswith(("tap", "qvb"))]
    assert not any(f"dev {end} master" in line for end in ends for job in jobs(todo, "wiring")
                   for step in job["steps"] for line in step["lines"])
    assert {job["namespace"] for what in ("firewall", "plugging in") for job in jobs(todo, what)} == {"firewall"}
    (rules,) = (job for job in jobs(todo, "firewall") if job["node"] == "c1")
    assert sorted(line for step in rules["otherwise"] for line in step["lines"]) == sorted(
        f"link set dev {end} nomaster" for end in ends)


def test_ports_that_were_closed_are_plugged_in_by_the_next_convergence() -> None:
    closed = damaged(lab(), {("c1", "firewall")}, None)
    todo = stages(closed, lab())
    assert [stage["what"] for stage in todo] == ["firewall", "plugging in"] and touched(todo) == {"c1"}


def test_another_mac_is_a_new_wire() -> None:
    todo = stages(lab(), lab(vms={**VMS, "a": '{host: c1, network: blue, ip: 10.0.0.11, mac: "fa:16:3e:00:00:99"}'}))
    assert touched(todo) == {"c1", "a"}
    assert any("address fa:16:3e:00:00:99" in line for line in lines(todo, "c1"))


def test_a_name_that_was_a_vm_and_is_now_a_host_is_stopped_before_it_starts() -> None:
    todo = stages(lab(), lab(hosts={**HOSTS, "b": "{tunnel_ip: 192.0.2.14}"}, vms={"a": VMS["a"]}))
    order = [(stage["what"], job["node"]) for stage in todo for job in stage["jobs"]]
    assert order.index(("stopping", "b")) < order.index(("starting", "b"))


def test_a_vm_called_underlay_does_not_collide_with_the_underlay() -> None:
    plan = lab(vms={**VMS, "underlay": "{host: c1, network: blue, ip: 10.0.0.14}"})
    assert plan.underlay != "underlay"


def test_a_smaller_underlay_shrinks_everything_on_it_in_place() -> None:
    todo = stages(lab(), lab(head=HEAD.replace("1500", "1400")))
    assert not jobs(todo, "starting") and not any("link add" in line for line in lines(todo, "c1"))
    assert "link set dev eth0 mtu 1350 up" in list(lines(todo, "a"))
    assert any("mtu 1400" in line for line in lines(todo, "underlay"))
