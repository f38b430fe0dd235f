"""NAT sessions of routers: what connection tracking says, Open vSwitch's or Linux's, as plain JSON values.

A session: {"protocol", "source", "destination": what its first packet shows; "shown_as", "leads_to": the same after
translation, None where it is not translated; "state": of a TCP connection, else ""}. Ends are `address` or
`address:port`.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

Json = dict[str, Any]

# ovs-appctl dpctl/dump-conntrack: tcp,orig=(src=..,dst=..,sport=..,dport=..),reply=(..),zone=..,protoinfo=(state=..)
_OVS: Final = re.compile(r"(?P<protocol>\w+),orig=\((?P<orig>[^)]*)\),reply=\((?P<reply>[^)]*)\)"
                         r"(?:.*protoinfo=\(state=(?P<state>\w+))?")
# conntrack -L: tcp 6 116 TIME_WAIT src=.. dst=.. sport=.. dport=.. src=.. dst=.. sport=.. dport=.. [ASSURED] mark=0
# /proc/net/nf_conntrack: the same, after `ipv4 2`.
_LINUX: Final = re.compile(r"(?:ipv4\s+2\s+)?(?P<protocol>\w+)\s+\d+\s+\d+\s+(?:(?P<state>[A-Z_0-9]+)\s+)?"
                           r"(?P<orig>src=.*?)(?P<reply>src=.*)")
_PAIR: Final = re.compile(r"(\w+)=([\w.:]+)")


def of_ovs(text: str) -> list[Json]:
    """What `ovs-appctl dpctl/dump-conntrack` printed."""
    return list(_sessions(_OVS.match(line.strip()) for line in text.splitlines()))


def of_linux(text: str) -> list[Json]:
    """What `conntrack -L` printed, or what /proc/net/nf_conntrack says."""
    return list(_sessions(_LINUX.match(line.strip()) for line in text.splitlines()))


def _sessions(found: Iterable[re.Match[str] | None]) -> Iterator[Json]:
    for line in found:
        if line:
            first, answer = (dict(_PAIR.findall(line[key])) for key in ("orig", "reply"))
            yield _session(line["protocol"], first, answer, line["state"] or "")


def _session(protocol: str, first: dict[str, str], answer: dict[str, str], state: str) -> Json:
    source, destination = _end(first, "src", "sport"), _end(first, "dst", "dport")
    shown_as, leads_to = _end(answer, "dst", "dport"), _end(answer, "src", "sport")
    return {"protocol": protocol, "source": source, "destination": destination,
            "shown_as": None if shown_as == source else shown_as,
            "leads_to": None if leads_to == destination else leads_to, "state": state}


def _end(words: dict[str, str], address: str, port: str) -> str:
    number = words.get(port, words.get("id"))  # of ICMP: the identifier, which NAT may change as it does a port
    return words.get(address, "") if number is None else f"{words.get(address, '')}:{number}"


def line(session: Json) -> str:
    """For a person: `tcp 10.0.1.13:47456 > 198.51.100.9:80, shown as 203.0.113.10:47456`."""
    words = [f"{session['protocol']} {session['source']} > {session['destination']}"]
    words += [f"shown as {session['shown_as']}"] if session["shown_as"] else []
    words += [f"leads to {session['leads_to']}"] if session["leads_to"] else []
    return ", ".join(words) + (f"  {session['state']}" if session["state"] else "")
