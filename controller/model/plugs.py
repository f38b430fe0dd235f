"""What plugs into a network: the ports of VMs, and the interfaces and gateways of routers, each with its id and MAC."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.model import names
from controller.model.draft import Draft, Item, Leg, PortItem, SubnetItem
from controller.model.kinds import can_be_host
from controller.model.schema import PortShape, RouterShape, VmShape
from controller.model.topology import Address


def port_item(draft: Draft, vm: Item[Any], index: int, shape: PortShape, of: int) -> PortItem:
    """One of a VM's ports; `of` is how many it has. Alone it has the VM's name, else also its interface's."""
    listed = isinstance(vm.shape, VmShape)
    node = vm.node.deepest("ports", index) if listed else vm.node
    port_id = shape.id or draft.object_id(f"vms/{vm.name}/ports/{index}")
    return PortItem(
        name=vm.name if of == 1 else f"{vm.name}:eth{index}", path=f"{vm.path}.ports[{index}]" if listed else vm.path,
        shape=shape, node=node, vm=vm.name, host=vm.shape.host, index=index, id=port_id,
        mac=shape.mac or names.mac_of(port_id))


def legs_of(draft: Draft, router: Item[RouterShape]) -> Iterator[Leg]:
    """A router's interfaces in the order of the file, then its gateway. Without `ip` it is its subnet's gateway."""
    for index, interface in enumerate(router.shape.interfaces):
        subnet = draft.subnets.get(interface.subnet)
        leg_id = interface.id or draft.object_id(f"routers/{router.name}/interfaces/{interface.subnet}")
        at, ip_at = router.at("interfaces", index), router.at("interfaces", index, "ip")
        yield Leg(
            router=router.name, path=f"{router.path}.interfaces[{index}]", at=at, ip_at=ip_at,
            network=subnet.network if subnet else None, subnet=interface.subnet,
            ip=interface.ip or (_usable_gateway(subnet) if subnet else None),
            id=leg_id, mac=interface.mac or names.mac_of(leg_id))
    gateway = router.shape.gateway
    if gateway is not None:
        leg_id = gateway.id or draft.object_id(f"routers/{router.name}/gateway")
        yield Leg(
            router=router.name, path=f"{router.path}.gateway", at=router.at("gateway", "network"),
            ip_at=router.at("gateway", "ip"), network=gateway.network, subnet=None, ip=gateway.ip,
            id=leg_id, mac=gateway.mac or names.mac_of(leg_id))


def _usable_gateway(subnet: SubnetItem) -> Address | None:
    """The subnet's gateway, unless it is wrong: that is said once, at the subnet."""
    gateway = subnet.shape.gateway
    return gateway if gateway is not None and can_be_host(gateway, subnet.shape.cidr) else None
