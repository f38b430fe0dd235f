#!/usr/bin/env python3
"""Make the flow dumps of tests/golden/neutron again: what Neutron's own classes install on a real Open vSwitch.

    sudo bench/neutron_dumps.py [DIRECTORY]

Neutron comes into an environment of its own as for `native_driver.py`; peers/neutron_dumps.py drives it, scenario after
scenario, on an Open vSwitch in a namespace of its own. Then two frames come out of tunnels, so that br-tun has learned.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import native_driver
from labs import ROOT
from native_driver import OPENFLOW, OVSDB, Switch
from reports import say

DRIVER = ROOT / "bench" / "peers" / "neutron_dumps.py"
GOLDEN = ROOT / "tests" / "golden" / "neutron"
SCENARIOS = ("plain", "l2population", "dvr", "openvswitch", "direct", "extensions")
BRIDGES = ("br-int", "br-tun", "br-ex")
PORTS = (  # device, id, MAC, name, address; in the order of their OpenFlow ports, from 3
    ("qvo7c4e9d0a-11", "7c4e9d0a-11f1-4a52-9a55-0d3a7ce2b001", "fa:16:3e:00:00:11", "web1", "10.0.1.11", 1),
    ("tap1f0b5c77-22", "1f0b5c77-22f2-4b8e-8d11-5c5df0e9b002", "fa:16:3e:00:00:12", "web2", "10.0.1.12", 1),
    ("tap93aa60de-33", "93aa60de-33f3-4f7c-b6a3-ee02c1c6b003", "fa:16:3e:00:00:21", "db1", "10.0.2.21", 3),
    ("qr-b55d8d11-44", "b55d8d11-44f4-4e91-a2f4-7a91be7db004", "fa:16:3e:00:00:01", "", "10.0.1.1", 1),
    ("tape1e0c2f5-55", "e1e0c2f5-55f5-4c0d-9b0e-60e3b5d2b005", "fa:16:3e:00:00:02", "", "10.0.1.2", 1),
)
DEAD = "tap0dead000-66"


class Node(Switch):
    """Open vSwitch as on a compute node: three bridges, their patch ports, two tunnels, ports of VMs."""

    def up(self) -> None:
        self.starts()
        words = []
        for bridge in BRIDGES:
            words += ["--", "add-br", bridge,
                      "--", "set", "bridge", bridge, "datapath_type=netdev", "fail_mode=secure"]
        for bridge, port, peer, number in (
                ("br-int", "patch-tun", "patch-int", 1), ("br-int", "int-br-ex", "phy-br-ex", 2),
                ("br-tun", "patch-int", "patch-tun", 1), ("br-ex", "phy-br-ex", "int-br-ex", 1)):
            words += _port(bridge, port, number, "type=patch", f"options:peer={peer}")
        for last in (12, 13):
            words += _port("br-tun", f"vxlan-c00002{last:02x}", last - 10, "type=vxlan", "options:key=flow",
                           f"options:remote_ip=192.0.2.{last}", "options:local_ip=192.0.2.11")
        for number, (device, id_, mac, _, _, vlan) in enumerate(PORTS, start=3):
            words += _port("br-int", device, number, "type=internal", f"external_ids:iface-id={id_}",
                           f'external_ids:attached-mac="{mac}"', "external_ids:iface-status=active")
            kind = "vlan" if vlan == 3 else "vxlan"
            words += ["--", "set", "port", device, f"tag={vlan}", f"other_config:tag={vlan}",
                      f"other_config:network_type={kind}", f"other_config:segmentation_id={100 + vlan}",
                      "other_config:physical_network=physnet1"]
        words += _port("br-int", DEAD, 8, "type=internal")
        self.run("ovs-vsctl", *words[1:])

    def starts(self) -> None:
        """The daemons, without any bridge."""
        subprocess.run(["ip", "netns", "add", self.room], check=True)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ovsdb-tool", "create", self.where / "conf.db", native_driver.SCHEMA)
        self._daemon("ovsdb-server", self.where / "conf.db", f"--remote=punix:{self.where}/db.sock",
                     f"--remote=ptcp:{OVSDB}:127.0.0.1")
        self.run("ovs-vsctl", "--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{self.where}/db.sock")

    def learn(self) -> None:
        """Frames from both hosts: broadcast ARP, then an answer."""
        for port, mac, tail in ((2, "fa:16:3e:00:00:13", "arp,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1"),
                                (3, "fa:16:3e:00:00:14", "icmp,dl_dst=fa:16:3e:00:00:11")):
            self.run("ovs-appctl", "ofproto/trace", "br-tun", f"in_port={port},tun_id=1001,dl_src={mac},{tail}",
                     "--generate")


def _port(bridge: str, port: str, number: int, *settings: str) -> list[str]:
    return ["--", "add-port", bridge, port, "--", "set", "interface", port, f"ofport_request={number}", *settings]


def scenarios(node: Node, out: Path) -> None:
    """Every dump into its file."""
    python = native_driver.environment()
    with (node.where / "neutron.log").open("w") as log:
        driver = subprocess.Popen(node.argv(python, DRIVER, OVSDB, OPENFLOW), stdin=subprocess.PIPE, text=True,
                                  env={**node.environment, "PATH": f"{python.parent}:{os.environ['PATH']}"},
                                  stdout=subprocess.PIPE, stderr=log)
        assert driver.stdin and driver.stdout
        try:
            answer = _answer(driver)
            for name in SCENARIOS:
                driver.stdin.write(f"{name}\n")
                driver.stdin.flush()
                answer = _answer(driver)
                say(f"{name}: {answer}")
                if answer != "done":
                    sys.exit((node.where / "neutron.log").read_text()[-4000:])
                dump(node, name, out)
        finally:
            driver.kill()
            driver.wait(30)


def _answer(driver: subprocess.Popen[str]) -> str:
    """The driver's next word; Neutron's own log lines stand between them."""
    assert driver.stdout
    for line in driver.stdout:
        if line.strip() in ("ready", "done", "failed"):
            return line.strip()
    return "ended"


def dump(node: Node, name: str, out: Path) -> None:
    """Each bridge, as ovs-ofctl prints it by itself, and in the words of OpenFlow 1.3."""
    node.learn()
    for bridge in BRIDGES:
        for version, mark in (("OpenFlow10", ""), ("OpenFlow13", "-of13")):
            text = node.run("ovs-ofctl", "-O", version, "dump-flows", bridge)
            (out / f"{name}-{bridge}{mark}.txt").write_text(text)


def names(node: Node, out: Path) -> None:
    """What the names of a node come from."""
    (out / "ovs-vsctl-show.txt").write_text(node.run("ovs-vsctl", "show"))
    for bridge in BRIDGES:
        (out / f"ovs-ofctl-show-{bridge}.txt").write_text(node.run("ovs-ofctl", "-O", "OpenFlow10,OpenFlow13", "show",
                                                                   bridge))
    listed = [{"ID": id_, "Name": name, "MAC Address": mac, "Status": "ACTIVE",
               "Fixed IP Addresses": [{"subnet_id": f"5ab00000-0000-4000-8000-{vlan:012d}", "ip_address": address}]}
              for _, id_, mac, name, address, vlan in PORTS]
    (out / "openstack-port-list.json").write_text(json.dumps(listed, indent=1) + "\n")


def main() -> None:
    """See above."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tbneu", dir="/tmp") as directory:
        node = Node(Path(directory))
        try:
            node.up()
            scenarios(node, out)
            names(node, out)
        finally:
            node.down()


if __name__ == "__main__":
    main()
