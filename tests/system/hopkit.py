"""A real Open vSwitch (userspace datapath) in a namespace of its own that holds the compiled rows of tests.hopcloud.

Every VM, and the outside behind br-ex, is one end of a veth pair with a packet socket; the test is the controller.
"""
from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import count

from flows import compile as compiler
from flows.fields import ARP, ARP_REPLY, ARP_REQUEST, IPV4
from flows.host import ANNOUNCEMENT_METER, Host, SimulatedRouter
from flows.qrouter import Outcome, Sent, State, bare, receive
from flows.routed_learned import neighbour
from flows.router import Leg, Router
from flows.routing import lending
from flows.routing.wireformat import BROADCAST_MAC, NO_MAC, Arp, Datagram, Frame, mac_bytes
from flows.text import line
from tests import hopcloud
from tests.private_ovs import PATIENCE, OpenFlow, PrivateOvs

_ETH_P_ALL, _CLONE_NEWNET = 0x0003, 0x40000000
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 8, 23
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata; the last two are TCI and TPID
_VLAN_VALID = 0x10
_NUMBERS = count()
OUTSIDE = "outside"
OUTSIDE_MAC = "02:00:cb:00:71:01"
_OFPT_PACKET_IN, _OFPT_SET_CONFIG, _OFPT_BARRIER_REQUEST, _OFPT_BARRIER_REPLY, _NXM_1 = 10, 9, 20, 21, 1


class HopOvs(PrivateOvs):
    """PrivateOvs with the userspace datapath and devices: its daemons live in a network namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self.namespace = namespace

    def __enter__(self) -> HopOvs:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.run("ip", "netns", "add", self.namespace)
        for kind in ("all", "default"):
            self.inside("sysctl", "-qw", f"net.ipv6.conf.{kind}.disable_ipv6=1")
        database = self.dir / "conf.db"
        self.run("ovsdb-tool", "create", str(database), "/usr/share/openvswitch/vswitch.ovsschema")
        self._daemon("ovsdb-server", f"--remote=punix:{self.dir}/db.sock", str(database))
        self.run("ovs-vsctl", "--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{self.dir}/db.sock")

    def __exit__(self, *why: object) -> None:
        super().__exit__(None, None, None)
        subprocess.run(("ip", "netns", "del", self.namespace), check=False, timeout=PATIENCE)

    def _daemon(self, name: str, *words: str) -> None:
        with (self.dir / f"{name}.out").open("wb") as out:
            subprocess.run(("ip", "netns", "exec", self.namespace, name, "--no-chdir", "--detach",
                            f"--pidfile={self.dir}/{name}.pid", f"--log-file={self.dir}/{name}.log", *words),
                           check=True, env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                           timeout=PATIENCE)

    def inside(self, *words: str) -> str:
        return self.run("ip", "netns", "exec", self.namespace, *words)

    def bridge(self, name: str) -> None:
        self.vsctl("add-br", name, "--", "set", "bridge", name, "fail-mode=secure", "datapath_type=netdev",
                   "protocols=OpenFlow10,OpenFlow14", "other-config:disable-in-band=true")

    def wire(self, bridge: str, name: str, ofport: int) -> socket.socket:
        """A veth pair: one end is a port of the bridge, at the other one is this socket."""
        self.inside("ip", "link", "add", f"p-{name}", "type", "veth", "peer", "name", f"h-{name}")
        for device in (f"p-{name}", f"h-{name}"):
            self.inside("ethtool", "-K", device, "tx", "off", "gro", "off")
            self.inside("ip", "link", "set", device, "mtu", "9000", "arp", "off", "up")
        self.vsctl("add-port", bridge, f"p-{name}", "--", "set", "interface", f"p-{name}", f"ofport_request={ofport}")
        return self._open(f"h-{name}")

    def _open(self, device: str) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
                opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
                opened.bind((device, _ETH_P_ALL))
            finally:
                libc.setns(home.fileno(), _CLONE_NEWNET)
        opened.setblocking(False)
        return opened


@dataclass(frozen=True)
class Asked:
    """What the controller is given: the frame, and the registers that came with it."""

    frame: bytes
    registers: Mapping[int, int]

    @property
    def datagram(self) -> Datagram:
        return Datagram.parse(Frame.parse(self.frame).payload)


@dataclass(frozen=True)
class Seen:
    """A frame that reached somebody; `vlan` is the tag that it wore."""

    where: str
    frame: Frame
    vlan: int | None

    @property
    def datagram(self) -> Datagram:
        return Datagram.parse(self.frame.payload)

    @property
    def ways(self) -> tuple[str, str]:
        """Its addresses, from and to."""
        return str(IPv4Address(self.datagram.src)), str(IPv4Address(self.datagram.dst))


class Hop:
    """The network host with its sockets."""

    def __init__(self, ovs: HopOvs, host: Host, sockets: Mapping[str, socket.socket], control: OpenFlow) -> None:
        self.ovs, self.host, self._sockets, self._control = ovs, host, sockets, control
        self._states: dict[int, State] = {}
        self._loans: dict[int, lending.Loans] = {}

    def mac(self, name: str) -> bytes:
        return mac_bytes(OUTSIDE_MAC if name == OUTSIDE else hopcloud.VMS[name].mac)

    def _leg(self, name: str, router: str = "r1") -> Leg:
        """The leg that somebody sends to; from outside, that of the router named."""
        for simulated in self.host.routers:
            for leg in simulated.router.legs:
                if name == OUTSIDE and simulated.router.name == router and leg == simulated.router.outside:
                    return leg
                if name != OUTSIDE and any(one.leg == leg.name and one.name == name for one in simulated.neighbours):
                    return leg
        raise KeyError(name)

    def gateway(self, name: str, router: str = "r1") -> bytes:
        """That leg's MAC."""
        return self._leg(name, router).hardware

    def address(self, name: str) -> str:
        return hopcloud.GATEWAY if name == OUTSIDE else hopcloud.VMS[name].address

    def send(self, name: str, datagram: Datagram, *, router: str = "r1") -> list[Seen]:
        """An IPv4 packet to somebody's router, and every IPv4 packet that anybody got because of it."""
        return self.raw(name, datagram.framed(self.mac(name), self.gateway(name, router)))

    def raw(self, name: str, frame: bytes) -> list[Seen]:
        """Any frame, and all that came of it, until the switch has done what came before a question sent after it."""
        self._sockets[name].send(frame)
        return self.settled(name)

    def put(self, name: str, frame: bytes) -> None:
        """Send, and look at nothing."""
        self._sockets[name].send(frame)

    def settled(self, name: str) -> list[Seen]:
        """All IPv4 that arrives anywhere until the switch has done all that it was given before.

        It works on what comes in together in any order, so only the answer to a second question, asked after the first
        was answered, comes after everything else.
        """
        found = [*self._question(name), *self._question(name), *self._poll(0)]
        return [one for one in found if one.frame.kind == IPV4]

    def _question(self, name: str) -> Iterator[Seen]:
        """What arrives until the leg answers ARP."""
        question = Arp(ARP_REQUEST, self.mac(name), int(IPv4Address(self.address(name))), NO_MAC,
                       int(self._leg(name).addresses[0].ip))
        self._sockets[name].send(question.framed(self.mac(name), BROADCAST_MAC))
        deadline = time.monotonic() + PATIENCE
        answered = False
        while not answered:
            assert time.monotonic() < deadline, f"the switch does not answer {name}"
            for seen in self._poll(0.1):
                answered |= seen.where == name and seen.frame.kind == ARP
                yield seen

    def _poll(self, seconds: float) -> Iterator[Seen]:
        names = {opened.fileno(): name for name, opened in self._sockets.items()}
        for number in select.select(list(names), [], [], seconds)[0]:
            with suppress(BlockingIOError):
                while True:
                    yield _read(names[number], self._sockets[names[number]])

    def arp(self, name: str, target: str, *, to: bytes = BROADCAST_MAC, sender: str | None = None) -> list[Seen]:
        """Who has `target`? Everything that anybody got of ARP because of that."""
        own = int(IPv4Address(sender or self.address(name)))
        self._sockets[name].send(Arp(ARP_REQUEST, self.mac(name), own, NO_MAC, int(IPv4Address(target)))
                                 .framed(self.mac(name), to))
        # A packet to the router itself comes after it and goes to the controller.
        self._sockets[name].send(Datagram(int(IPv4Address(self.address(name))), 1 << 24, 254, b"barrier", ttl=1)
                                 .framed(self.mac(name), self.gateway(name)))
        found: list[Seen] = []
        assert self.asked()[-1].datagram.payload == b"barrier"
        found += self._poll(0)
        return found

    def asked(self) -> list[Asked]:
        """What the controller gets, at least one; and all that came with it."""
        found = [self._packet_in()]
        while select.select([self._control._sock], [], [], 0)[0] or self._control._buffer:
            found.append(self._packet_in())
        return found

    def asked_until(self, source: str) -> list[Asked]:
        """What the controller gets until it is asked about a packet of this sender."""
        found = [self._packet_in()]
        while found[-1].datagram.src != int(IPv4Address(source)):
            found.append(self._packet_in())
        return found

    def _packet_in(self) -> Asked:
        while True:
            kind, _, body = self._control.message()
            if kind == _OFPT_PACKET_IN:
                return _asked(body)

    def hits(self, table: int, words: str) -> int:
        """How many packets the rows of a table have taken whose text holds these words."""
        text = self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "br-int", f"table={table}")
        return sum(int(row.split("n_packets=")[1].split(",")[0]) for row in text.splitlines() if words in row)

    def tracked(self, simulated: SimulatedRouter) -> list[str]:
        """What connection tracking remembers for a router, one line for each conversation, sorted."""
        found = [self.ovs.run("ovs-appctl", "dpctl/dump-conntrack", f"zone={zone}").splitlines()
                 for zone in (simulated.zone, simulated.hairpin_zone)]
        return sorted(one.partition(",protoinfo")[0] for lines in found for one in lines if one)

    def say(self, message: bytes) -> None:
        """Send an OpenFlow message, and wait until the switch has done what it says."""
        self._control.send(message + struct.pack("!BBHI", 5, _OFPT_BARRIER_REQUEST, 8, 0))
        while (kind := self._control.message()[0]) != _OFPT_BARRIER_REPLY:
            assert kind == _OFPT_PACKET_IN, f"the switch answers with a message of type {kind}"

    def unlearn(self, words: str) -> None:
        """Delete a row, and wait until nothing that is cached follows it."""
        self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--strict", "del-flows", "br-int", words)
        self.ovs.run("ovs-appctl", "revalidator/wait")

    def packet_out(self, frame: bytes, actions: str) -> None:
        self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "packet-out", "br-int",
                     f"in_port=CONTROLLER packet={frame.hex()} actions={actions}")

    def serve(self) -> list[Outcome]:
        """Be the controller for all that it was asked: the simulated hop without translation, and packets back."""
        outcomes = []
        for asked in self.asked():
            simulated = next(one for one in self.host.routers if one.number == asked.registers[0])
            numbers = next(one for one in simulated.legs if one.number == asked.registers[1])
            outcome = self._handle(simulated, numbers.name, asked)
            for sent in outcome.sent:
                self.out(simulated, asked, sent)
            outcomes.append(outcome)
        return outcomes

    def _handle(self, simulated: SimulatedRouter, leg: str, asked: Asked) -> Outcome:
        number, router, now = simulated.number, self._bare(simulated), time.monotonic()
        mark, loans = asked.registers.get(5, 0), self._loans.get(simulated.number, lending.Loans())
        if mark == lending.MARK:
            outcome, self._loans[number] = lending.lend(router, loans, asked.frame, now)
            return outcome
        data, self._loans[number] = lending.returned(router, loans, leg, asked.frame, now)
        outcome, self._states[number] = receive(router, self._states.get(number, State()), leg, data, now, mark=mark)
        return outcome

    @staticmethod
    def _bare(simulated: SimulatedRouter) -> Router:
        known = [(one.leg, one.address, one.mac) for one in simulated.neighbours if one.fixed]
        outside = simulated.router.outside
        if outside:
            known.append((outside.name, IPv4Address(hopcloud.GATEWAY), OUTSIDE_MAC))
        return bare(replace(simulated.router, known=tuple(known)))

    def out(self, simulated: SimulatedRouter, asked: Asked, sent: Sent) -> None:
        """A packet of the controller: its own, or one that it passes on."""
        leg = next(one.number for one in simulated.legs if one.name == sent.leg)
        if Frame.parse(sent.frame).kind == ARP or sent.mark == lending.MARK:
            self.packet_out(sent.frame, f"set_field:{leg}->reg2,resubmit(,48)")
            return
        mark = sent.mark if sent.forwarded or not sent.mark else sent.mark | 8
        self.packet_out(sent.frame, f"set_field:{simulated.number}->reg0,set_field:{asked.registers[1]}->reg1,"
                                    f"set_field:{leg}->reg2,set_field:{mark}->reg5,resubmit(,46)")


def _read(name: str, opened: socket.socket) -> Seen:
    data, ancillary, _, _ = opened.recvmsg(65536, 256)
    vlan = None
    for level, kind, payload in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
            status, *_, tci, _ = _AUXDATA.unpack(payload[:_AUXDATA.size])
            vlan = tci & 0xFFF if status & _VLAN_VALID else None
    return Seen(name, Frame.parse(data), vlan)


def _asked(body: bytes) -> Asked:
    """OpenFlow 1.4, 7.4.1: buffer, length, reason, table, cookie, match, two bytes of padding, frame."""
    length = struct.unpack_from("!H", body, 18)[0]
    registers, place = {}, 20
    while place < 16 + length:
        kind, field, size = struct.unpack_from("!HBB", body, place)
        if kind == _NXM_1 and field >> 1 < 16:
            registers[field >> 1] = int.from_bytes(body[place + 4:place + 8], "big")
        place += 4 + size
    return Asked(body[16 + (length + 7) // 8 * 8 + 2:], registers)


def _lines(host: Host) -> Iterator[tuple[str, list[str]]]:
    for bridge, flows in compiler.compile_host(host).items():
        if bridge != "br-tun":
            yield bridge, [line(one) for one in flows]


@contextmanager
def hop(*, snat: bool = True, flat: bool = True, meters: Iterable[int] = (1000, 1000, 1000)) -> Iterator[Hop]:
    """The whole thing; `meters` are packets a second of hopcloud.METERS."""
    host = hopcloud.host(snat=snat, flat=flat)
    with HopOvs(f"tbhop{os.getpid()}x{next(_NUMBERS)}") as ovs, ExitStack() as stack:
        for bridge in ("br-int", "br-ex"):
            ovs.bridge(bridge)
        for bridge, name, peer, ofport in (("br-int", "int-br-ex", "phy-br-ex", hopcloud.INT_EX),
                                           ("br-ex", "phy-br-ex", "int-br-ex", hopcloud.PHY_EX)):
            ovs.vsctl("add-port", bridge, name, "--", "set", "interface", name, "type=patch",
                      f"options:peer={peer}", f"ofport_request={ofport}")
        sockets = {name: ovs.wire("br-int", name, vm.port) for name, vm in hopcloud.VMS.items()}
        sockets[OUTSIDE] = ovs.wire("br-ex", OUTSIDE, hopcloud.UPLINK)
        for opened in sockets.values():
            stack.callback(opened.close)
        for number, rate in (*zip(hopcloud.METERS, meters, strict=True), (ANNOUNCEMENT_METER, 100)):
            ovs.run("ovs-ofctl", "-O", "OpenFlow14", "add-meter", "br-int",
                    f"meter={number} pktps burst stats bands=type=drop rate={rate} burst_size={rate}")
        for bridge, lines in _lines(host):
            ovs.add_flows(bridge, lines)
        control = stack.enter_context(ovs.openflow("br-int"))
        control.send(struct.pack("!BBHIHH", 5, _OFPT_SET_CONFIG, 12, 1, 0, 0xFFFF))
        made = Hop(ovs, host, sockets, control)
        yield made


def learn(hop_: Hop, *, router: str = "r1", address: str = hopcloud.GATEWAY, mac: str = OUTSIDE_MAC,
          leg: str | None = None) -> None:
    """The next hop has answered ARP: its row is there."""
    simulated = next(one for one in hop_.host.routers if one.router.name == router)
    found = simulated.router.by_name[leg] if leg else simulated.router.outside
    assert found
    numbers = simulated.legs[simulated.router.legs.index(found)]
    hop_.ovs.add_flows("br-int", [line(neighbour(numbers, found, int(IPv4Address(address)), mac))])
    hop_.ovs.run("ovs-appctl", "revalidator/wait")


__all__ = ["ARP_REPLY", "OUTSIDE", "Asked", "Hop", "Seen", "hop", "learn"]
