"""A simulated router's rows by hand: every table of the hop, every action, before and beside what is compiled.

Router 7 has the legs 1 (10.0.1.1 on VLAN 1), 2 (10.0.2.1 on VLAN 2) and 3 (203.0.113.10, outside, on VLAN 3); the
floating IP 203.0.113.50 belongs to 10.0.1.11.
"""
from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from flows import fields as f
from flows import tables as t
from flows.fields import ct_state, tagged
from flows.flow import (
    ANY,
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    DecTtl,
    Flow,
    Goto,
    Match,
    Metered,
    Move,
    Output,
    PopVlan,
    PushVlan,
    SetField,
    Track,
    Translation,
    flow,
    when,
)

ROUTER, ZONE, HAIRPIN = 7, 0x8000, 0x8001
LEG_MACS: Final = ("fa:16:3e:0f:00:01", "fa:16:3e:0f:00:02", "fa:16:3e:0f:00:03")
LEG_ADDRESSES: Final = ("10.0.1.1", "10.0.2.1", "203.0.113.10")
FLOATING, FIXED, OUTSIDE = "203.0.113.50", "10.0.1.11", "203.0.113.1"
VMS: Final = {  # address -> MAC, leg, port on br-int
    "10.0.1.11": ("fa:16:3e:00:01:11", 1, 11),
    "10.0.2.12": ("fa:16:3e:00:02:12", 2, 12),
    "203.0.113.1": ("fa:16:3e:00:03:01", 3, 13),
}
MTUS: Final = (1450, 1450, 1500)
METERS: Final = (5, 6)
_IP: Final = f.ETH_TYPE(f.IPV4)
_ARP: Final = f.ETH_TYPE(f.ARP)
_US: Final = f.REG_ROUTER(ROUTER)


def _row(table: t.Table, rank: str, match: Match, *actions: Action) -> Flow:
    return flow(table, rank, match, *actions, origin="routers.r1", why=f"test {rank}")


def _snat(address: str) -> Translation:
    return Translation("src", IPv4Address(address))


def rows() -> tuple[Flow, ...]:
    """All of br-int."""
    found = [*_entry(), *_in(), *_route(), *_out()]
    for address, (mac, leg, port) in VMS.items():
        found += [_row(t.CLASSIFY, "admit", when(f.IN_PORT(port), f.UNTAGGED), PushVlan(), SetField(tagged(leg)),
                       Goto(t.ROUTER)),
                  _row(t.NEXT_HOP, "known", when(_IP, f.REG_LEAVES_BY(leg), f.REG_NEXT_HOP(int(IPv4Address(address)))),
                       DecTtl(), SetField(f.ETH_SRC(LEG_MACS[leg - 1])), SetField(f.ETH_DST(mac)),
                       Goto(t.TRANSLATE_OUT)),
                  _row(t.DELIVER, "known", when(tagged(leg), f.ETH_DST(mac)), PopVlan(), Output(port))]
    found.append(_row(t.ASK, "sender", when(f.REG_CAME_BY(1), f.ETH_SRC(VMS[FIXED][0])), Metered(METERS[1]), Ask()))
    for table, onward in ((t.ROUTER, t.DELIVER), (t.TRANSLATE_IN, t.ROUTE), (t.TRANSLATED_IN, t.ROUTE),
                          (t.ROUTE, t.ASK), (t.NEXT_HOP, t.ASK), (t.TRANSLATE_OUT, t.LEAVE),
                          (t.TRANSLATED_OUT, t.LEAVE)):
        found.append(_row(table, "miss", ANY, Goto(onward)))
    return (*found, *(_row(table, "miss", ANY) for table in (t.CLASSIFY, t.LEAVE, t.ASK, t.DELIVER)))


def _entry() -> list[Flow]:
    found = []
    for number, (mac, address) in enumerate(zip(LEG_MACS, LEG_ADDRESSES, strict=True), 1):
        mine = tagged(number)
        found += [
            _row(t.ROUTER, "arp", when(mine, _ARP, f.ARP_OP(f.ARP_REQUEST), f.ARP_TPA(address)),
                 Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC(mac)), SetField(f.ARP_OP(f.ARP_REPLY)),
                 Move(f.ARP_SHA, f.ARP_THA), Move(f.ARP_SPA, f.ARP_TPA), SetField(f.ARP_SHA(mac)),
                 SetField(f.ARP_SPA(address)), AnyPort(), Goto(t.DELIVER)),
            _row(t.ROUTER, "conflict", when(mine, _ARP, f.ARP_SPA(address))),
            _row(t.ROUTER, "ip", when(mine, _IP, f.ETH_DST(mac)), PopVlan(), AnyPort(),
                 SetField(_US), SetField(f.REG_CAME_BY(number)), Goto(t.TRANSLATE_IN)),
            _row(t.ROUTER, "ip", when(mine, _ARP, f.ETH_DST(mac)), PopVlan(), AnyPort(),
                 SetField(_US), SetField(f.REG_CAME_BY(number)), Goto(t.ASK)),
            _row(t.ROUTER, "own", when(mine, f.ETH_DST(mac))),
            _row(t.ASK, "leg", when(f.REG_CAME_BY(number)), Metered(METERS[0]), Ask())]
    return found


def _in() -> list[Flow]:
    """Tables 41 and 42."""
    def mark(number: int) -> SetField:
        return SetField(f.REG_TRANSLATED(number))

    def found(number: int, state: str, *more: f.Criterion) -> Match:
        return when(_US, _IP, f.REG_TRANSLATED(number), ct_state(state), *more)

    translated = Track(ZONE, t.TRANSLATED_IN, nat=True)
    to_fixed = Track(ZONE, t.ROUTE, commit=True, translation=Translation("dst", IPv4Address(FIXED)))
    floating = f.IPV4_DST(FLOATING)
    result = [
        _row(t.TRANSLATE_IN, "martian", when(_IP, f.IPV4_SRC("127.0.0.0/8"))),
        _row(t.TRANSLATE_IN, "outside", when(_US, _IP, f.REG_CAME_BY(3)), mark(1), translated),
        *(_row(t.TRANSLATE_IN, "own", when(_US, _IP, f.IPV4_DST(address)), mark(5),
               Track(HAIRPIN, t.TRANSLATED_IN, nat=True)) for address in (FLOATING, LEG_ADDRESSES[2])),
        _row(t.TRANSLATED_IN, "invalid", when(_US, _IP, ct_state("+inv"))),
        _row(t.TRANSLATED_IN, "back", found(5, "+est+rpl"), mark(3), Goto(t.ROUTE)),
        _row(t.TRANSLATED_IN, "new", when(_US, _IP, f.REG_TRANSLATED(5)), mark(4), translated),
        _row(t.TRANSLATED_IN, "floating", found(4, "+new", floating), mark(2), to_fixed),
        _row(t.TRANSLATED_IN, "new", found(4, "+new"), mark(0), Goto(t.ROUTE)),
        _row(t.TRANSLATED_IN, "floating", found(1, "+new", floating), to_fixed)]
    for prefix in ("10.0.1.0/24", "10.0.2.0/24"):
        result.append(_row(t.TRANSLATED_IN, "new", found(1, "+new", f.IPV4_DST(prefix)),
                           Track(ZONE, t.ROUTE, commit=True)))
    return [*result, _row(t.TRANSLATED_IN, "new", found(4, "-new"), mark(2), Goto(t.ROUTE))]


def _route() -> list[Flow]:
    found = [_row(t.ROUTE, "own", when(_US, _IP, f.IPV4_DST(address)), Goto(t.ASK)) for address in LEG_ADDRESSES]
    found += [_row(t.ROUTE, "expired", when(_US, _IP, f.IP_TTL(ttl)), Goto(t.ASK)) for ttl in (0, 1)]
    for leg, prefix in enumerate(("10.0.1.0/24", "10.0.2.0/24", "203.0.113.0/24"), 1):
        found.append(_row(t.ROUTE, "prefix24", when(_US, _IP, f.IPV4_DST(prefix)), SetField(f.REG_LEAVES_BY(leg)),
                          Move(f.IPV4_DST, f.REG_NEXT_HOP), CheckLarger(MTUS[leg - 1] + 14, f.REG_TOO_LARGE),
                          Goto(t.NEXT_HOP)))
    return [*found,
            _row(t.ROUTE, "prefix0", when(_US, _IP), SetField(f.REG_LEAVES_BY(3)),
                 SetField(f.REG_NEXT_HOP(int(IPv4Address(OUTSIDE)))), CheckLarger(1514, f.REG_TOO_LARGE),
                 Goto(t.NEXT_HOP)),
            _row(t.NEXT_HOP, "large", when(f.REG_TOO_LARGE(1)), Goto(t.ASK))]


def _out() -> list[Flow]:
    """Tables 46 to 48."""
    def marked(mark: int, zone: int, onward: t.Table) -> Flow:
        return _row(t.TRANSLATE_OUT, "marked", when(_US, _IP, f.REG_TRANSLATED(mark)), Track(zone, onward, nat=True))

    def new(rank: str, zone: int, address: str, *more: f.Criterion) -> Flow:
        return _row(t.TRANSLATED_OUT, rank, when(_US, _IP, ct_state("+new"), *more),
                    Track(zone, t.LEAVE, commit=True, translation=_snat(address)))

    turned = f.REG_TRANSLATED(2)
    return [
        marked(2, HAIRPIN, t.TRANSLATED_OUT), marked(3, ZONE, t.LEAVE), marked(9, ZONE, t.LEAVE),
        marked(10, ZONE, t.LEAVE), marked(11, HAIRPIN, t.LEAVE),
        _row(t.TRANSLATE_OUT, "outside", when(_US, _IP, f.REG_LEAVES_BY(3)), Track(ZONE, t.TRANSLATED_OUT, nat=True)),
        _row(t.TRANSLATED_OUT, "invalid", when(_US, _IP, ct_state("+inv"))),
        new("floating", ZONE, FLOATING, f.REG_TRANSLATED(0), f.IPV4_SRC(FIXED)),
        new("floating", HAIRPIN, FLOATING, turned, f.IPV4_SRC(FIXED)),
        new("new", ZONE, LEG_ADDRESSES[2], f.REG_TRANSLATED(0)),
        new("new", HAIRPIN, LEG_ADDRESSES[2], turned),
        *(_row(t.LEAVE, "known", when(f.REG_LEAVES_BY(leg)), PushVlan(), SetField(tagged(leg)), Goto(t.DELIVER))
          for leg in (1, 2, 3))]
