"""The flows of Neutron's firewall in Open vSwitch (tables 60, 71 to 94): reg5 is the port, reg6 its VLAN and zone.

A connection that was accepted carries ct_mark 0; one that no rule lets pass any more gets 1.
"""
from __future__ import annotations

from typing import Final

from controller.tools.neutron_int import FIRST, LATER, LOCAL_IP
from controller.tools.neutron_rules import Rule, by_table, rule
from controller.tools.neutron_tun import ANY, ONE

GOING: Final = "+est-rel-rpl"
NEW: Final = "-est+new"
EITHER: Final = f"ct_state={GOING}|{NEW}"

ENTRY: Final[tuple[Rule, ...]] = (
    rule(60, 100, "in_port", "reg5={in_port},reg6={vlan},->71",
         "What {in_port:port} sends, in {vlan:vlan}, passes the firewall on its way out."),
    rule(60, 100, "in_port", "reg5={in_port},reg6={vlan},->73",
         "{in_port:port}, in {vlan:vlan}, is trusted or has no port security: what it sends is not filtered."),
    rule(60, 90, "dl_vlan=none dl_dst", "reg5={port},reg6={vlan},->81",
         "{dl_dst:mac}, untagged, is {port:port} in {vlan:vlan}: it passes the firewall on its way in."),
    rule(60, 90, "dl_vlan dl_dst", "reg5={port},reg6={vlan},untag,->81",
         "{dl_dst:mac} in {dl_vlan:segment} is {port:port} in {vlan:vlan}: it passes the firewall on its way in."),
)

OUT: Final[tuple[Rule, ...]] = (
    rule(71, 110, "ct_state=+trk", "ct_clear,->71",
         "What connection tracking has seen before, for another port, is looked at as if it were new."),
    rule(71, 95, "kind=arp ?in_port reg5 dl_src arp_spa", "->94",
         "ARP: {reg5:port} may say as {dl_src:mac} that it has {arp_spa:ip}."),
    rule(71, 95, "kind=rarp ?in_port reg5 dl_src", "->94",
         "RARP: {reg5:port} may tell where {dl_src:mac} is, as after a migration."),
    rule(71, 95, "kind=icmp6 ?in_port reg5 ?dl_src ?ipv6_src icmp_type", "->94",
         "{reg5:port} may send {icmp_type:icmp6} as {dl_src:mac} with {ipv6_src:ip}."),
    rule(71, 95, "kind=icmp6 icmp_type=136 ?in_port reg5 nd_target", "->94",
         "{reg5:port} may advertise that it has {nd_target:ip}."),
    rule(71, 95, "dl_type reg5", "->94", "{reg5:port} may send frames of ethertype {dl_type}."),
    rule(71, 80, "kind=udp|udp6 ?in_port reg5 tp_src=68|546 tp_dst=67|547 *", "->73",
         "{reg5:port} may ask for an address by {tp_dst:dhcp}{packet:who}."),
    rule(71, 70, "kind=udp|udp6 ?in_port reg5 tp_src=67|547 tp_dst=68|546", "->93",
         "{reg5:port} may not be a {tp_src:dhcp} server: refused."),
    rule(71, 70, "kind=icmp6 icmp_type=134 ?in_port reg5", "->93",
         "{reg5:port} may not say that it is a router: refused."),
    rule(71, 65, "kind=ip ?in_port reg5 dl_src nw_src", "ct(table=72;zone=reg6)",
         "{reg5:port} may send as {dl_src:mac} with {nw_src:ip}: its security groups are asked."),
    rule(71, 65, "kind=ipv6 ?in_port reg5 dl_src ipv6_src", "ct(table=72;zone=reg6)",
         "{reg5:port} may send as {dl_src:mac} with {ipv6_src:ip}: its security groups are asked."),
    rule(71, 10, "?in_port reg5", "ct_clear,->93", "Under any other name {reg5:port} may not send: refused."),
    rule(71, 10, "?in_port reg5", "->93", "Under any other name {reg5:port} may not send: refused."),
    rule((71, 72, 73, 81, 82), 0, "", "drop", "What nothing above allows is dropped."),
    rule(73, 100, "reg6 dl_dst", "reg5={port},->81",
         "{dl_dst:mac} in {reg6:vlan} is {port:port} of this host: it passes the firewall again, on its way in."),
    rule(73, 90, f"ct_state={NEW} kind=ip|ipv6 reg5", "ct(commit;zone=reg6),->91",
         "A new {kind:kind} connection that {reg5:port} may open is remembered."),
    rule(73, 80, "reg5", "->94", "What {reg5:port} may send, and is for no port of this host, leaves."),
)

STATE: Final[tuple[Rule, ...]] = (
    rule((72, 82), 50, "ct_state=+inv+trk ?reg5", "->93",
         "What belongs to no connection that makes sense is refused."),
    rule((72, 82), 50, "ct_mark=1 reg5", "->93",
         "The connection is of {reg5:port}, {table:way}, and no rule allows it any more: refused."),
    rule(72, 50, "ct_state=+est-rel+rpl ct_zone ct_mark=0 reg5", "->94",
         "Answers of {reg5:port} in a connection that was accepted leave (zone {ct_zone})."),
    rule(72, 50, "ct_state=-est-inv-new+rel ct_zone ct_mark=0 reg5", "->94",
         "What {reg5:port} sends about an accepted connection, as ICMP errors, leaves (zone {ct_zone})."),
    rule(82, 50, "ct_state=+est-rel+rpl ct_zone ct_mark=0 reg5", "out={reg5}",
         "Answers to {reg5:port} in a connection that was accepted are handed over (zone {ct_zone})."),
    rule(82, 50, "ct_state=-est-inv-new+rel ct_zone ct_mark=0 reg5", "out={reg5}",
         "What is about an accepted connection of {reg5:port}, as ICMP errors, is handed over (zone {ct_zone})."),
    rule((72, 82), 40, "ct_state=-est reg5", "->93",
         "{reg5:port}: a new connection, {table:way}, that no rule allows is refused."),
    rule((72, 82), 40, "ct_state=+est kind=ip|ipv6 reg5", "ct(commit;zone=reg6;ct_mark=1)",
         "{reg5:port}: an {kind:kind} connection, {table:way}, that no rule allows any more is marked as such, and "
         "this packet dropped."),
)

RULES: Final[tuple[Rule, ...]] = (
    rule((72, 82), ANY, f"{EITHER} conj_id ?reg5 kind=ip|ipv6", "reg7={group},->73",
         "Both halves of conjunction {conj_id} hold, a remote group and a rule: {reg5:port} may send it "
         "({ct_state:state})."),
    rule((72, 82), ANY, f"ct_state={GOING} conj_id ?reg5 kind=ip|ipv6", "reg7={group},out={port}",
         "Both halves of conjunction {conj_id} hold, a remote group and a rule: handed over to {port:port} "
         "({ct_state:state})."),
    rule((72, 82), ANY, f"ct_state={NEW} conj_id ?reg5 kind=ip|ipv6",
         "reg7={group},ct(commit;zone=reg6),out={port},->92",
         "Both halves of conjunction {conj_id} hold, a remote group and a rule: handed over to {port:port}, and "
         "the new connection is remembered."),
    rule((72, 82), ANY, f"{EITHER} reg6 *", "conj({conj*})",
         "In {reg6:vlan}, {packet:packet} is {table:peer} a member of a remote group: {conj:halves} "
         "({ct_state:state})."),
    rule((72, 82), ANY, f"{EITHER} reg5 *", "conj({conj*})",
         "{reg5:port}: a rule allows {packet:packet} {table:way} for members of a remote group: {conj:halves} "
         "({ct_state:state})."),
    rule(72, ANY, f"{EITHER} reg5 *", "->73", "{reg5:port} may send {packet:packet} ({ct_state:state})."),
    rule(82, ANY, f"ct_state={GOING} reg5 *", "out={reg5}", "{reg5:port} may get {packet:packet} ({ct_state:state})."),
    rule(82, ANY, f"ct_state={NEW} reg5 *", "ct(commit;zone=reg6),out={reg5},->92",
         "{reg5:port} may get {packet:packet}; the new connection is remembered."),
)

IN: Final[tuple[Rule, ...]] = (
    rule(81, 100, "kind=arp reg5", "out={reg5}", "{reg5:port} gets ARP, whatever its groups say."),
    rule(81, 100, "dl_type reg5", "out={reg5}", "{reg5:port} gets frames of ethertype {dl_type}."),
    rule(81, 100, "kind=icmp6 icmp_type reg5", "out={reg5}",
         "{reg5:port} gets {icmp_type:icmp6}, whatever its groups say."),
    rule(81, 95, "kind=udp|udp6 reg5 tp_src=67|547 tp_dst=68|546", "out={reg5}",
         "{reg5:port} gets answers of {tp_src:dhcp} servers, whatever its groups say."),
    rule(81, 90, "ct_state=-trk kind=ip|ipv6 reg5", "ct(table=82;zone=reg6)",
         "{kind:kind} for {reg5:port}: its security groups are asked."),
    rule(81, 80, "ct_state=+trk reg5", "->82",
         "What is tracked already, for {reg5:port}: its security groups are asked."),
)

LAST: Final[tuple[Rule, ...]] = (
    rule(91, ANY, "reg5 ?reg7 *", "->94,controller",
         "Logging: what {reg5:port} sends and a rule accepts, {packet:packet}{reg7:conjunction}, is reported to "
         "the agent, and leaves."),
    rule(91, 1, "", "->94", "What was let out leaves."),
    rule(92, ANY, "reg5 ?reg7 *", "controller",
         "Logging: what {reg5:port} gets and a rule accepts, {packet:packet}{reg7:conjunction}, is reported to the "
         "agent."),
    rule(92, 0, "", "drop", "It was handed over before; nothing is left to do."),
    rule(93, ANY, "reg5", "controller",
         "Logging: what {reg5:port} was refused is reported to the agent, and dropped."),
    rule(93, 0, "", "drop", "What was refused is dropped."),
    rule(94, 12, "reg6 dl_dst", "out={port}", "{dl_dst:mac} in {reg6:vlan} is {port:port} of this host."),
    rule(94, 12, "dl_vlan dl_dst", "untag,out={port}",
         "{dl_dst:mac} in {dl_vlan:vlan} is {port:port} of this host; its VLAN tag is taken off."),
    rule(94, 10, f"reg6 dl_src dl_dst={ONE}", "vlan={reg6},out={port}",
         "What {dl_src:mac} sends to one MAC elsewhere leaves in {reg6:vlan} by {port:port}, without MAC learning."),
    rule(94, 1, "", "normal", "It is switched by MAC, within its VLAN."),
)

INT: Final = by_table(FIRST, LOCAL_IP, ENTRY, LATER, OUT, STATE, RULES, IN, LAST)
