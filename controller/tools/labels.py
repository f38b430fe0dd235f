"""Names for the numbers of a dump, out of files: `ovs-vsctl show`, `ovs-ofctl show`, `openstack port list -f json` and
`openstack network list -f json`. Each file says by itself what it is; one may hold several outputs, but for JSON.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from controller.tools.errors import BAD_INPUT, Refusal

_OFPORT: Final = re.compile(r"^ (\d+|LOCAL)\((.+?)\): addr:", re.M)
_VSCTL: Final = re.compile(r'^\s+(Bridge|Port|Interface|tag:|options:) ?(.*)$', re.M)
_REMOTE: Final = re.compile(r'remote_ip="?([^",}]+)')
_PEER: Final = re.compile(r'peer="?([^",}]+)')
_TUNNEL: Final = re.compile(r"(?:vxlan|gre|geneve)-([0-9a-f]{8})")  # as Neutron, and we, name the device of a tunnel
_PEERS: Final = {"patch-tun": "br-tun", "patch-int": "br-int"}
_DEVICE_ID: Final = 11  # of a port's id stand in the name of its device, behind a prefix of three


@dataclass
class Labels:
    """What is known by name. Bridges are named as on the host; a port's number belongs to its bridge."""

    devices: dict[tuple[str, str], str] = field(default_factory=dict)  # (bridge, OpenFlow port) -> device
    tags: dict[str, int] = field(default_factory=dict)  # device -> local VLAN
    remotes: dict[str, str] = field(default_factory=dict)  # device of a tunnel -> address of the other host
    peers: dict[str, str] = field(default_factory=dict)  # device of a patch -> its other end
    homes: dict[str, str] = field(default_factory=dict)  # device -> its bridge
    ports: dict[str, str] = field(default_factory=dict)  # first 11 characters of a port's id -> its name
    macs: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)  # several networks may use the same
    subnets: dict[str, list[str]] = field(default_factory=dict)  # first 11 characters of a port's id -> its subnets
    networks: dict[str, str] = field(default_factory=dict)  # id of a subnet -> name of its network

    # ---- reading

    def read(self, text: str, source: str) -> None:
        """Take in a file. Refusal if it is none of those that tell names."""
        if text.lstrip().startswith(("[", "{")):
            self._json(text, source)
            return
        before = len(self.devices), len(self.tags), len(self.remotes)
        self._ofctl(text)
        bridges = self._vsctl(text)
        if not bridges and before == (len(self.devices), len(self.tags), len(self.remotes)):
            raise Refusal(f"{source} tells no names: give the output of `ovs-vsctl show`, `ovs-ofctl show BRIDGE` or "
                          "`openstack port list -f json`.", BAD_INPUT)

    def _ofctl(self, text: str) -> None:
        """The port that is called LOCAL has the name of the bridge, and comes last."""
        waiting: dict[str, str] = {}
        for number, device in _OFPORT.findall(text):
            waiting[number] = device
            if number == "LOCAL":
                self.devices |= {(device, one): name for one, name in waiting.items()}
                waiting = {}

    def _vsctl(self, text: str) -> int:
        device, bridge, bridges = "", "", 0
        for word, rest in _VSCTL.findall(text):
            value = rest.strip().strip('"')
            bridges += word == "Bridge"
            if word == "Bridge":
                bridge = value
            elif word in ("Port", "Interface"):
                device = value
                self.homes[device] = bridge
            elif word == "tag:" and value.isdigit():
                self.tags[device] = int(value)
            elif word == "options:":
                self._options(device, value)
        return bridges

    def _options(self, device: str, text: str) -> None:
        for what, known in ((_REMOTE, self.remotes), (_PEER, self.peers)):
            if found := what.search(text):
                known[device] = found.group(1)

    def _json(self, text: str, source: str) -> None:
        try:
            rows = json.loads(text)
            for row in rows:
                self._listed(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refusal(f"{source} is not the output of `openstack port list -f json` or `openstack network list "
                          f"-f json`: {error}.", BAD_INPUT) from error

    def _listed(self, row: dict[str, Any]) -> None:
        if "Subnets" in row:
            self.networks |= dict.fromkeys(map(str, row["Subnets"]), str(row["Name"] or row["ID"]))
            return
        key, name = str(row["ID"])[:_DEVICE_ID], str(row["Name"] or "")
        self.ports[key] = name
        if name:
            self.macs[str(row["MAC Address"]).lower()] = name
        for fixed in row.get("Fixed IP Addresses") or ():
            self.subnets.setdefault(key, []).append(str(fixed["subnet_id"]))
            if name:
                self.addresses.setdefault(str(fixed["ip_address"]), []).append(name)

    # ---- telling

    def bridge(self, kind: str) -> str:
        """The bridge of a dump that does not say whose it is."""
        usual = {"int": "br-int", "tun": "br-tun"}
        others = sorted({name for name, _ in self.devices} - set(usual.values()))
        return usual.get(kind) or (others[0] if len(others) == 1 else "")

    def port(self, bridge: str, number: str) -> str:
        """`web1 (qvo7c4e9d0a-11)`, or the device alone, or `port 3`."""
        device = self.devices.get((bridge, number), number if not number.isdigit() else "")
        if number == "LOCAL":
            return "the host itself"
        if not device:
            return f"port {number}"
        name = self.ports.get(device[3:], "") or _PEERS.get(device, "")
        if device.startswith(("int-", "phy-")) and not name:
            name = device[4:] if device.startswith("int-") else "br-int"
        return f"{name} ({device})" if name else device

    def remote(self, bridge: str, number: str) -> str:
        """`the tunnel to 192.0.2.12`, or as a port."""
        device = self.devices.get((bridge, number), number)
        address = self.remotes.get(device, "")
        if not address and (found := _TUNNEL.fullmatch(device)):
            address = str(IPv4Address(int(found.group(1), 16)))
        return f"the tunnel to {address} ({device})" if address else f"the tunnel of {self.port(bridge, number)}"

    def mac(self, text: str) -> str:
        name = self.macs.get(text.lower())
        return f"{text} ({name})" if name else text

    def address(self, text: str) -> str:
        """With a name only if one port alone has it."""
        names = self.addresses.get(text, [])
        return f"{text} ({names[0]})" if len(names) == 1 else text

    def vlan(self, number: str) -> str:
        names = self._networks_of(int(number)) if number.isdigit() else []
        return f"local VLAN {number}" + (f" ({', '.join(names)})" if names else "")

    def _networks_of(self, tag: int) -> list[str]:
        keys = (device[3:] for device, own in self.tags.items() if own == tag)
        subnets: Iterable[str] = (subnet for key in keys for subnet in self.subnets.get(key, ()))
        return sorted({self.networks[subnet] for subnet in subnets if subnet in self.networks})
