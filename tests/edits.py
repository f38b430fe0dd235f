"""Edits of a file as people make them, by chance."""
from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any, Final

import yaml

from controller.model import reading
from controller.model.topology import Topology

Document = dict[str, Any]


def _vm_goes(pick: random.Random, cloud: Document) -> None:
    cloud["vms"].pop(pick.choice(list(cloud["vms"])))


def _vm_comes(pick: random.Random, cloud: Document) -> None:
    name = pick.choice(list(cloud["vms"]))
    model = cloud["vms"][name]
    one = {key: model[key] for key in ("host", "network", "security_groups") if key in model}
    items = list(cloud["vms"].items())
    items.insert(pick.randrange(len(items) + 1), (f"new{pick.randrange(1000)}", one))
    cloud["vms"] = dict(items)


def _vm_moves(pick: random.Random, cloud: Document) -> None:
    cloud["vms"][pick.choice(list(cloud["vms"]))]["host"] = pick.choice(list(cloud["hosts"]))


def _vm_is_otherwise(pick: random.Random, cloud: Document) -> None:
    vm = cloud["vms"][pick.choice(list(cloud["vms"]))]
    port = pick.choice(vm["ports"]) if "ports" in vm else vm
    groups = list(cloud.get("security_groups") or {})
    if pick.random() < 0.5 and groups:
        port["security_groups"] = pick.sample(groups, pick.randrange(len(groups) + 1))
    else:
        port["port_security"] = not port.get("port_security", True)
        port.pop("allowed_address_pairs", None)


def _one_of_a_section_goes(pick: random.Random, cloud: Document) -> None:
    section = pick.choice(["routers", "floating_ips", "security_groups", "networks", "hosts"])
    if cloud.get(section):
        cloud[section].pop(pick.choice(list(cloud[section])))


def _router_is_otherwise(pick: random.Random, cloud: Document) -> None:
    if cloud.get("routers"):
        router = cloud["routers"][pick.choice(list(cloud["routers"]))]
        router["driver"] = pick.choice(["simulated", "namespace"])
        if router.get("interfaces") and pick.random() < 0.5:
            router["interfaces"].pop()


def _rule_goes(pick: random.Random, cloud: Document) -> None:
    for group in (cloud.get("security_groups") or {}).values():
        if isinstance(group, list) and group and pick.random() < 0.3:
            group.pop(pick.randrange(len(group)))


def _network_is_otherwise(pick: random.Random, cloud: Document) -> None:
    network = cloud["networks"][pick.choice(list(cloud["networks"]))]
    if "tunnel_id" in network and pick.random() < 0.5:
        network["tunnel_id"] = pick.randrange(5000, 6000)
    for subnet in (network.get("subnets") or {}).values():
        subnet["dhcp"] = pick.random() < 0.5


def _host_is_otherwise(pick: random.Random, cloud: Document) -> None:
    host = cloud["hosts"][pick.choice(list(cloud["hosts"]))]
    if pick.random() < 0.5:
        host["role"] = pick.choice(["compute", "network"])
    else:
        cloud["hosts"][f"late{pick.randrange(100)}"] = {**host, "tunnel_ip": f"192.0.2.{pick.randrange(100, 250)}"}


def _another_order(pick: random.Random, cloud: Document) -> None:
    items = list(cloud["vms"].items())
    pick.shuffle(items)
    cloud["vms"] = dict(items)


def _a_setting(pick: random.Random, cloud: Document) -> None:
    cloud["forwarding"] = pick.choice(["learning", "l2population"])
    cloud["firewall"] = pick.choice(["openvswitch", "iptables_hybrid", "none"])


EDITS: Final[list[Callable[[random.Random, Document], None]]] = [
    _vm_goes, _vm_comes, _vm_comes, _vm_comes, _vm_moves, _vm_is_otherwise, _vm_is_otherwise, _one_of_a_section_goes,
    _router_is_otherwise, _rule_goes, _network_is_otherwise, _host_is_otherwise, _another_order, _a_setting]


def edited(pick: random.Random, cloud: Document) -> tuple[Document, Topology] | None:
    """The cloud after one to three edits; None if that is no valid one."""
    other = copy.deepcopy(cloud)
    try:
        for edit in pick.choices(EDITS, k=pick.randint(1, 3)):
            edit(pick, other)
    except (IndexError, KeyError):  # nothing left to edit
        return None
    found = reading.parse(yaml.safe_dump(other, sort_keys=False), "topology.yaml").topology
    return None if found is None else (other, found)
