"""The shape of a topology.yaml: which keys each object has and what kind of value stands behind each.

Unknown keys are refused. What the values mean together is for `checking`; here an object is looked at alone.
"""
from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator

from controller.model.kinds import (
    AnyPrefix,
    Bridge,
    Cidr,
    DatapathId,
    Device,
    Ip,
    IpOrDhcp,
    Mac,
    Name,
    PortRange,
    Protocol,
    Reference,
    Truth,
    Uuid,
    Whole,
    number,
    one_of,
)


class Shape(BaseModel):
    """What all shapes have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class UnderlayShape(Shape):
    cidr: Cidr
    mtu: Annotated[int, PlainValidator(number(68, 65535))] = 1500


class TunnelShape(Shape):
    type: Annotated[str, PlainValidator(one_of("vxlan", "geneve", "gre"))] = "vxlan"
    port: Annotated[int, PlainValidator(number(1, 65535))] | None = None


class OptionsShape(Shape):
    """The top-level keys with a single value."""

    cloud: Name
    forwarding: Annotated[str, PlainValidator(one_of("learning", "l2population"))] = "learning"
    arp_responder: Truth = False
    firewall: Annotated[str, PlainValidator(one_of("iptables_hybrid", "openvswitch", "none"))] = "iptables_hybrid"
    # OpenFlow timeouts have 16 bits, and zero would mean for ever.
    mac_aging_time: Annotated[int, PlainValidator(number(1, 65535))] = 300


class HostShape(Shape):
    tunnel_ip: Ip
    role: Annotated[str, PlainValidator(one_of("compute", "network"))] = "compute"
    datapath_ids: dict[str, DatapathId | None] | None = None  # by bridge, which is looked at later
    bridge_mappings: dict[str, Bridge] | None = None  # physical network -> bridge
    id: Uuid | None = None


class RouteShape(Shape):
    destination: AnyPrefix
    nexthop: Ip


class PoolShape(Shape):
    start: Ip
    end: Ip


class SubnetShape(Shape):
    cidr: Cidr
    gateway: Ip | None = None
    dhcp: Truth = False
    dns: list[Ip] = []
    host_routes: list[RouteShape] = []
    allocation_pools: list[PoolShape] = []
    id: Uuid | None = None


class NetworkShape(Shape):
    tunnel_id: Whole | None = None
    external: Truth = False
    subnets: dict[str, Any] | None = None  # each is looked at alone, as a SubnetShape
    physical_network: Name | None = None
    network_type: Annotated[str, PlainValidator(one_of("vlan", "flat"))] | None = None
    segmentation_id: Annotated[int, PlainValidator(number(1, 4094))] | None = None
    id: Uuid | None = None


def _just_a_name(value: Any) -> Any:
    return {"subnet": value} if isinstance(value, str) else value


class InterfaceShape(Shape):
    subnet: Reference
    ip: Ip | None = None
    mac: Mac | None = None
    id: Uuid | None = None


class GatewayShape(Shape):
    network: Reference
    ip: Ip | None = None
    snat: Truth = True
    mac: Mac | None = None
    id: Uuid | None = None


class RouterShape(Shape):
    host: Reference
    driver: Annotated[str, PlainValidator(one_of("simulated", "namespace"))] = "simulated"
    interfaces: list[Annotated[InterfaceShape, BeforeValidator(_just_a_name)]] = []
    gateway: GatewayShape | None = None
    routes: list[RouteShape] = []
    id: Uuid | None = None


class FloatingIpShape(Shape):
    vm: Reference
    network: Reference | None = None


class RuleShape(Shape):
    direction: Annotated[str, PlainValidator(one_of("ingress", "egress"))]
    ethertype: Annotated[str, PlainValidator(one_of("IPv4", "IPv6"))] | None = None
    protocol: Protocol = None
    port: PortRange | None = None
    icmp_type: Annotated[int, PlainValidator(number(0, 255))] | None = None
    icmp_code: Annotated[int, PlainValidator(number(0, 255))] | None = None
    remote: AnyPrefix | None = None
    remote_group: Reference | None = None


class GroupShape(Shape):
    """A security group in the form that can hold an id; each rule is looked at alone, as a RuleShape."""

    rules: list[Any] = []
    id: Uuid | None = None


class PairShape(Shape):
    ip: AnyPrefix
    mac: Mac | None = None


class PortShape(Shape):
    """A VM's port in the list form."""

    network: Reference
    ip: IpOrDhcp | None = None
    mac: Mac | None = None
    id: Uuid | None = None
    device: Device | None = None
    port_security: Truth = True
    security_groups: list[Reference] = []
    allowed_address_pairs: list[PairShape] = []


class SinglePortVmShape(PortShape):
    """A VM whose one port is written without a list."""

    host: Reference


class VmShape(Shape):
    """A VM with a list of ports."""

    host: Reference
    ports: list[PortShape]
    id: Uuid | None = None
