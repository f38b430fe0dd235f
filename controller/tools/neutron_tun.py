"""The flows of Neutron's br-tun and of its physical bridges (br-ex and its like), with DVR and the metadata path."""
from __future__ import annotations

from typing import Final

from controller.tools.neutron_rules import by_table, rule

ANY: Final = ()
LEARN: Final = ("learn(table=20;hard_timeout={age};priority=1;NXM_OF_VLAN_TCI[0..11];NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[];"
                "load:0->NXM_OF_VLAN_TCI[];load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[];output:NXM_OF_IN_PORT[])")
ANSWER: Final = ("arp_op=2,arp_sha>arp_tha,arp_spa>arp_tpa,arp_sha={mac},arp_spa={arp_tpa},dl_src>dl_dst,dl_src={mac},"
                 "back")
OLD_ANSWER: Final = ("dl_src>dl_dst,dl_src={mac},arp_op=2,arp_sha>arp_tha,arp_spa>arp_tpa,arp_sha={mac},"
                     "arp_spa={arp_tpa},back")  # before the native driver
ONE: Final = "00:00:00:00:00:00/01:00:00:00:00:00"
MANY: Final = "01:00:00:00:00:00/01:00:00:00:00:00"

TUN_TABLES: Final = {
    0: ("LOCAL_SWITCHING", "From this host, or from a tunnel?"),
    1: ("DVR_PROCESS", "Is it of a distributed router?"),
    2: ("PATCH_LV_TO_TUN", "Is it for one, or for all?"),
    3: ("GRE_TUN_TO_LV", "Which local VLAN is this tunnel id here?"),
    4: ("VXLAN_TUN_TO_LV", "Which local VLAN is this tunnel id here?"),
    6: ("GENEVE_TUN_TO_LV", "Which local VLAN is this tunnel id here?"),
    9: ("DVR_NOT_LEARN", "Is it of a distributed router elsewhere?"),
    10: ("LEARN_FROM_TUN", "Through which tunnel did this MAC come?"),
    20: ("UCAST_TO_TUN", "Which host has this MAC?"),
    21: ("ARP_RESPONDER", "Can this ARP request be answered here?"),
    22: ("FLOOD_TO_TUN", "Which tunnels carry this network?"),
}
TUN: Final = by_table((
    rule(0, 1, "in_port", "->2", "What comes from this host, by {in_port:port}, is on its way to other hosts."),
    rule(0, 1, "in_port", "->1",
         "What comes from this host, by {in_port:port}, is looked at for distributed routers first."),
    rule(0, 1, "in_port", "->3", "What comes out of {in_port:tunnel} is GRE: its tunnel id becomes a local VLAN."),
    rule(0, 1, "in_port", "->4", "What comes out of {in_port:tunnel} is VXLAN: its tunnel id becomes a local VLAN."),
    rule(0, 1, "in_port", "->6", "What comes out of {in_port:tunnel} is Geneve: its tunnel id becomes a local VLAN."),
    rule(0, 0, "", "drop", "What comes from anywhere else is dropped."),
    rule(1, 2, "dl_vlan dl_dst", "drop",
         "Nothing leaves for {dl_dst:mac}: every host has this gateway of {dl_vlan:vlan} itself, in its "
         "distributed router."),
    rule(1, 1, "dl_vlan dl_src", "dl_src={mac},->2",
         "What the distributed router sends from its gateway {dl_src:mac} on {dl_vlan:vlan} leaves with this "
         "host's own DVR MAC {mac}, so that no switch learns the gateway elsewhere."),
    rule(1, 3, "dl_vlan kind=arp arp_tpa", "drop",
         "ARP for the gateway {arp_tpa:ip} of {dl_vlan:vlan} does not leave: every host has it itself."),
    rule(1, 3, "dl_vlan kind=icmp6 icmp_type=134 dl_src", "drop",
         "Router advertisements of the gateway {dl_src:mac} on {dl_vlan:vlan} do not leave: every host sends its "
         "own."),
    rule(1, 0, "", "->2", "What is not of a distributed router goes on as usual."),
    rule(2, 1, "kind=arp dl_dst=ff:ff:ff:ff:ff:ff", "->21",
         "Broadcast ARP tries the ARP responder of this host first."),
    rule(2, 0, f"dl_dst={ONE}", "->20", "Frames for one MAC look for the one host that has it."),
    rule(2, 0, f"dl_dst={MANY}", "->22", "Broadcasts and multicasts are flooded."),
    rule((3, 4, 6), 1, "tun_id", "vlan={vlan},->10",
         "{tun_id:tun} is {vlan:vlan} on this host: tagged so, and then it is learned where the sender lives."),
    rule((3, 4, 6), 1, "tun_id", "vlan={vlan},->9",
         "{tun_id:tun} is {vlan:vlan} on this host: tagged so; distributed routers elsewhere are told apart next."),
    rule((3, 4, 6), 0, "", "drop", "Other tunnel ids are of networks that this host does not have: dropped."),
    rule(9, 1, "dl_src", "out={port}",
         "{dl_src:mac} is the DVR MAC of another host: straight to this host, by {port:port}, and nothing is "
         "learned from it."),
    rule(9, 0, "", "->10", "From any other sender it is learned where it lives."),
    rule(10, 1, "", f"{LEARN},out={{port}}",
         "It is remembered for {age:seconds} that the sender's MAC in this VLAN lives behind the tunnel it came by "
         "(a row in table 20); the frame goes to this host, by {port:port}."),
    rule(10, 2, "kind=arp arp_tha=ff:ff:ff:ff:ff:ff", f"{LEARN},out={{port}}",
         "A gratuitous ARP is learned from at once and for itself, so that an address that has moved is found: for "
         "{age:seconds}; then to this host, by {port:port}."),
    rule(10, 2, "kind=icmp6 icmp_type=134|136", f"{LEARN},out={{port}}",
         "{icmp_type:icmp6} are learned from at once and for themselves, so that who has moved is found: for "
         "{age:seconds}; then to this host, by {port:port}."),
    rule(20, 2, "dl_vlan dl_dst", "untag,tun={tun},out={port}",
         "By l2population {dl_dst:mac} of {dl_vlan:vlan} lives behind {port:tunnel}: sent there with {tun:tun}."),
    rule(20, 1, "dl_vlan dl_dst", "untag,tun={tun},out={port}",
         "Learned: {dl_dst:mac} of {dl_vlan:vlan} lives behind {port:tunnel}; sent there with {tun:tun}, until "
         "this row is {hard_timeout:seconds} old."),
    rule(20, 0, "", "->22", "Nobody knows where this MAC lives: flooded."),
    rule(21, 1, "kind=arp dl_vlan arp_tpa", ANSWER,
         "Who asks in {dl_vlan:vlan} for {arp_tpa:ip} is answered here that it has {mac:mac}; the request does not "
         "leave the host."),
    rule(21, 1, "kind=arp dl_vlan arp_tpa", OLD_ANSWER,
         "Who asks in {dl_vlan:vlan} for {arp_tpa:ip} is answered here that it has {mac:mac}; the request does not "
         "leave the host."),
    rule(21, 0, "", "->22", "An address that the ARP responder does not know is asked for everywhere: flooded."),
    rule(22, 1, "dl_vlan", "untag,tun={tun},out={outs*}",
         "{dl_vlan:vlan} is flooded with {tun:tun} into {outs:tunnels}."),
    rule(22, 1, "dl_vlan", "untag,tun={tun}",
         "{dl_vlan:vlan} has {tun:tun}, but no other host has it: it goes nowhere."),
    rule(22, 3, "kind=arp dl_vlan arp_tpa", "drop",
         "ARP for the gateway {arp_tpa:ip} of {dl_vlan:vlan} does not leave: every host has it itself, in its "
         "distributed router."),
    rule(22, 3, "kind=icmp6 icmp_type=134 dl_vlan dl_src", "drop",
         "Router advertisements of the gateway {dl_src:mac} on {dl_vlan:vlan} do not leave: every host sends its "
         "own."),
    rule(22, 0, "", "drop", "No tunnel carries this VLAN: dropped."),
))

PHYS_TABLES: Final = {
    0: ("LOCAL_SWITCHING", "From this host, or from outside?"),
    1: ("DVR_PROCESS_PHYSICAL", "Is it of a distributed router?"),
    2: ("LOCAL_VLAN_TRANSLATION", "Which VLAN is this outside?"),
    3: ("DVR_NOT_LEARN_PHYSICAL", "Is it of a distributed router elsewhere?"),
    22: ("FLOOD_TO_TUN", "A table of br-tun, into which nothing leads here."),
    80: ("METADATA_EGRESS_NAT", "Which VM asks for metadata?"),
    87: ("METADATA_EGRESS_OUTPUT", "Where does the metadata service listen?"),
    90: ("METADATA_IP_ARP_RESPONDER", "Which address of a VM does the metadata service look for?"),
    91: ("METADATA_INGRESS_DIRECT", "Which VM is this answer for?"),
}
PHYS: Final = by_table((
    rule(0, 200, "in_port pkt_mark reg4=0", "queue={pkt_mark},reg4=1,->0",
         "Quality of service: what br-int has marked {pkt_mark} goes out through queue {pkt_mark}, which has a "
         "minimum bandwidth; then as usual."),
    rule(0, 201, "kind=ip in_port nw_dst=169.254.169.254", "->80", "Metadata requests of VMs, from {in_port:port}."),
    rule(0, 201, "kind=ip in_port", "vlan={vlan},->91",
         "Answers of the metadata service, from {in_port:port}, get VLAN {vlan} for the way to their VM."),
    rule(0, 201, "kind=arp in_port", "->90", "The metadata service asks by {in_port:port} where VMs are."),
    rule((0, 2), 4, "in_port dl_vlan", "vlan={segment},normal",
         "{dl_vlan:vlan} is VLAN {segment} of the physical network: tagged so and switched out."),
    rule((0, 2), 4, "in_port dl_vlan", "untag,normal",
         "{dl_vlan:vlan} is the flat network: untagged and switched out."),
    rule(2, 2, "in_port", "drop", "Other VLANs of {in_port:port} have no network outside: dropped."),
    rule(0, 2, "in_port", "drop", "Other VLANs of this host, by {in_port:port}, have no network outside: dropped."),
    rule(0, 2, "in_port", "->1",
         "What comes from this host, by {in_port:port}, is looked at for distributed routers first."),
    rule(0, 1, "", "->3", "What comes from outside is looked at for distributed routers elsewhere first."),
    rule((0, 3), (0, 1), "", "normal", "The rest is switched by MAC, as an ordinary switch does."),
    rule(1, 2, "dl_vlan dl_dst", "drop",
         "Nothing leaves for {dl_dst:mac}: every host has this gateway of {dl_vlan:vlan} itself, in its "
         "distributed router."),
    rule(1, 1, "dl_vlan dl_src", "dl_src={mac},->2",
         "What the distributed router sends from its gateway {dl_src:mac} on {dl_vlan:vlan} leaves with this "
         "host's own DVR MAC {mac}."),
    rule(1, 0, "", "->2", "What is not of a distributed router goes on as usual."),
    rule(3, 2, "dl_src", "out={port}",
         "{dl_src:mac} is the DVR MAC of another host: straight to this host, by {port:port}."),
    rule(1, 3, "kind=arp dl_vlan arp_tpa", "drop",
         "ARP for the gateway {arp_tpa:ip} of {dl_vlan:vlan} does not leave: every host has it itself."),
    rule(1, 3, "kind=icmp6 icmp_type=134 dl_vlan dl_src", "drop",
         "Router advertisements of the gateway {dl_src:mac} on {dl_vlan:vlan} do not leave: every host sends its "
         "own."),
    rule(22, 3, "kind=arp dl_vlan arp_tpa", "drop",
         "Meant to keep ARP for the gateway {arp_tpa:ip} of {dl_vlan:vlan} on this host; but nothing leads into "
         "this table here, so it has no effect."),
    rule(22, 3, "kind=icmp6 icmp_type=134 dl_vlan dl_src", "drop",
         "Meant to keep router advertisements of {dl_src:mac} on {dl_vlan:vlan} on this host; but nothing leads "
         "into this table here, so it has no effect."),
    rule(80, 201, "kind=ip dl_vlan dl_src nw_src", "untag,dl_src={mac},nw_src={address},->87",
         "{nw_src:ip} of {dl_vlan:vlan}, with {dl_src:mac}, is {address} ({mac}) towards the metadata service."),
    rule(87, 202, "kind=tcp nw_dst=169.254.169.254 tp_dst", "dl_dst={mac},nw_dst={address},tp_dst={port},out={out}",
         "Metadata requests go to the service at {address}, port {port}, by {out:port}."),
    rule(90, 200, "kind=arp arp_op=1 arp_tpa", ANSWER,
         "The metadata service is told that {arp_tpa:ip}, which stands for a VM, has {mac:mac}."),
    rule(91, 202, "kind=tcp in_port dl_vlan nw_dst",
         "vlan={vlan},dl_dst={mac},nw_src=169.254.169.254,nw_dst={address},tp_src=80,out={out}",
         "Answers to {nw_dst} are for {address:ip} with {mac:mac} in {vlan:vlan}: back to this host, by {out:port}."),
    rule((80, 87, 90, 91), 0, "", "drop", "Anything else on the metadata path is dropped."),
))
