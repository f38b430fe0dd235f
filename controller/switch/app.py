"""The OSKenApp: events of switches and requests of people in, bytes out. Nothing is decided here.

It is os-ken's own OFPHandler (hello, features, ports, echo), listening where we say and handing on to `fleet`.
"""
from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import eventlet
from os_ken.controller import ofp_event
from os_ken.controller.controller import Datapath
from os_ken.controller.handler import CONFIG_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER, set_ev_handler
from os_ken.controller.ofp_handler import OFPHandler
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import answers, outbox, sockets, wire
from controller.switch.alarm import Alarm
from controller.switch.aside import Aside
from controller.switch.control import Control
from controller.switch.events import (
    Claim,
    Command,
    Count,
    Drop,
    Inspect,
    Log,
    Mastery,
    Quit,
    ReadFlows,
    Settled,
    Watch,
    Write,
)
from controller.switch.fleet import Fleet
from controller.switch.found import Found
from controller.switch.inquiries import Inquiries
from controller.switch.line import Line, drop
from controller.switch.sending import Finished, Sending
from controller.switch.showing import Showing
from controller.switch.watching import Watching
from flows.host import Meter

LOG: Final = logging.getLogger("tunbridge")
_REQUEST_LIMIT: Final = 64 << 20  # bytes of one control request; a topology of 20,000 VMs has 3 MB
_NO_GENERATION: Final = 0xFFFFFFFFFFFFFFFF  # what a switch says that nobody has claimed a role of
_REQUEST_TIMEOUT: Final = 60.0  # seconds for each part of a request, and for each part of its answer


class App(OFPHandler):  # type: ignore[misc]  # os-ken has no types
    """One per daemon."""

    OFP_VERSIONS = (wire.VERSION,)

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.inquiries = Inquiries(self._say)
        showing = Showing(fleet, self.inquiries.dump, self.inquiries.tally)
        self.control = Control(fleet, self.obey, showing, self.inquiries.count)
        self.control.applying.aside = Aside()
        self._fleet = fleet
        self._lines: dict[Any, Line] = {}  # connection -> the way to it
        self._claims: dict[Any, int] = {}  # connection -> transaction id of the last claim of a role
        self._readings: dict[Any, object] = {}  # connection -> the latest reading of its flows
        self.alarm = Alarm(lambda: fleet.due, lambda now: self.obey(fleet.tick(now)))
        self._watching = Watching(fleet.healing, self.inquiries, self.obey, self.alarm.now)
        self.purge: Callable[[str], str | None] = lambda host: None  # see `caches`; None, or why it failed

    def start(self) -> None:
        """os-ken's own start would listen on every address; `listen` is ours."""

    # ---- connections

    def serve_switch(self, sock: Any, peer: str) -> None:
        """The whole life of a switch's connection."""
        sockets.widen(sock)
        plain = sockets.UnixSocket(sock) if sock.family == socket.AF_UNIX else sock
        with contextlib.closing(Datapath(plain, peer)) as datapath:
            line = self._lines[datapath] = Line(datapath, partial(self._write_over, datapath))
            sender = eventlet.spawn(sockets.guarded, f"sending failed peer={peer}", line.run)
            try:
                datapath.serve()
            except answers.Unreadable as error:
                LOG.warning("not OpenFlow peer=%s why=%s", peer, word(error))
            finally:
                sender.kill()
                del self._lines[datapath]
                self._claims.pop(datapath, None)
                self._readings.pop(datapath, None)
                self.inquiries.forget(datapath)
                self._watching.forget(datapath)
                self.obey(self._fleet.disconnected(datapath))

    def serve_person(self, sock: Any, _: str) -> None:
        """A request and its answer."""
        sock.settimeout(_REQUEST_TIMEOUT)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            stream = sock.makefile("rwb")
            answer = self.control.answer_line(stream.readline(_REQUEST_LIMIT))
            stream.write(json.dumps(answer).encode() + b"\n")
            stream.flush()

    # ---- commands out

    def obey(self, commands: Iterable[Command]) -> None:
        """Carry out what the fleet decided, in order."""
        for command in outbox.in_turns(commands):
            match command:
                case Log(level, event, about):
                    words = "".join(f" {key}={word(value)}" for key, value in about.items())
                    LOG.log(logging.getLevelNamesMapping()[level.upper()], "%s%s", event, words)
                case list():
                    if line := self._lines.get(command[0].conn):
                        self.control.lost_packets += line.say(command)
                case Drop(conn):
                    drop(conn)
                case Watch() | Count() | Inspect():
                    self._watching.do(command)
                case Quit(conn):
                    self._readings.pop(conn, None)
                    if line := self._lines.get(conn):
                        line.quit()
                case ReadFlows(conn) | Write(conn) | Claim(conn) | Settled(conn):
                    if line := self._lines.get(conn):
                        self._tell(line, command)
        self.alarm.look()

    def _tell(self, line: Line, command: ReadFlows | Write | Claim | Settled) -> None:
        match command:
            case Write(_, _, parts):
                line.write(parts)
            case Settled(conn):
                line.put(wire.barrier(wire.next_xid(conn)))
            case Claim(conn, generation):
                ask = generation is None
                message = wire.claim(conn, wire.NO_CHANGE if ask else wire.MASTER, generation or 0)
                self._claims[conn] = wire.next_xid(conn)
                message.set_xid(self._claims[conn])
                message.serialize()
                line.put(bytes(message.buf))
            case ReadFlows(conn, meters):
                line.overtake()
                reading = self._readings[conn] = object()
                self.inquiries.read(conn, meters, partial(self._flows_read, conn, reading),
                                    partial(self._foresee, conn, reading))

    def _foresee(self, conn: Any, reading: object, rows: Found) -> None:
        """Compute what the switch shall hold while it says what it holds."""
        def work() -> None:
            for _ in self._fleet.foresee(conn, rows):
                eventlet.sleep(0)
                if self._readings.get(conn) is not reading:
                    return

        eventlet.spawn(sockets.guarded, "foresight failed", work)

    def _flows_read(self, conn: Any, reading: object, rows: Found, meters: list[Meter]) -> None:
        """All has been read. What it says holds for packets, too, when nothing of before is cached."""
        settle = partial(self._settle, conn, lambda: self._readings.get(conn) is reading,
                         lambda: self._fleet.flows_read(conn, rows, meters))
        eventlet.spawn(sockets.guarded, "reading not settled", settle)

    def _write_over(self, conn: Any, sending: Sending, finished: Finished) -> None:
        """A write has ended. What it denies is denied when nothing of before is cached."""
        def told() -> list[Command]:
            return self._fleet.refused(conn, finished.reason) if finished.reason else self._fleet.committed(conn)

        def current() -> bool:
            return conn in self._lines and self._lines[conn].sending is sending

        eventlet.spawn(sockets.guarded, "write not settled", partial(self._settle, conn, current, told))

    def _settle(self, conn: Any, current: Callable[[], bool], told: Callable[[], list[Command]]) -> None:
        """Empty the switch's cache if that is due; go on, if nothing else has happened meanwhile."""
        line, host = self._lines.get(conn), self._fleet.host_of(conn)
        if line is not None and host is not None and line.unsettled:
            line.unsettled = line.failed  # a bundle that was on its way then may still come in
            if trouble := self.purge(host):
                line.unsettled = True
                LOG.warning("cache not emptied host=%s why=%s cure=%s", host, word(trouble),
                            word("ovs-appctl revalidator/purge there"))
        if current():
            self.obey(told())

    def _say(self, conn: Any, data: bytes) -> None:
        if line := self._lines.get(conn):
            line.put(data)

    # ---- events in

    @set_ev_handler(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def switch_features_handler(self, ev: Any) -> None:
        """It has said which switch it is; os-ken asks for its ports. What comes after these shall be told."""
        ev.msg.datapath.send(wire.tell_us(wire.next_xid(ev.msg.datapath)))
        super().switch_features_handler(ev)

    @set_ev_handler(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def multipart_reply_handler(self, ev: Any) -> None:
        """The last part of the port list ends os-ken's handshake: a switch has connected."""
        super().multipart_reply_handler(ev)
        datapath = ev.msg.datapath
        if datapath.state == MAIN_DISPATCHER:
            ports = {_name(port): number for number, port in datapath.ports.items() if not _idle(port)}
            self.obey(self._fleet.connected(datapath, datapath.id, ports))

    @set_ev_handler(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def port_status_handler(self, ev: Any) -> None:
        """A port came, went or changed."""
        super().port_status_handler(ev)
        gone = ev.msg.reason == ofp.OFPPR_DELETE or _idle(ev.msg.desc)
        change = {_name(ev.msg.desc): None if gone else ev.msg.desc.port_no}
        self.obey(self._fleet.ports_changed(ev.msg.datapath, change))

    @set_ev_handler(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def packet_in_handler(self, ev: Any) -> None:
        """A packet that a switch cannot route alone."""
        asked = answers.asked(ev.msg)
        if asked is not None:
            self.obey(self._fleet.asked(ev.msg.datapath, asked, self.alarm.now()))
        eventlet.sleep(0)  # os-ken reads on as long as there is something to read, and there may always be

    @set_ev_handler(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def flow_removed_handler(self, ev: Any) -> None:
        """A row of a learned neighbour is gone."""
        removed = answers.removed(ev.msg)
        if removed is not None:
            self.obey(self._fleet.removed(ev.msg.datapath, removed))

    @set_ev_handler([ofp_event.EventOFPFlowStatsReply,  # type: ignore[untyped-decorator]
                     ofp_event.EventOFPMeterConfigStatsReply, ofp_event.EventOFPAggregateStatsReply,
                     ofp_event.EventOFPTableStatsReply], MAIN_DISPATCHER)
    def part_handler(self, ev: Any) -> None:
        """Part of a dump."""
        self._fleet.heard(ev.msg.datapath)
        self.inquiries.answered(ev.msg)

    @set_ev_handler(ofp_event.EventOFPFlowMonitorReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def monitor_handler(self, ev: Any) -> None:
        """A flow monitor tells what others have done."""
        self._watching.told(ev.msg)

    @set_ev_handler(ofp_event.EventOFPBundleCtrlMsg, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def bundle_handler(self, ev: Any) -> None:
        """A bundle is closed, or in."""
        self._fleet.heard(ev.msg.datapath)
        line = self._lines[ev.msg.datapath]
        if ev.msg.type == ofp.OFPBCT_CLOSE_REPLY:
            line.closed(ev.msg.bundle_id)
        elif ev.msg.type == ofp.OFPBCT_COMMIT_REPLY:
            line.committed(ev.msg.bundle_id)

    @set_ev_handler([ofp_event.EventOFPRoleReply, ofp_event.EventOFPRoleStatus],  # type: ignore[untyped-decorator]
                    MAIN_DISPATCHER)
    def role_handler(self, ev: Any) -> None:
        """The answer to a claim, or another daemon's claim."""
        generation = None if ev.msg.generation_id == _NO_GENERATION else ev.msg.generation_id
        said = Mastery(ev.msg.role == wire.MASTER, generation)
        self.obey(self._fleet.role(ev.msg.datapath, said))

    @set_ev_handler(ofp_event.EventOFPErrorMsg,  # type: ignore[untyped-decorator]
                    [HANDSHAKE_DISPATCHER, CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def error_msg_handler(self, ev: Any) -> None:
        """A complaint: about a message of a write, about a claim, or about something else."""
        conn, code = ev.msg.datapath, getattr(ev.msg, "code", 0)  # an experimenter's error has no code
        reason = answers.error_words(ev.msg.type, code)
        if self._claims.get(conn) == ev.msg.xid:
            if (ev.msg.type, code) == (ofp.OFPET_ROLE_REQUEST_FAILED, ofp.OFPRRFC_STALE):
                self.obey(self._fleet.role(conn, Mastery(False, stale=True)))
            else:
                LOG.info("no roles there peer=%s why=%s", conn.address, word(reason))
        elif self._watching.refused(conn, ev.msg.xid):
            self.inquiries.refused(conn, ev.msg.xid, reason)
        elif self.inquiries.refused(conn, ev.msg.xid, reason) or not self._lines[conn].complained(ev.msg.xid, reason):
            self.obey(self._fleet.complained(conn, reason))

    def _hello_failed(self, datapath: Any, error_desc: str) -> None:
        """As os-ken's, but a stranger's version is no error of ours."""
        LOG.warning("wrong version peer=%s cure=%s", datapath.address,
                    word("ovs-vsctl set bridge BRIDGE protocols=OpenFlow14"))
        refusal = parser.OFPErrorMsg(datapath, ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE,
                                     data=error_desc.encode())
        datapath.send_msg(refusal, close_socket=True)

    def close(self) -> None:
        """End all connections; the switches keep their flows."""
        for connection in list(self._lines):
            connection.close()


def _name(port: Any) -> str:
    """A port's name; OpenFlow cuts it to 15 bytes, be that in the middle of a character."""
    return str(port.name.decode(errors="replace"))


def _idle(port: Any) -> bool:
    """Whether it is a bridge's own interface that nobody uses."""
    return bool(port.port_no == ofp.OFPP_LOCAL and port.config & ofp.OFPPC_PORT_DOWN)


def word(value: object) -> str:
    """A value as one word of a line of the log."""
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
