"""The ping matrix as text."""
from __future__ import annotations

import io
from textwrap import dedent

from rich.console import Console

from controller.host.campaign import Leak
from controller.model.reachability import Pair
from controller.tools.matrix import Matrix
from controller.tools.reach import Answer, Reach, Sample

NETWORKS = {"web1": "blue", "shop1": "green", "web2": "blue", "shop2": "green", "alone": "admin"}


def observed(*surprises: Pair, leaks: tuple[Leak, ...] = (), sample: Sample | None = None) -> Reach:
    """A small cloud in which all is as it should be, but for some pairs."""
    answers = []
    for source, network in NETWORKS.items():
        for target, other in NETWORKS.items():
            if source != target:
                expected = network == other
                happened = expected != ((source, target) in surprises)
                answers.append(Answer(source, target, "10.0.0.1", expected, happened))
    return Reach(tuple(answers), leaks, NETWORKS, sample)


def shown(reach: Reach, width: int = 100, colours: bool = False) -> str:
    paper = io.StringIO()
    console = Console(file=paper, width=width, force_terminal=colours, color_system="standard" if colours else None)
    console.print(Matrix(reach))
    text = paper.getvalue()
    return "\n".join(line.rstrip() for line in text.splitlines())


def lines(text: str) -> str:
    return dedent(text).strip("\n")


def test_a_healthy_cloud_is_grouped_by_network() -> None:
    assert shown(observed()) == lines("""
                      blue        green         admin
                      web1  web2  shop1  shop2  alone
        blue   web1    .    yes     -      -      -
               web2   yes    .      -      -      -
        green  shop1   -     -      .     yes     -
               shop2   -     -     yes     .      -
        admin  alone   -     -      -      -      .
        yes: reached, -: not reached, both as the topology says; YES! and no!: not as it says
        20 pairs asked: 4 reached, 16 kept apart, all as the topology says
        """)


def test_a_surprise_can_be_read_without_colours_and_is_said_in_a_sentence() -> None:
    leaks = (Leak("web1", "shop1", "shop2"), Leak("web2", None, "alone"))
    reach = observed(("web1", "web2"), ("web1", "shop1"), leaks=leaks)
    assert shown(reach).split("\n", 1)[1] == lines("""
                      web1  web2  shop1  shop2  alone
        blue   web1    .    no!   YES!     -      -
               web2   yes    .      -      -      -
        green  shop1   -     -      .     yes     -
               shop2   -     -     yes     .      -
        admin  alone   -     -      -      -      .
        yes: reached, -: not reached, both as the topology says; YES! and no!: not as it says
        wrong: web1 -> shop1 (10.0.0.1) was reached and must not be
        wrong: web1 -> web2 (10.0.0.1) was not reached and should be
        leak: a frame of web1 for shop1 was seen by shop2
        leak: a frame of web2 to everyone was seen by alone
        20 pairs asked: 2 not as the topology says, 2 leaks
        """)


def test_what_is_too_wide_is_summed_up_by_network() -> None:
    assert shown(observed(("web1", "shop1")), width=40) == lines("""
               blue   green    admin
        blue   2/2   1/4 (!1)   0/2
        green  0/4     2/2      0/2
        admin  0/2     0/2
        reached/asked; (!n): n of them not as
        the topology says
        wrong: web1 -> shop1 (10.0.0.1) was
        reached and must not be
        20 pairs asked: 1 not as the topology
        says, 0 leaks
        """)


def test_what_is_still_too_wide_is_summed_up_by_own_network_and_others() -> None:
    ports = {f"vm{n}": f"network{n // 2}" for n in range(100)}
    answers = tuple(Answer(a, b, "10.0.0.1", ports[a] == ports[b], ports[a] == ports[b])
                    for a in ports for b in ports if a != b)
    text = shown(Reach(answers, (), ports, Sample(9900, 7)), width=100).splitlines()
    assert text[:3] == ["           own network  others",
                        "network0       2/2      0/196",
                        "network1       2/2      0/196"]
    assert text[-2:] == ["reached/asked; (!n): n of them not as the topology says",
                         "9900 pairs asked (a sample; seed 7): 100 reached, 9800 kept apart, all as the topology says"]


def test_a_long_list_of_wrongs_is_cut() -> None:
    wrong = [(a, b) for a in NETWORKS for b in NETWORKS if a != b and NETWORKS[a] != NETWORKS[b]]
    text = shown(observed(*wrong)).splitlines()
    assert sum(line.startswith("wrong:") for line in text) == 10
    assert text[-2] == "and 6 more"


def test_green_is_as_expected_and_red_is_not() -> None:
    text = shown(observed(("web1", "web2")), colours=True)
    assert "\x1b[32myes" in text
    assert "\x1b[1;31mno!" in text


def test_a_pair_that_was_not_asked_is_left_empty() -> None:
    one = Reach((Answer("web1", "web2", "10.0.0.1", True, True),), (), NETWORKS, Sample(1, 7))
    assert "blue   web1    .    yes\n" in shown(one)


TARGETS = (Answer("web1", "r1 on blue-subnet", "10.0.1.1", True, True),
           Answer("web1", "r1 on public-subnet", "203.0.113.10", True, True),
           Answer("web1", "floating IP of shop1", "203.0.113.50", True, False),
           Answer("web1", "internet", "203.0.113.1", True, True),
           Answer("alone", "internet", "203.0.113.1", False, False),
           Answer("internet", "floating IP of shop1", "203.0.113.50", True, True))


def test_what_is_no_vm_has_columns_of_its_own() -> None:
    reach = Reach(observed().answers, (), NETWORKS, None, TARGETS)
    assert shown(reach) == lines("""
                         blue        green         admin   beyond
                         web1  web2  shop1  shop2  alone  gateways  floating IPs  internet
        blue      web1    .    yes     -      -      -      2/2         no!         yes
                  web2   yes    .      -      -      -
        green     shop1   -     -      .     yes     -
                  shop2   -     -     yes     .      -
        admin     alone   -     -      -      -      .                               -
        internet                                                        1/1
        yes: reached, -: not reached, both as the topology says; YES! and no!: not as it says; n/m: n of m
        reached
        wrong: web1 -> floating IP of shop1 (203.0.113.50) was not reached and should be
        20 pairs and 6 others asked: 1 not as the topology says, 0 leaks
        """)


def test_what_is_no_vm_is_summed_up_with_the_rest() -> None:
    reach = Reach(observed().answers, (), NETWORKS, None, TARGETS)
    assert shown(reach, width=70).splitlines()[:3] == [
        "          blue  green  admin  gateways  floating IPs  internet",
        "blue      2/2    0/4    0/2     2/2       0/1 (!1)      1/1",
        "green     0/4    2/2    0/2"]


def test_a_doubt_of_the_tables_has_a_mark_of_its_own() -> None:
    answers = (Answer("web1", "web2", "10.0.0.1", True, False, False, "the tables do so: no flow matches"),
               Answer("web2", "web1", "10.0.0.1", True, True, False, "the tables do so: no flow matches"),
               Answer("shop1", "shop2", "10.0.0.1", True, True, True))
    found = shown(Reach(answers, (), NETWORKS, computed_from="installed"), width=200)
    assert "blue   web1    .    no!?" in found
    assert "web2   yes?   ." in found
    assert "; ?: the tables do not make of it what the topology says" in found
    assert "wrong: web1 -> web2 (10.0.0.1) was not reached and should be: the tables do so: no flow matches" in found
    assert "wrong: web2 -> web1 (10.0.0.1) was reached as it should be, but not by these tables: " in found
