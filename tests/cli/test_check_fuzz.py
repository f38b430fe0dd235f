"""Whatever a file holds, reading it gives a topology or says where it is wrong, and never a traceback.

The run's seed is in its first line; TUNBRIDGE_SEED=<number> repeats it.
"""
from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from controller.model import reading, source
from controller.model.problems import CODES, ERROR, render, to_json

MUTANTS = 5_000
ROUNDS = 10  # of one test each, so that a failure names a part

BASE = """\
cloud: fuzz
underlay: {cidr: 192.0.2.0/24, mtu: 1500}
tunnel: {type: vxlan, port: 4789}
firewall: iptables_hybrid
hosts:
  compute1: {tunnel_ip: 192.0.2.11, datapath_ids: {br-int: "a1"}}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue:
    tunnel_id: 1001
    subnets:
      blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1, dhcp: true, dns: [9.9.9.9]}
  green:
    tunnel_id: 1002
    subnets:
      green-subnet:
        cidr: "fd00:1::/64"
        gateway: "fd00:1::1"
        allocation_pools: [{start: "fd00:1::10", end: "fd00:1::ff"}]
        host_routes: [{destination: "::/0", nexthop: "fd00:1::2"}]
  public: {external: true, subnets: {public-subnet: {cidr: 203.0.113.0/28}}}
  dc: {physical_network: phys, segmentation_id: 7, subnets: {dc-subnet: {cidr: 10.7.0.0/30}}}
routers:
  r1:
    host: network1
    interfaces: [blue-subnet, {subnet: green-subnet, ip: "fd00:1::1"}]
    gateway: {network: public, ip: 203.0.113.10}
    routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.50}]
floating_ips:
  203.0.113.5: {vm: web1, network: blue}
security_groups:
  web:
    - {direction: ingress, protocol: tcp, port: 80, remote: 0.0.0.0/0}
    - {direction: ingress, protocol: icmp, icmp_type: 8, remote_group: web}
vms:
  web1: {host: compute1, network: blue, ip: dhcp, security_groups: [web]}
  fw1:
    host: compute1
    ports:
      - {network: blue, ip: 10.0.1.50, port_security: false, device: tap0}
      - {network: green, mac: "fa:16:3e:00:00:50", allowed_address_pairs: [{ip: 10.0.0.0/8}]}
      - {network: dc, id: 5d4a4f1e-7d2a-4c1b-9a55-6f2f0a8f9b11}
"""
# Values that have hurt parsers before, or that are right in another place of a topology.
SPICE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 4095, 2**24, 2**32, 10**40, 1.5, float("inf"), "", " ", "blue", "web1", "internet",
    "dhcp", "10.0.1.1", "10.0.1.50", "10.0.1.255", "10.0.1.0/24", "10.0.0.0/8", "0.0.0.0/0", "::/0", "::1", "1/2/3",
    "fe80::1%eth0", "255.255.255.255/32", "10.0.1.0/255.255.255.0", "ff:ff:ff:ff:ff:ff", "0" * 36, "é", "\u2028",
    "\x00", "\U0001f600", "{", "}", "{message}", "%s", "a" * 5000, "..", "-", "90-80", "1-65535",
    [], {}, [[]], [None], {"": None}, {"<<": {}},
)
SNIPPETS = (
    "\t", "\n", "\r", "\x85", "\u2028", "\ufeff", "\x00", "  ", "- ", ": ", "? ", "{", "}", "[", "]", ",", "#", "'",
    '"', "&a ", "*a", "<<: *a", "!!binary ", "!!python/none ", "!<%zz> ", "%YAML 9.9\n", "---\n", "...\n", "|\n",
    ">-\n", "\\", "@", "`", "0x", "1_0", "12:30:45", "2001-01-01", "~", "null",
)
LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def mutate_text(rng: random.Random) -> bytes:
    """The base with some of its characters, lines or bytes cut, doubled, moved or replaced."""
    text = BASE
    if rng.random() < 0.5:  # a slip of one character that leaves the YAML as it was
        at = rng.choice([found.start() for found in re.finditer("[0-9a-z]", text)])
        return f"{text[:at]}{rng.choice('0123456789abcdefx')}{text[at + 1:]}".encode()
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 1, 2, 5, 20, 200)))
        middle = rng.choice((rng.choice(SNIPPETS), "", text[start:end] * 2, chr(rng.randrange(0xD800))))
        text = text[:start] + middle + text[end:]
        if rng.random() < 0.2:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines)
            text = "".join(lines)
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text) + 1)]
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    if content and rng.random() < 0.15:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def mutate_tree(rng: random.Random) -> bytes:
    """The base with some of its values replaced, removed, doubled or moved, still good YAML."""
    tree = copy.deepcopy(PLAIN)
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(places(tree))
        value = another_value(rng, tree, (holder, key))
        action = rng.randrange(4)
        if action == 0 and isinstance(holder, dict):
            holder[str(rng.choice(SPICE))[:80]] = value
        elif action == 0:
            holder.append(value)
        elif action == 1:
            del holder[key]
        else:
            holder[key] = value
        if not tree:
            break
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1))).encode()


def another_value(rng: random.Random, tree: Any, place: tuple[Any, Any]) -> Any:
    """Spice, the same value in another dress, or the value of another place, often one with the same key."""
    alike = [other for other in places(tree) if other[1] == place[1]]
    match rng.randrange(5):
        case 0:
            return rng.choice(SPICE)
        case 1:
            return rng.choice(([copy.deepcopy(value_at(place))], {"x": copy.deepcopy(value_at(place))}))
        case 2:
            return copy.deepcopy(value_at(rng.choice(places(tree))))
        case _:
            return copy.deepcopy(value_at(rng.choice(alike)))


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (list or mapping, key) of a tree."""
    found = []
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        found.append((tree, key))
        if isinstance(value, (dict, list)):
            found.extend(places(value))
    return found


def value_at(place: tuple[Any, Any]) -> Any:
    return place[0][place[1]]


PLAIN = source.read(BASE.encode()).root.data  # type: ignore[union-attr]


def assert_answered(content: bytes) -> bool:
    """Whether the content is a valid topology; the answer is whole and points into the file in either case."""
    found = reading.parse(content, "mutant.yaml")
    assert (found.topology is None) == any(problem.severity == ERROR for problem in found.problems)
    lines = LINE_BREAK.split(content.decode("utf-8-sig", "replace"))
    for problem in found.problems:
        assert problem.code in CODES
        assert 1 <= problem.line <= len(lines)
        assert problem.excerpt == lines[problem.line - 1]
        assert 1 <= problem.column <= len(problem.excerpt) + 1
        assert problem.message.isprintable()
        assert problem.hint.isprintable()
    assert render(found.problems).count("mutant.yaml:") >= len(found.problems)
    json.dumps(to_json(found.problems, "mutant.yaml")).encode()
    return found.topology is not None


def test_the_base_is_valid() -> None:
    assert assert_answered(BASE.encode())


@pytest.mark.parametrize("mutate", [mutate_text, mutate_tree], ids=["text", "tree"])
@pytest.mark.parametrize("part", range(ROUNDS))
def test_any_mutant_is_a_topology_or_says_what_is_wrong(
    seed: int, part: int, mutate: Callable[[random.Random], bytes]
) -> None:
    rng = random.Random(f"{seed}/{part}/{mutate.__name__}")
    for number in range(MUTANTS // ROUNDS // 2):
        content = mutate(rng)
        try:
            assert_answered(content)
        except Exception as error:
            error.add_note(f"mutant {number} of part {part}, TUNBRIDGE_SEED={seed}: {content!r}")
            raise


def test_any_bytes_are_answered(seed: int) -> None:
    rng = random.Random(seed)
    for length in range(200):
        assert_answered(rng.randbytes(length))


def test_any_beginning_of_a_file_is_answered() -> None:
    """What a reader sees of a file that is still being written."""
    content = BASE.encode()
    for end in range(0, len(content), 7):
        assert_answered(content[:end])
