"""`trace --dump` and Open vSwitch: what Neutron's bridge classes installed is put into a real switch, and random
packets go the same way in it as through the dump on paper: the same rows, the same outputs, the same packet in the end.
"""
from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from controller.tools import dumptrace
from controller.tools.dumptrace import Answer
from controller.tools.dumptrace_rows import Entry
from controller.tools.dumptrace_site import Site
from controller.tools.dumptrace_telling import shown
from controller.tools.dumptrace_walk import BACK, OUT, UNKNOWN
from controller.tools.labels import Labels
from controller.tools.ofctl import read
from controller.tools.ours import Ours
from tests.ovstrace import traced
from tests.private_ovs import Control, PrivateOvs

pytestmark = [pytest.mark.system, pytest.mark.shared]

GOLDEN = Path(__file__).parents[1] / "golden" / "neutron"
BRIDGES = ("br-int", "br-tun", "br-ex")
CASES = ("plain", "l2population", "dvr", "openvswitch", "direct", "extensions")
PACKETS = 60  # for each case and version of OpenFlow, or as many as half of the rows
PATCH = "1"  # the port between br-int and br-tun, on both
WHOSE = ("in_port", "dl_src", "nw_src", "ipv6_src", "arp_spa", "dl_vlan", "dl_dst")  # who sends what to whom
LEARNED = 3  # as many learned rows of each are looked at
AT_MOST = 6  # as often as one packet may be tracked
STATES = ("new", "new", "est", "est", "est|rpl", "new|rel", "inv")
COMPARED = ("dl_src", "dl_dst", "nw_src", "nw_dst", "tun_id", "tp_src", "tp_dst", "arp_op", "arp_spa", "arp_tpa",
            "arp_sha", "arp_tha", *(f"reg{number}" for number in range(8)))
APART = 1 << 16  # between the cookies, and the ports, of two bridges
_COUNTS = re.compile(r"\b(?:cookie|duration|n_packets|n_bytes|idle_age|hard_age)=[^,\s]+,? ?")


@cache
def labels() -> Labels:
    found = Labels()
    for path in (*sorted(GOLDEN.glob("ov*-show*.txt")), GOLDEN / "openstack-port-list.json"):
        found.read(path.read_text(), path.name)
    found.devices["br-ex", "2"], found.homes["tap-metadata"] = "tap-metadata", "br-ex"  # one dump speaks of it
    return found


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    """With the bridges and ports of the dumps."""
    names = labels()
    with PrivateOvs() as running:
        for bridge in BRIDGES:
            ports = {device: int(number) for (home, number), device in names.devices.items()
                     if home == bridge and number != "LOCAL"}
            running.add_bridge(bridge, {name: number for name, number in ports.items() if name not in names.peers})
            for name in ports.keys() & names.peers.keys():
                running.vsctl("add-port", bridge, name, "--", "set", "interface", name, "type=patch",
                              f"options:peer={names.peers[name]}", f"ofport_request={ports[name]}")
            for name in ports.keys() & names.tags.keys():
                running.vsctl("set", "port", name, f"tag={names.tags[name]}")
        for meter in (1, 2):
            running.run("ovs-ofctl", "-O", "OpenFlow14", "add-meter", "br-int",
                        f"meter={meter},pktps,band=type=drop,rate=9")
        yield running


def install(ovs: PrivateOvs, bridge: str, path: Path) -> None:
    """A dump's flows; each gets its line for a cookie."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if "actions=" in line:
            head, _, actions = line.partition("actions=")
            match = _COUNTS.sub("", head).replace("reset_counts ", "").strip()
            rows.append(f"cookie={BRIDGES.index(bridge) * APART + number:#x},{match} actions={actions}")
    version = "OpenFlow14" if path.stem.endswith("-of13") else "OpenFlow10"  # of a tagged frame mod_vlan_vid differs
    file = ovs.dir / "dump"
    file.write_text("\n".join(rows))
    ovs.run("ovs-ofctl", "-O", version, "del-flows", bridge)
    ovs.run("ovs-ofctl", "-O", version, "add-flows", bridge, str(file))


# ---- packets

@dataclass
class Traffic:
    """Packets made of the values that the rows speak of: those of one row together, the rest of any."""

    random: random.Random
    rows: list[tuple[str, Entry, dict[str, str]]]
    values: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {"nw_src": ["203.0.113.9"], "nw_dst": ["10.0.1.11", "203.0.113.9"], "tp_src": ["40000"],
                       "dl_src": ["fa:16:3e:ff:ff:ff"], "dl_dst": ["fa:16:3e:ff:ff:ff", "ff:ff:ff:ff:ff:ff"],
                       "tp_dst": ["81"], "arp_sha": ["fa:16:3e:00:00:11"], "arp_tha": ["00:00:00:00:00:00"]}
        for _, _, match in self.rows:
            for name, text in match.items():
                if "/" not in text and text not in self.values.setdefault(name, []):
                    self.values[name].append(text)
        self.values["dl_src"] += self.values["dl_dst"][:-1]
        self.values["nw_src"] += self.values["nw_dst"]

    def packet(self) -> tuple[str, str, str]:
        """Bridge, port and words."""
        bridge, _, match = self.random.choice(self.rows)
        match = {**match, **self._whose(bridge)} if self.random.random() < 0.7 else match
        ports = [number for (home, number), _ in labels().devices.items() if home == bridge and number != "LOCAL"]
        port = match.get("in_port") or self._receiver(bridge, match) or self.random.choice(ports)
        kind = match.get("kind") or self.random.choice(("icmp", "tcp", "tcp", "udp", "arp", "icmp6", "udp6"))
        words = [{"ip": "tcp", "ipv6": "tcp6"}.get(kind, kind) if "nw_proto" not in match else kind]
        words += self._some(match, ("dl_src", "dl_dst"))
        if words[0] in ("arp", "rarp"):
            words += self._some(match, ("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"))
        elif "6" in words[0]:
            words += self._some(match, ("ipv6_src", "ipv6_dst"))
        else:
            words += self._some(match, ("nw_src", "nw_dst"))
        if words[0][:3] in ("tcp", "udp", "sct"):
            layer = words[0].removesuffix("6")  # of an exact flow ovs-appctl wants to know it
            words += [word.replace("tp_", f"{layer}_") for word in self._some(match, ("tp_src", "tp_dst"))]
        if words[0].startswith("icmp"):
            (told,) = self._some(match, ("icmp_type",))
            words.append(told.replace("icmp_", "icmpv6_") if kind == "icmp6" else told)
            words += self._some(match, ("nd_target",)) if words[-1] in ("icmpv6_type=135", "icmpv6_type=136") else []
        words += [f"nw_proto={match['nw_proto']}"] if "nw_proto" in match else []
        return bridge, port, ",".join([*words, *self._around(bridge, port, match)])

    def _receiver(self, bridge: str, match: dict[str, str]) -> str:
        """The port that a row of the firewall is about."""
        return match.get("reg5", "") if bridge == "br-int" and self.random.random() < 0.8 else ""

    def _whose(self, bridge: str) -> dict[str, str]:
        """What a row says that is about one sender, or one receiver: then it comes from another host."""
        rows = [match for home, _, match in self.rows if home == bridge and match.keys() & {"dl_src", "dl_dst"}
                and match.keys() & {"in_port", "dl_vlan"}]
        row = self.random.choice(rows) if rows else {}
        found = {name: text for name, text in row.items() if name in WHOSE}
        return {"in_port": PATCH, **found} if "dl_dst" in found else found

    def _around(self, bridge: str, port: str, match: dict[str, str]) -> list[str]:
        device = labels().devices[bridge, port]
        if device.startswith("vxlan"):
            return self._some(match, ("tun_id",))
        if device in labels().tags:
            return []
        vlan = match.get("dl_vlan", self.random.choice(self.values["dl_vlan"]))
        return [f"dl_vlan={vlan}"] if vlan.isdigit() else []

    def _some(self, match: dict[str, str], names: tuple[str, ...]) -> list[str]:
        chosen = {name: match.get(name, "/") for name in names}
        return [f"{name}={self.random.choice(self.values[name]) if '/' in value else value}"
                for name, value in chosen.items() if name in self.values or "/" not in value]


# ---- both, side by side

def answer(site: Site, bridge: str, port: str, words: str) -> Answer:
    return dumptrace.answer(site, dumptrace.asked(words, bridge, int(port)))


def numbers(control: Control) -> dict[int, int]:
    """Port of the datapath -> bridge and OpenFlow port."""
    found = {}
    text = control.ask("dpif/show") + "\n"
    for place, bridge in enumerate(BRIDGES):
        (part,) = re.findall(rf"^  {bridge}:\n((?:    .*\n)*)", text, re.MULTILINE)
        found |= {int(datapath): place * APART + int(port) for port, datapath in re.findall(r" (\d+)/(\d+): ", part)}
    return found


def compare(ours: Answer, text: str, vlan: int | None, ports: dict[int, int]) -> None:
    """Rows, outputs and the final packet."""
    said, walk = traced(text, vlan, ports), ours.walk
    hits = [(hop.table, hop.found.entry.priority, cookie(hop.bridge, hop.found.entry)) for hop in walk.hops
            if hop.found.entry]
    theirs = [hit for hit in said.hits if hit[2]]  # a table without a flow for it has one of the switch's own
    outputs = []
    for end in walk.ends:
        if end.kind in (OUT, BACK):
            wears = shown(end.packet).get("dl_vlan", "none")
            outputs.append((BRIDGES.index(end.bridge) * APART + end.port, int(wears) if wears.isdigit() else None))
    if any("NORMAL" in hop.found.entry.line.text for hop in walk.hops if hop.found.entry):
        assert Counter(hits) == Counter(theirs)  # it goes through its ports in no order
        assert sorted(outputs, key=str) == sorted(said.outputs, key=str)
    else:
        assert hits == theirs
        assert outputs == said.outputs
    assert said.asked == sum(end.kind == dumptrace.CONTROLLER for end in walk.ends)
    final = shown(walk.final)
    for name, value in (said.final or {}).items():
        if name in COMPARED:
            assert number(final.get(name, "0")) == number(value), name


def cookie(bridge: str, row: Entry) -> int:
    return BRIDGES.index(bridge) * APART + row.line.number


def number(text: str) -> int | str:
    if text in ("0.0.0.0", "00:00:00:00:00:00"):
        return 0
    return int(text, 0) if re.fullmatch(r"\d+|0x[0-9a-f]+", text) else text


@pytest.mark.parametrize("version", ["", "-of13"])
@pytest.mark.parametrize("case", CASES)
def test_packets_go_through_neutrons_flows_as_in_open_vswitch(ovs: PrivateOvs, case: str, version: str,
                                                              seed: int) -> None:
    paths = {bridge: GOLDEN / f"{case}-{bridge}{version}.txt" for bridge in BRIDGES}
    site = Site(labels(), Ours(None, "", labels()))
    for bridge, path in paths.items():
        install(ovs, bridge, path)
        site.read(path.read_text(), bridge, path.name)
    rows = [(bridge, row, dict(row.line.row.match)) for bridge in BRIDGES for row in site.boards[bridge].entries()
            if row.line.row]
    source = Traffic(random.Random(f"{seed} {case} {version}"), rows)
    packets, learned, compared, met = max(PACKETS, len(rows) // 2), 0, 0, set()
    with ovs.control() as control:
        ports = numbers(control)
        for _ in range(packets):
            bridge, port, words = source.packet()
            state = source.random.choice(STATES)
            ours = answer(site, bridge, port, f"{words},ct_state={state}")
            if any(hop.found.doubt or hop.found.tie for hop in ours.walk.hops):
                continue  # two rows of the same priority: any of them
            teaches = next((hop for hop in ours.walk.hops if hop.learned), None)
            if teaches and learned >= LEARNED:
                continue  # what it has learned must be taken away again, which takes time
            told = [word for _ in range(AT_MOST) for word in ("--ct-next", f"trk,{state.replace('|', ',')}")]
            text = control.ask("ofproto/trace", bridge, f"{words},in_port={port}", "-generate", *told)
            control.ask("fdb/flush")
            vlan = re.search(r"dl_vlan=(\d+)", words)
            try:
                compare(ours, text, int(vlan[1]) if vlan else None, ports)
                if teaches:
                    learned += 1
                    taught(ovs, teaches.bridge, teaches.learned)
                    install(ovs, teaches.bridge, paths[teaches.bridge])
            except AssertionError:
                print(f"{bridge} {port} {words} {state}\n{text}\n{ours.verdict}: {ours.reason}")
                raise
            compared += 1
            met |= {cookie(hop.bridge, hop.found.entry) for hop in ours.walk.hops if hop.found.entry}
            assert ours.verdict != UNKNOWN or ours.reason
    print(f"{case}{version}: {compared} packets hit {len(met)} of {len(rows)} rows; {learned} taught")
    assert compared > packets / 2
    assert len(met) > len(rows) / 5


def taught(ovs: PrivateOvs, bridge: str, rows: list[str]) -> None:
    """The switch has learned what we say."""
    lines = [line for line in ovs.dump(bridge) if int(line.split("cookie=")[1].split(",")[0], 16) >= 3 * APART]
    have = [read(line) for line in lines]
    for row in map(read, rows):
        assert (row.table, row.priority, row.match, row.hard_timeout) in [
            (one.table, one.priority, one.match, one.hard_timeout) for one in have], (rows, lines)
        assert row.actions in [one.actions for one in have], (rows, lines)
