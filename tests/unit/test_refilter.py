"""From one packet filter to another: what is written, in which order, and whose rules are in danger meanwhile."""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from controller.host import iptables, observe_firewall, refilter
from controller.host.execute import StepFailed
from controller.host.firewall import UNKNOWN, AddressSet, Firewall, Guarded
from controller.host.guards import Guard, Rule
from controller.host.steps import Step

SET = "NIPv401234567-89ab-cdef-0123-45"
SSH = Rule(False, 4, 6, (22, 22), None, None, None, SET)
HTTP = Rule(False, 4, 6, (80, 80), None, None, None, None)


def guard(number: int, *rules: Rule) -> Guard:
    address = ip_address(f"10.0.0.{number}")
    return Guard(f"port p{number}", f"{number:08x}-1111-2222", address,
                 ((f"fa:16:3e:00:00:{number:02x}", (ip_network(address),)),), 100 + number, rules)


def firewall(*guards: Guard, members: tuple[str, ...] = ()) -> Firewall:
    sets = (AddressSet(SET, 4, members),) if any(rule.group for one in guards for rule in one.rules) else ()
    return Firewall(iptables.rules(guards, 4), iptables.rules(guards, 6), sets,
                    tuple(Guarded(one.key, one.name, one.tap, one.zone, "{}") for one in guards))


def lines(change: refilter.Change, program: str) -> list[str]:
    return [line for step in change.steps if step.argv[0] == program for line in step.lines]


def plan(change: refilter.Change) -> dict[str, object]:
    """What the sweep is told."""
    (step,) = (step for step in change.steps if "sweep" in step.argv[-1])
    found: dict[str, object] = json.loads(step.lines[0])
    return found


def test_nothing_is_done_where_the_kernel_is_as_it_shall_be() -> None:
    assert refilter.change(firewall(guard(1, HTTP)), firewall(guard(1, HTTP))).steps == ()
    assert refilter.change(None, None).steps == ()


def test_each_version_of_ip_changes_in_one_go_and_without_touching_what_others_have() -> None:
    done = refilter.change(firewall(guard(1, HTTP)), None)
    programs = [step.argv for step in done.steps if step.argv[0].endswith("restore")]
    assert programs == [("iptables-restore", "--noflush"), ("ip6tables-restore", "--noflush")]
    assert lines(done, "iptables-restore").count("COMMIT") == 2, "raw and filter"


def test_a_rule_of_one_port_writes_the_chain_of_that_port_alone() -> None:
    done = refilter.change(firewall(guard(1, HTTP), guard(2)), firewall(guard(1), guard(2)))
    assert {line.split()[0] for line in lines(done, "iptables-restore") if line.startswith(":")} == {
        ":neutron-openvswi-i00000001-1"}
    assert not lines(done, "ip6tables-restore")
    assert [one.name for one in done.touched] == ["port p1"]
    assert plan(done)["flush"] == [] and set(plan(done)["judge"]) == {"101"}  # type: ignore[call-overload]


def test_no_address_is_in_a_set_before_the_rules_that_are_meant_for_it_nor_after_them() -> None:
    old = firewall(guard(1, SSH), members=("10.0.0.2/32", "10.0.0.3/32"))
    new = firewall(guard(1, SSH, HTTP), members=("10.0.0.3/32", "10.0.0.4/32"))
    order = [(step.argv[0], line) for step in refilter.change(new, old).steps for line in step.lines
             if line.startswith(("add", "del", "*filter"))]
    assert order == [("ipset", f"del {SET} 10.0.0.2/32"), ("iptables-restore", "*filter"),
                     ("ipset", f"add {SET} 10.0.0.4/32")]


def test_a_set_that_is_new_is_full_before_a_rule_asks_it_and_one_that_nobody_asks_goes_last() -> None:
    come = refilter.change(firewall(guard(1, SSH), members=("10.0.0.2/32",)), firewall(guard(1)))
    programs = [step.argv[0] for step in come.steps if step.lines]
    assert programs.index("ipset") < programs.index("iptables-restore")
    assert [line.split()[0] for line in lines(come, "ipset")] == ["create", "flush", "add"]
    gone = refilter.change(firewall(guard(1)), firewall(guard(1, SSH), members=("10.0.0.2/32",)))
    programs = [step.argv[0] for step in gone.steps if step.lines]
    assert programs.index("iptables-restore") < programs.index("ipset") and lines(gone, "ipset") == [f"destroy {SET}"]


def test_who_joins_a_group_touches_the_ports_whose_rules_name_it_and_no_chain() -> None:
    old, new = (firewall(guard(1, SSH), guard(2, HTTP), members=members) for members in ((), ("10.0.0.9/32",)))
    done = refilter.change(new, old)
    assert [one.name for one in done.touched] == ["port p1"] and not lines(done, "iptables-restore")


def test_the_zone_of_a_new_port_is_emptied_and_that_of_an_old_one_judged() -> None:
    done = refilter.change(firewall(guard(1, HTTP), guard(2)), firewall(guard(1)))
    assert plan(done)["flush"] == [102] and set(plan(done)["judge"]) == {"101"}  # type: ignore[call-overload]
    moved = replace(guard(1), zone=7)
    assert plan(refilter.change(firewall(moved), firewall(guard(1))))["flush"] == [7]


def test_where_nothing_is_known_every_port_is_in_danger() -> None:
    done = refilter.change(firewall(guard(1), guard(2)), UNKNOWN)
    assert len(done.touched) == 2
    assert any("br_netfilter" in step.argv for step in done.steps)
    closed = refilter.closing(done.touched)
    assert [line for step in closed for line in step.lines] == [
        f"link set dev {end}{number:08x}-11 nomaster" for number in (1, 2) for end in ("tap", "qvb")]
    assert all(step.tolerant for step in closed)


def test_what_others_have_in_the_same_tables_is_none_of_our_business() -> None:
    saved = ["*filter", ":INPUT ACCEPT [0:0]", ":DOCKER - [0:0]", "-A FORWARD -j DOCKER", "-A DOCKER -j ACCEPT",
             "-A FORWARD -j neutron-filter-top", ":neutron-filter-top - [0:0]", "COMMIT", "*nat", "-A OUTPUT -j x"]
    assert iptables.canonical(saved) == ("*filter", ":neutron-filter-top", "-A FORWARD -j neutron-filter-top")
    assert not any("DOCKER" in line for line in iptables.restore((), iptables.canonical(saved)))


def test_a_protocol_is_the_same_by_name_and_by_number() -> None:
    saved = ["*filter", ":neutron-openvswi-ia - [0:0]", "-A neutron-openvswi-ia -p gre -j RETURN",
             "-A neutron-openvswi-ia -p tcp -m tcp --dport 1 -j RETURN"]
    assert iptables.canonical(saved)[2:] == ("-A neutron-openvswi-ia -p 47 -j RETURN",
                                             "-A neutron-openvswi-ia -p tcp -m tcp --dport 1 -j RETURN")


def saying(said: dict[str, str]) -> Callable[[Step], str]:
    """A host whose programs say this; those that are not named here cannot be run."""
    def read(step: Step) -> str:
        if step.argv[0] not in said:
            raise StepFailed(f"there is no {step.argv[0]}")
        return said[step.argv[0]]
    return read


def test_what_a_kernel_says_of_its_sets_is_compared_with_what_they_shall_be() -> None:
    want = firewall(guard(1, SSH), members=("10.0.0.2/32", "10.1.0.0/16"))
    sets = f"create {SET} hash:net family inet\nadd {SET} 10.1.0.0/16\nadd {SET} 10.0.0.2\ncreate other hash:ip\n"
    seen = observe_firewall.observe(saying({
        "iptables-save": saved(want.v4), "ip6tables-save": saved(want.v6), "sysctl": "1\n1\n", "ipset": sets}))
    assert refilter.change(want, seen).steps == ()


def test_a_kernel_that_says_nothing_or_does_not_filter_bridges_is_relied_on_for_nothing() -> None:
    want = firewall(guard(1, HTTP))
    silent = observe_firewall.observe(saying({"ip6tables-save": ""}))
    off = observe_firewall.observe(saying({"iptables-save": saved(want.v4), "ip6tables-save": saved(want.v6),
                                           "sysctl": "0\n1\n"}))
    assert silent == UNKNOWN and not off.switched_on
    assert len(refilter.change(want, off).touched) == 1


def saved(text: tuple[str, ...]) -> str:
    """Canonical text as iptables-save writes it."""
    return "\n".join(f"{line} - [0:0]" if line.startswith(":") else line for line in text)
