"""The flows of Neutron's br-int but for its firewall: classification, spoofing, DVR, quality of service, extensions."""
from __future__ import annotations

from typing import Final

from controller.tools.neutron_rules import Rule, rule
from controller.tools.neutron_tun import ANSWER, ANY, ONE

INT_TABLES: Final = {
    0: ("LOCAL_SWITCHING", "Who sent this?"),
    1: ("DVR_TO_SRC_MAC", "From which gateway does this come, by a tunnel?"),
    2: ("DVR_TO_SRC_MAC_PHYSICAL", "From which gateway does this come, by a physical network?"),
    3: ("ARP_DVR_MAC_TO_DST_MAC", "For which gateway of this host is it, by a tunnel?"),
    4: ("ARP_DVR_MAC_TO_DST_MAC_PHYSICAL", "For which gateway of this host is it, by a physical network?"),
    23: ("CANARY", "Did the switch restart?"),
    24: ("ARP_SPOOF", "Does it claim an address that is its own?"),
    25: ("MAC_SPOOF", "Does it wear its own MAC?"),
    30: ("LOCAL_EGRESS", "Does it come from a VM that may use Local IPs?"),
    31: ("LOCAL_IP", "Is it for a Local IP?"),
    58: ("PACKET_RATE_LIMIT", "How many packets per second may it be?"),
    59: ("BANDWIDTH_RATE_LIMIT", "How many bits per second may it be?"),
    60: ("TRANSIENT", "Is it from or for a port of this host?"),
    61: ("LOCAL_MAC_DIRECT", "Which port of this host has this MAC?"),
    62: ("TRANSIENT_EGRESS", "Which way out has it?"),
    71: ("BASE_EGRESS", "Does the port send under its own name?"),
    72: ("RULES_EGRESS", "Do the security groups let it out?"),
    73: ("ACCEPT_OR_INGRESS", "It may leave: is it for a port of this host?"),
    77: ("DHCP_IPV4", "Which port asks for an address?"),
    78: ("DHCP_IPV6", "Which port asks for an IPv6 address?"),
    81: ("BASE_INGRESS", "Does it reach the port whatever its groups say?"),
    82: ("RULES_INGRESS", "Do the security groups let it in?"),
    91: ("ACCEPTED_EGRESS_TRAFFIC", "Shall what was let out be logged?"),
    92: ("ACCEPTED_INGRESS_TRAFFIC", "Shall what was let in be logged?"),
    93: ("DROPPED_TRAFFIC", "Shall what was refused be logged?"),
    94: ("ACCEPTED_EGRESS_TRAFFIC_NORMAL", "Where does it go?"),
}

FIRST: Final[tuple[Rule, ...]] = (
    rule(0, 65535, "dl_vlan=4095", "drop", "VLAN 4095 is that of dead ports: dropped."),
    rule(0, 65535, "kind=ip|ipv6 in_port reg2=0", "reg2=1,dscp={dscp},resubmit({again},)",
         "Quality of service: what {in_port:port} sends is marked with DSCP {dscp}, once; then it is looked at "
         "again."),
    rule(0, 200, "reg3=0", "queue={queue},reg3=1,->0",
         "Quality of service: everything begins in queue {queue}, whose bandwidth may be limited; then it is "
         "looked at again."),
    rule(0, 200, "in_port reg4=0", "pkt_mark={mark},reg4=1,->0",
         "Quality of service: what {in_port:port} sends is marked {mark}, for a queue with a minimum bandwidth on "
         "the way out; then it is looked at again."),
    rule(0, 200, "kind=ip in_port nw_dst=169.254.169.254", "vlan={vlan},out={out}",
         "Metadata requests of {in_port:port} take the metadata path: tagged with {vlan:vlan}, out by {out:port}."),
    rule(0, 200, "kind=ip in_port dl_vlan dl_dst nw_src=169.254.169.254", "untag,out={out}",
         "Answers of the metadata service for {dl_dst:mac} in {dl_vlan:vlan}, from {in_port:port}, go to "
         "{out:port}."),
    rule(0, 200, "kind=arp arp_op=1 in_port arp_tpa", ANSWER,
         "When {in_port:port} asks for {arp_tpa:ip}, the DHCP server or the gateway of the metadata path, it is "
         "answered here: {mac:mac}."),
    rule(0, 99, "kind=arp arp_op=2 dl_dst arp_tha", "dl_dst={arp_tha},->58",
         "An ARP answer to {dl_dst:mac}, the DVR MAC of this host, is for its gateway {arp_tha:mac}."),
    rule(0, 11, "kind=arp dl_vlan arp_spa arp_tpa", "->58",
         "{arp_spa:ip} is a Local IP of {dl_vlan:vlan}: ARP from it for {arp_tpa:ip}, the port that stands for it "
         "here, is let through."),
    rule((0, 58), 10, "kind=arp dl_vlan arp_spa", "drop",
         "{arp_spa:ip} is a Local IP of {dl_vlan:vlan}: ARP from others who have it, on other hosts, is dropped."),
    rule(0, 10, "in_port kind=arp", "->24", "ARP of {in_port:port} is checked: does it claim its own address?"),
    rule(0, 10, "in_port kind=icmp6 icmp_type=136", "->24",
         "Neighbour advertisements of {in_port:port} are checked: do they claim its own address?"),
    rule(0, 9, "in_port", "->25", "What {in_port:port} sends is checked: does it wear its own MAC?"),
    rule(0, 8, "in_port", "->30", "What {in_port:port} sends may be for a Local IP."),
    rule(0, 5, "in_port dl_dst", "->3",
         "{dl_dst:mac} is the DVR MAC of this host: what comes for it by {in_port:port} is for a gateway here."),
    rule(0, 5, "in_port dl_dst", "->4",
         "{dl_dst:mac} is the DVR MAC of this host: what comes for it by {in_port:port} is for a gateway here."),
    rule(0, 4, "in_port dl_src", "->2",
         "{dl_src:mac} is the DVR MAC of another host: what comes from it by {in_port:port} was routed there, and "
         "gets its gateway's MAC again."),
    rule(0, 2, "in_port dl_src", "->1",
         "{dl_src:mac} is the DVR MAC of another host: what comes from it by {in_port:port} was routed there, and "
         "gets its gateway's MAC again."),
    rule(0, 3, "in_port dl_vlan=none", "vlan={vlan},->{next}",
         "Untagged frames of the physical network behind {in_port:port} are its flat network: {vlan:vlan} on this "
         "host."),
    rule(0, 3, "in_port dl_vlan", "vlan={vlan},->{next}",
         "VLAN {dl_vlan} of the physical network behind {in_port:port} is {vlan:vlan} on this host."),
    rule(0, 3, "in_port dl_vlan", "vlan={vlan},normal",
         "VLAN {dl_vlan} of the physical network behind {in_port:port} is {vlan:vlan} on this host; switched by "
         "MAC."),
    rule(0, 2, "in_port", "drop",
         "{in_port:port} is dead, or leads to a physical network of which no other VLAN has a network here: "
         "dropped."),
    rule(0, 0, "", "->{next}", "Everything else goes on as it is."),
    rule(0, (0, 1), "", "normal", "Everything else is switched by MAC, within its VLAN."),
    rule((1, 2), (4, 20), "dl_vlan dl_dst", "dl_src={mac},->{next}",
         "What was routed elsewhere and is for {dl_dst:mac} in {dl_vlan:segment} comes from the gateway {mac}, as "
         "far as the VM can tell."),
    rule((1, 2), 1, "", "drop", "From a distributed router, but not for a port of this host: dropped."),
    rule((3, 4), 5, "dl_vlan dl_dst", "dl_dst={mac},untag,out={port}",
         "What is for this host's DVR MAC {dl_dst:mac} in {dl_vlan:segment} is for the gateway {mac:mac}: to "
         "{port:port}."),
    rule(23, 0, "", "drop",
         "Nothing comes here. When this row is gone, the agent knows that the switch has restarted."),
    rule(24, 2, "in_port kind=arp arp_spa", "->{next}", "{in_port:port} may say in ARP that it has {arp_spa:ip}."),
    rule(24, 2, "in_port kind=icmp6 icmp_type=136 nd_target", "->{next}",
         "{in_port:port} may advertise that it has {nd_target:ip}."),
    rule(24, 0, "", "drop", "Any other claim to an address is a lie: dropped."),
    rule(25, 2, "in_port dl_src", "->{next}", "{in_port:port} may send as {dl_src:mac}."),
    rule((24, 25), 2, "in_port kind=arp arp_spa", "normal",
         "{in_port:port} may say in ARP that it has {arp_spa:ip}; switched by MAC."),
    rule(25, 2, "in_port dl_src", "normal", "{in_port:port} may send as {dl_src:mac}; switched by MAC."),
    rule(25, 0, "", "drop", "Any other MAC is a lie: dropped."),
    rule(30, 10, "in_port", "reg6={vlan},resubmit({again},31)",
         "What {in_port:port} sends, in {vlan:vlan}, is looked up among the Local IPs."),
    rule((30, 31), 0, "", "->58", "Not for a Local IP: on as usual."),
)

LOCAL_IP: Final[tuple[Rule, ...]] = (
    rule(31, 11, "kind=ip reg6 nw_src nw_dst", "->60",
         "{nw_src:ip} of {reg6:vlan}, which stands for the Local IP {nw_dst} here, reaches the real owner of it."),
    rule(31, 10, "kind=ip reg6 nw_dst", "dl_dst={mac},ct(commit;table=60;zone={zone};nat(dst={address}))",
         "The Local IP {nw_dst} of {reg6:vlan} is {address:ip} ({mac:mac}) on this host; the connection is "
         "remembered in zone {zone}."),
    rule(31, 10, "kind=ip ct_state=-trk reg6 dl_src nw_src", "ct(table=60;zone={zone};nat)",
         "Answers of {nw_src:ip} with {dl_src:mac} in {reg6:vlan} get the Local IP again that was asked (zone "
         "{zone})."),
    rule(31, 10, "kind=ip|icmp|tcp|udp reg6 nw_dst", "dl_dst={mac},learn({what*}),nw_dst={address},->60",
         "The Local IP {nw_dst} of {reg6:vlan} is {address:ip} ({mac:mac}) on this host ({kind:kind}); a row for "
         "the answers is learned in table {what:learned}, without connection tracking."),
    rule((31, 94), 20, "*", "nw_src={address},out={out}",
         "Learned: {packet:packet} is an answer, which gets the Local IP {address} again and goes to {out:port}."),
    rule(31, 1, "kind=arp reg6 arp_tpa", ANSWER,
         "Who asks in {reg6:vlan} for the Local IP {arp_tpa} is answered here: {mac:mac}."),
)

LATER: Final[tuple[Rule, ...]] = (
    rule((58, 59), 100, "in_port dl_src", "meter={meter},->{next}",
         "Quality of service: what {in_port:port} sends as {dl_src:mac} is limited by meter {meter}, in "
         "{table:limit}."),
    rule((58, 59), 100, "dl_vlan dl_dst", "meter={meter},->{next}",
         "Quality of service: what is for {dl_dst:mac} in {dl_vlan:vlan} is limited by meter {meter}, in "
         "{table:limit}."),
    rule((58, 59), 100, "in_port dl_src", "->{next}",
         "Quality of service: what {in_port:port} sends as {dl_src:mac} is limited by a meter, in {table:limit} "
         "(this dump, of OpenFlow 1.0, does not show which)."),
    rule((58, 59), 100, "dl_vlan dl_dst", "->{next}",
         "Quality of service: what is for {dl_dst:mac} in {dl_vlan:vlan} is limited by a meter, in {table:limit} "
         "(this dump, of OpenFlow 1.0, does not show which)."),
    rule((58, 59), 0, "", "->{next}", "What no meter limits goes on as it is."),
    rule(60, 102, "kind=udp nw_dst tp_dst", "controller",
         "DNS queries for {nw_dst}, port {tp_dst}, are forwarded by the agent itself."),
    rule(60, 102, "kind=udp6 ipv6_dst tp_dst", "controller",
         "DNS queries for {ipv6_dst}, port {tp_dst}, are forwarded by the agent itself."),
    rule(60, 101, "kind=udp nw_dst=255.255.255.255 tp_src=68 tp_dst=67", "->77",
         "DHCP requests are answered by the agent of this host."),
    rule(60, 101, "kind=udp6 ipv6_dst=ff02::1:2 tp_src=546 tp_dst=547", "->78",
         "DHCPv6 requests are answered by the agent of this host."),
    rule(60, (4, 20), "dl_vlan=none dl_dst", "out={port}", "{dl_dst:mac}, of the flat network, is {port:port}."),
    rule(60, (4, 20), "dl_vlan dl_dst", "untag,out={port}",
         "{dl_dst:mac} in {dl_vlan:segment} is {port:port}; its VLAN tag is taken off."),
    rule(60, 9, "in_port dl_src", "reg6={vlan},->61",
         "What {in_port:port} sends as {dl_src:mac}, in {vlan:vlan}, goes straight to its port if that is on this "
         "host."),
    rule(60, 4, "in_port", "->61", "What comes by {in_port:port} goes straight to its port."),
    rule(60, 2, "", "->94", "What is for no port of this host goes straight out, without MAC learning."),
    rule(60, (1, 3), "", "normal", "Everything else is switched by MAC, within its VLAN."),
    rule(61, 12, "dl_vlan dl_dst", "untag,out={port}",
         "{dl_dst:mac} in {dl_vlan:vlan} is {port:port}; its VLAN tag is taken off."),
    rule(61, 12, "reg6 dl_dst", "out={port}", "{dl_dst:mac} in {reg6:vlan} is {port:port}."),
    rule(61, 0, "", "->62", "The MAC is not of this host: on to the way out."),
    rule(62, 10, f"in_port dl_src dl_dst={ONE}", "vlan={vlan},out={port}",
         "What {in_port:port} sends as {dl_src:mac} to one MAC elsewhere leaves in {vlan:vlan} by {port:port}, "
         "without MAC learning."),
    rule(62, ANY, "", "normal", "Broadcasts and the rest are switched by MAC, within their VLAN."),
    rule((77, 78), 100, "kind=udp|udp6 in_port dl_src tp_src tp_dst", "controller",
         "{table:dhcp} requests of {in_port:port}, {dl_src:mac}, are answered by the agent of this host."),
    rule((77, 78), 0, "", "drop", "Nobody else is answered: dropped."),
)
