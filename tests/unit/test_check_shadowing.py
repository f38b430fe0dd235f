"""Which rules others cover, found by look-ups and by comparing every two of them."""
from __future__ import annotations

import random
import re

from controller.model import reading
from controller.model.topology import SecurityRule

HEAD = """cloud: test
underlay: {cidr: 192.0.2.0/24}
hosts: {c1: {tunnel_ip: 192.0.2.11}}
networks: {n: {tunnel_id: 1, subnets: {s: {cidr: 10.0.0.0/16}, six: {cidr: "2001:db8::/64"}}}}
vms: {v: {host: c1, network: n, security_groups: [g, h]}}
security_groups:
  h: [{direction: egress, protocol: 99}]
  g:
"""
REMOTES = ("", "remote: 0.0.0.0/0", "remote: 10.0.0.0/8", "remote: 10.0.1.0/24", "remote: 10.0.1.7", "remote_group: g",
           "remote_group: h", 'remote: "::/0"', 'remote: "2001:db8::/64"', "ethertype: IPv6")
PROTOCOLS = ("any", "tcp", "tcp, port: 80", "tcp, port: 80-90", "tcp, port: 85-95", "udp, port: 53", "icmp",
             "icmp, icmp_type: 8", "icmp, icmp_type: 8, icmp_code: 0", "6")


def covers(wide: SecurityRule, rule: SecurityRule) -> bool:
    """Whether one allows all that the other does."""
    number = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
    one, other = (number.get(str(each.protocol), each.protocol) for each in (wide, rule))
    if (wide.direction, wide.ethertype) != (rule.direction, rule.ethertype) or one not in (None, other):
        return False
    if wide.ports and not (rule.ports and wide.ports[0] <= rule.ports[0] and rule.ports[1] <= wide.ports[1]):
        return False
    if wide.icmp_type not in (None, rule.icmp_type) or wide.icmp_code not in (None, rule.icmp_code):
        return False
    if wide.remote_group or rule.remote_group:
        anybody = not wide.remote_group and (wide.remote is None or wide.remote.prefixlen == 0)
        return anybody or wide.remote_group == rule.remote_group
    if wide.remote is None or wide.remote.prefixlen == 0:
        return True
    return rule.remote is not None and rule.remote.subnet_of(wide.remote)  # type: ignore[arg-type]


def test_rules_are_covered_exactly_where_comparing_every_two_says_so(seed: int) -> None:
    pick = random.Random(seed)
    for _ in range(60):
        rules = [f"{{direction: {pick.choice(['ingress', 'egress'])}, protocol: {pick.choice(PROTOCOLS)}"
                 + ", ".join(["", *filter(None, [pick.choice(REMOTES)])]) + "}" for _ in range(12)]
        found = reading.parse(HEAD + "".join(f"    - {rule}\n" for rule in rules), "f")
        assert found.topology is not None, rules
        told = {int(re.findall(r"\d+", one.message)[0]) for one in found.problems if one.code == "TB612"}
        known = list(enumerate(found.topology.security_groups["g"].rules))
        assert told == {n for n, rule in known for m, wide in known
                        if m != n and covers(wide, rule) and (m < n or not covers(rule, wide))}, rules
