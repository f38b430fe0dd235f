"""Names for the numbers in flows of one bridge: whose port, MAC and address it is, which network a VLAN is.

Flows say numbers, as switches do; people think of VMs and networks. What two have alike is named only where the flow's
own network tells which of them is meant.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.model import names
from controller.model.placement import Seen
from controller.model.topology import DhcpPort, Port, RouterPort, Topology
from controller.model.wording import WORD
from flows.fields import VLAN_PRESENT
from flows.tables import BR_INT, BR_TUN

Speaker = Port | RouterPort | DhcpPort


@dataclass(frozen=True)
class Named:
    """What the words of a flow mean: `in_port=5` -> web1, `dl_vlan=1` -> blue."""

    ports: dict[str, str] = field(default_factory=dict)  # words of a port, a MAC, an address -> who
    networks: dict[str, str] = field(default_factory=dict)  # words of a VLAN, a tunnel id -> which network


class Directory:
    """Who has which MAC and address, network by network; found when it is first asked for."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._of: dict[str, dict[str, str]] = {}
        self._tunnels = {network.tunnel_id: name for name, network in topology.networks.items()
                         if network.tunnel_id is not None}

    def who(self, network: str, word: str) -> str:
        """Who wears a MAC or has an address on a network; empty if nobody, or more than one."""
        if network not in self._of:
            self._of[network] = dict(self._entries(network))
        return self._of[network].get(word, "")

    def network_of(self, tunnel_id: int) -> str:
        """Empty if no network has this tunnel id."""
        return self._tunnels.get(tunnel_id, "")

    def _entries(self, network: str) -> Iterator[tuple[str, str]]:
        topology = self.topology
        yield from ((str(one.address), f"the floating IP of {one.vm}") for one in topology.floating_ips
                    if one.outside == network)
        for leg in topology.legs_by_network.get(network, ()):
            yield from ((leg.mac, leg.name), (str(leg.ip), leg.name))
        if server := topology.dhcp_by_network.get(network):
            yield server.mac, server.name
            yield from ((str(address), server.name) for _, address in server.addresses)
        for port in topology.ports_by_network.get(network, ()):
            yield from ((port.mac, port.name), (str(port.ip), port.name))


class Naming:
    """Of one bridge, with the numbers that it has."""

    def __init__(self, directory: Directory, seen: Seen, host: str, bridge: str) -> None:
        self._directory, self._bridge = directory, bridge
        topology = directory.topology
        speakers: list[Speaker] = [*topology.ports_by_host.get(host, ()), *topology.legs_by_host.get(host, ()),
                                   *topology.dhcp_by_host.get(host, ())]
        self._plugged: dict[str, Speaker] = {one.device: one for one in speakers} if bridge == BR_INT else {}
        self._devices = {number: device for device, number in seen.ports.get(bridge, {}).items()}
        self._vlans = {vlan: name for name, vlan in seen.vlans.items() if name in topology.networks}
        self._leads_to = {names.PATCH_TUN: BR_TUN, names.PATCH_INT: BR_INT,
                          **{device: f"the tunnel to {far}" for device, far in topology.whereabouts.tunnel_to.items()}}
        for provider in topology.hosts[host].bridge_mappings.values():
            self._leads_to |= {names.int_device(provider): provider, names.phy_device(provider): BR_INT}

    def of(self, text: str) -> Named:
        """What the words of a match or of actions mean, as far as it is known."""
        found, home, open_words = Named(), "", []
        for word in WORD.finditer(text):
            if word["port"]:
                device = self._devices.get(int(word["ofport"] or word["reg"] or word["set_reg"], 0), "")
                speaker = self._plugged.get(device)
                home = home or (speaker.network if speaker else "")
                self._put(found.ports, word[0], speaker.name if speaker else self._leads_to.get(device, device))
            elif word["mac"] or word["address"]:
                open_words.append(word[0])
            else:
                network = self._network(word)
                home = home or network
                self._put(found.networks, word[0], network)
        for plain in open_words if home else ():
            self._put(found.ports, plain, self._directory.who(home, plain))
        return found

    def _network(self, word: re.Match[str]) -> str:
        if word["tunnel"]:
            return self._directory.network_of(int(word["tun"] or word["set_tun"], 16))
        if self._bridge not in (BR_INT, BR_TUN):  # there, a VLAN may be the physical network's
            return ""
        return self._vlans.get(int(word["tag"]) if word["tag"] else int(word["tci"]) & ~VLAN_PRESENT, "")

    @staticmethod
    def _put(found: dict[str, str], word: str, name: str) -> None:
        if name:
            found[word] = name
