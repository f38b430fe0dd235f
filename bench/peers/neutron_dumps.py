"""Neutron's own bridge classes, firewall driver and DVR agent install flows; run by the Python of its own environment.

    neutron_dumps.py OVSDB_PORT OPENFLOW_PORT

For each line of input, the name of a scenario, its flows are installed on br-int, br-tun and br-ex, and `done` is
printed. Nothing is computed here: every flow comes from a method of Neutron, called as its agent calls it. Of the agent
only the answers of its server are invented, and conntrack is not touched.
"""
from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

from neutron.agent.common import ovs_lib
from neutron.agent.l2.extensions import local_ip
from neutron.agent.l2.extensions.metadata import metadata_flows_process
from neutron.agent.linux.openvswitch_firewall import firewall
from neutron.conf.agent import securitygroups_rpc
from neutron.plugins.ml2.drivers.openvswitch.agent import ovs_dvr_neutron_agent, ovs_neutron_agent
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as native
from neutron.services.logapi.drivers.openvswitch import ovs_firewall_log
from neutron_flows import configure
from oslo_config import cfg

PORTS = {  # name -> (id, MAC, address); the launcher has plugged them
    "web1": ("7c4e9d0a-11f1-4a52-9a55-0d3a7ce2b001", "fa:16:3e:00:00:11", "10.0.1.11"),
    "web2": ("1f0b5c77-22f2-4b8e-8d11-5c5df0e9b002", "fa:16:3e:00:00:12", "10.0.1.12"),
    "db1": ("93aa60de-33f3-4f7c-b6a3-ee02c1c6b003", "fa:16:3e:00:00:21", "10.0.2.21"),
    "gw": ("b55d8d11-44f4-4e91-a2f4-7a91be7db004", "fa:16:3e:00:00:01", "10.0.1.1"),
    "dhcp": ("e1e0c2f5-55f5-4c0d-9b0e-60e3b5d2b005", "fa:16:3e:00:00:02", "10.0.1.2"),
}
BLUE, GREEN, PROVIDER, FLAT = 1, 2, 3, 4  # local VLANs
PATCH_TUN, INT_EX, PATCH_INT, PHY_EX = 1, 2, 1, 1
OFPORTS = {"web1": 3, "web2": 4, "db1": 5, "gw": 6, "dhcp": 7, "dead": 8}
TUNNELS = (2, 3)
OWN_DVR, OTHER_DVR = "fa:16:3f:aa:aa:01", "fa:16:3f:aa:aa:02"
GROUP, PEERS, ADDRESSES = (f"5ec00000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
RULES = [
    {"direction": "egress", "ethertype": "IPv4"},
    {"direction": "egress", "ethertype": "IPv6"},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80,
     "source_ip_prefix": "0.0.0.0/0"},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 8000, "port_range_max": 8009,
     "source_ip_prefix": "192.0.2.0/24"},
    {"direction": "ingress", "ethertype": "IPv6", "protocol": "udp", "port_range_min": 53, "port_range_max": 53,
     "source_port_range_min": 1024, "source_port_range_max": 1024},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "icmp"},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "icmp", "port_range_min": 8, "port_range_max": 0},
    {"direction": "ingress", "ethertype": "IPv6", "protocol": "icmp", "port_range_min": 128},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "112"},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "sctp", "port_range_min": 5000, "port_range_max": 5000},
    {"direction": "ingress", "ethertype": "IPv4", "remote_group_id": PEERS},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22,
     "remote_group_id": PEERS},
    {"direction": "ingress", "ethertype": "IPv6", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443,
     "remote_group_id": PEERS},
    {"direction": "egress", "ethertype": "IPv4", "protocol": "udp", "remote_address_group_id": ADDRESSES},
]


class Node:
    """The three bridges of one node, empty."""

    def __init__(self, classes: dict[str, Callable[[str], object]]) -> None:
        self.int_br, self.tun_br, self.ex_br = classes["br_int"]("br-int"), classes["br_tun"]("br-tun"), None
        self.ex_br = classes["br_phys"]("br-ex")
        for bridge in (self.int_br, self.tun_br, self.ex_br):
            bridge.setup_controllers(cfg.CONF)

    def clear(self) -> None:
        for bridge in (self.int_br, self.tun_br, self.ex_br):
            bridge.uninstall_flows(cookie=ovs_lib.COOKIE_ANY)

    def defaults(self, responder: bool = False, dvr: bool = False) -> None:
        """What the agent installs when it starts."""
        self.int_br.setup_default_table(enable_openflow_dhcp=True, enable_dhcpv6=True, enable_dns_forwarder=True)
        self.ex_br.setup_default_table()
        self.int_br.drop_port(in_port=INT_EX)
        if not dvr:
            self.ex_br.drop_port(in_port=PHY_EX)
        self.tun_br.setup_default_table(PATCH_INT, responder, dvr)
        for number in TUNNELS:
            self.tun_br.setup_tunnel_port("vxlan", number)

    def networks(self, dvr: bool = False) -> None:
        """A VXLAN network, one in GRE, one in Geneve, a VLAN of the provider, and a flat one."""
        for kind, vlan, segment in (("vxlan", BLUE, 1001), ("gre", GREEN, 1002), ("geneve", GREEN, 1003)):
            self.tun_br.provision_local_vlan(kind, vlan, segment, distributed=dvr)
        for vlan, segment in ((PROVIDER, 101), (FLAT, None)):
            self.int_br.provision_local_vlan(port=INT_EX, lvid=vlan, segmentation_id=segment)
            self.ex_br.provision_local_vlan(port=PHY_EX, lvid=vlan, segmentation_id=segment, distributed=dvr)
        self.tun_br.install_flood_to_tun(BLUE, 1001, TUNNELS)

    def spoofing(self) -> None:
        """Protection of the ports as the agent installs it where the firewall does not."""
        for name in ("web1", "db1"):
            port, (_, mac, address) = OFPORTS[name], PORTS[name]
            self.int_br.set_allowed_macs_for_port(port, mac_addresses={mac, "00:00:5e:00:01:0a"})
            self.int_br.install_icmpv6_na_spoofing_protection(port, ["fd00::11", "fe80::f816:3eff:fe00:11"])
            self.int_br.install_arp_spoofing_protection(port, [address, "10.0.9.0/24"])
        self.int_br.drop_port(in_port=OFPORTS["dead"])


def plain(node: Node) -> None:
    """The agent without its OVS firewall: iptables_hybrid, no l2population; with quality of service."""
    node.defaults()
    node.networks()
    node.spoofing()
    node.int_br.install_dscp_marking_rule(OFPORTS["web1"], 26)
    mac = PORTS["web1"][1]
    for meter, kind in ((1, "pps"), (2, "bps")):
        node.int_br.create_meter(meter, 1000, type_=kind)
        node.int_br.apply_meter_to_port(meter, "egress", mac, in_port=OFPORTS["web1"], type_=kind)
        node.int_br.apply_meter_to_port(meter, "ingress", mac, local_vlan=BLUE, type_=kind)
    node.int_br.set_queue_for_ingress_bandwidth_limit()
    node.int_br._set_pkt_mark_for_minimum_bandwidth(OFPORTS["db1"])
    node.ex_br.set_queue_for_minimum_bandwidth(OFPORTS["db1"])
    node.int_br.add_dhcp_ipv4_flow(PORTS["web1"][0], OFPORTS["web1"], mac)
    node.int_br.add_dhcp_ipv6_flow(PORTS["web1"][0], OFPORTS["web1"], mac)


def l2population(node: Node) -> None:
    """l2population with the ARP responder."""
    node.defaults(responder=True)
    node.networks()
    node.spoofing()
    for number, (mac, address) in zip(TUNNELS, (("fa:16:3e:00:00:13", "10.0.1.13"), ("fa:16:3e:00:00:14", "10.0.1.14")),
                                      strict=True):
        node.tun_br.install_unicast_to_tun(BLUE, 1001, number, mac)
        node.tun_br.install_arp_responder(BLUE, address, mac)


class Server:
    """What Neutron's server answers a DVR agent."""

    def get_dvr_mac_address_by_host(self, *_: object) -> dict[str, str]:
        return {"mac_address": OWN_DVR}

    def get_dvr_mac_address_list(self, *_: object) -> list[dict[str, str]]:
        return [{"mac_address": OWN_DVR}, {"mac_address": OTHER_DVR}]

    def get_subnet_for_dvr(self, _context: object, subnet: str, **_: object) -> dict[str, object]:
        six = subnet.endswith("6")
        return {"ip_version": 6 if six else 4, "gateway_mac": PORTS["gw"][1], "cidr": "fd00::/64" if six else "10.0.1.0/24"}

    def get_ports_on_host_by_subnet(self, *_: object) -> list[dict[str, str]]:
        return [{"id": PORTS["web1"][0], "device_owner": "compute:nova"}]

    def get_ports(self, *_: object, **__: object) -> list[dict[str, object]]:
        return []


def dvr(node: Node) -> None:
    """Distributed routers, on a tunnelled network, a VLAN and a flat one, with addresses of both kinds."""
    node.defaults(responder=True, dvr=True)
    agent = ovs_dvr_neutron_agent.OVSDVRNeutronAgent(
        None, Server(), node.int_br, node.tun_br, {"physnet1": "br-ex"}, {"physnet1": node.ex_br},
        {"physnet1": INT_EX}, {"physnet1": PHY_EX}, PATCH_INT, PATCH_TUN, "compute1", True, True)
    agent.setup_dvr_flows()
    node.networks(dvr=True)
    for kind, vlan, segment in (("vxlan", BLUE, 1001), ("vlan", PROVIDER, 101), ("flat", FLAT, None)):
        network = SimpleNamespace(vlan=vlan, network_type=kind, segmentation_id=segment, physical_network="physnet1")
        for version, address in (("4", "10.0.1.1"), ("6", "fd00::1")):
            agent.local_ports.clear()
            agent.bind_port_to_dvr(_vif("gw"), network, [{"subnet_id": f"{kind}{version}", "ip_address": address}],
                                   "network:router_interface_distributed")
            agent.bind_port_to_dvr(_vif("web2"), network, [{"subnet_id": f"{kind}{version}"}], "compute:nova")
            agent.bind_port_to_dvr(_vif("dhcp"), network, [{"subnet_id": f"{kind}{version}"}],
                                   "network:router_centralized_snat")


def _vif(name: str) -> SimpleNamespace:
    return SimpleNamespace(vif_id=PORTS[name][0], vif_mac=PORTS[name][1], ofport=OFPORTS[name])


def openvswitch(node: Node) -> firewall.OVSFirewallDriver:
    """The firewall of Open vSwitch, with rules of every kind, an address pair, and a port without port security."""
    node.defaults(responder=True)
    node.networks()
    driver = firewall.OVSFirewallDriver(node.int_br)
    driver._schedule_invalid_conntrack_entries_cleanup = lambda port: None
    driver.iptables_helper.cleanup_port = lambda port: None  # no hybrid firewall was here before
    driver.update_security_group_rules(GROUP, RULES)
    driver.update_security_group_members(PEERS, {
        "IPv4": {("10.0.1.12", PORTS["web2"][1]), ("0.0.0.0/0", PORTS["db1"][1])}, "IPv6": {("fd00::12", PORTS["web2"][1])}})
    driver.update_security_group_members(ADDRESSES, {"IPv4": {("198.51.100.0/24", None)}, "IPv6": set()})
    for name in ("web1", "db1"):
        driver.prepare_port_filter(_device(name))
    driver.process_trusted_ports([PORTS["dhcp"][0]])
    log = ovs_firewall_log.OVSFirewallLoggingDriver.__new__(ovs_firewall_log.OVSFirewallLoggingDriver)
    log.int_br, log._deferred, log.conj_id_map = driver.int_br, False, firewall.ConjIdMap(node.int_br)
    log.cookies_table, log.generate_cookie = set(), lambda *_: 0x10C
    port = SimpleNamespace(id=PORTS["web1"][0], ofport=OFPORTS["web1"], event="ALL",
                           secgroup_rules=[{**rule, "security_group_id": GROUP} for rule in _numbered()])
    log.add_flows_from_rules(port, {"event": "ALL", "project_id": "p", "id": "l"})
    return driver


def _numbered() -> list[dict[str, object]]:
    group = firewall.SecurityGroup(GROUP)
    group.update_rules(RULES)
    return [*group.raw_rules, *group.remote_rules]


def _device(name: str) -> dict[str, object]:
    id_, mac, address = PORTS[name]
    return {"device": id_, "port_security_enabled": True, "fixed_ips": [address, "fd00::11"], "mac_address": mac,
            "security_groups": [GROUP], "allowed_address_pairs": [{"mac_address": "00:00:5e:00:01:0a",
                                                                   "ip_address": "10.0.1.100"}]}


def direct(node: Node) -> None:
    """The firewall with `explicitly_egress_direct`: no NORMAL for what is known."""
    cfg.CONF.set_override("explicitly_egress_direct", True, group="AGENT")
    try:
        openvswitch(node)
    finally:
        cfg.CONF.clear_override("explicitly_egress_direct", group="AGENT")


def extensions(node: Node) -> None:
    """`explicitly_egress_direct` without the firewall, Local IP both ways, and the metadata path."""
    node.defaults()
    node.networks()
    agent = ovs_neutron_agent.OVSNeutronAgent.__new__(ovs_neutron_agent.OVSNeutronAgent)
    agent.int_br, agent.conf, agent.enable_tunneling = node.int_br, cfg.CONF, True
    agent.bridge_mappings, agent.int_ofports = {"physnet1": "br-ex"}, {"physnet1": INT_EX}
    agent.patch_tun_ofport = PATCH_TUN
    lvm = SimpleNamespace(vlan=BLUE, network_type="vxlan", physical_network=None)
    agent.vlan_manager = SimpleNamespace(get=lambda *_: lvm)
    with mock.patch.object(ovs_neutron_agent.OVSNeutronAgent, "direct_for_non_openflow_firewall", True, create=True):
        agent.install_ingress_direct_goto_flows()
        agent.install_accepted_egress_direct_flow(
            {"network_id": "n", "segmentation_id": 1001, "vif_port": _vif("web1"), "mac_address": PORTS["web1"][1]},
            node.int_br)
    node.int_br.setup_local_egress_flows(OFPORTS["web1"], BLUE)
    _local_ip(node)
    _metadata(node)


def _local_ip(node: Node) -> None:
    extension = local_ip.LocalIPAgentExtension()
    extension.int_br = node.int_br
    extension._is_ovs_firewall = lambda: False
    mac = PORTS["web2"][1]
    extension.setup_local_ip_translation(BLUE, "10.0.1.200", "10.0.1.12", mac)
    extension.setup_static_local_ip_translation(BLUE, "10.0.1.201", "10.0.1.12", mac)
    node.int_br.install_arp_responder(BLUE, "10.0.1.200", mac, table_id=31)
    node.int_br.install_garp_blocker(BLUE, "10.0.1.200")
    node.int_br.install_garp_blocker_exception(BLUE, "10.0.1.200", "10.0.1.12")


def _metadata(node: Node) -> None:
    path = metadata_flows_process.MetadataDataPathFlows.__new__(metadata_flows_process.MetadataDataPathFlows)
    path.int_br = node.int_br
    path.set_path_br(node.ex_br)
    path.metadata_path_defaults(99, PHY_EX, 2, {"provider_ip": "240.0.0.10", "mac_address": "fa:16:ee:00:00:01",
                                                "service_protocol_port": 9697})
    _, mac, address = PORTS["web1"]
    path.add_flow_snat_br_meta(BLUE, mac, address, "fa:16:ee:00:00:02", "240.0.0.11")
    path.add_flow_ingress_dnat_direct_to_int_br(BLUE, 99, "240.0.0.11", mac, address, PHY_EX, 2)
    path.add_flow_int_br_egress_direct(OFPORTS["web1"], BLUE, INT_EX)
    path.add_flow_int_br_ingress_output(INT_EX, BLUE, mac, OFPORTS["web1"])
    path.install_arp_responder("240.0.0.11", "fa:16:ee:00:00:02")
    path.install_arp_responder("10.0.1.2", PORTS["dhcp"][1], bridge=node.int_br, table=0, in_port=OFPORTS["web1"])


SCENARIOS = {made.__name__: made for made in (plain, l2population, dvr, openvswitch, direct, extensions)}


def serve(classes: dict[str, Callable[[str], object]], *_: object, **__: object) -> None:
    """In the place of the agent's loop."""
    try:
        node = Node(classes)
        print("ready", flush=True)
        for line in sys.stdin:
            node.clear()
            try:
                SCENARIOS[line.strip()](node)
            except Exception:  # a scenario of a Neutron that has changed: say so, try the others
                traceback.print_exc()
                print("failed", flush=True)
            else:
                print("done", flush=True)
    finally:
        os._exit(0)  # its threads would not end


def main() -> None:
    """See above."""
    configure(*sys.argv[1:])
    securitygroups_rpc.register_securitygroups_opts()
    cfg.CONF.set_override("bridge_mappings", ["physnet1:br-ex"], group="OVS")
    with mock.patch.object(ovs_neutron_agent, "main", serve):
        native.main()


if __name__ == "__main__":
    main()
