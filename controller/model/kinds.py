"""The kinds of values in a topology.yaml, as pydantic types whose refusals are already findings: code, words, hint."""
from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from controller.model.names import STRANGERS
from controller.model.problems import Nearest, describe, quoted
from controller.model.topology import Address, Prefix

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(?:(:)|-)[0-9a-fA-F]{2}(?:(?(1):|-)[0-9a-fA-F]{2}){4}")
_DEVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_DATAPATH_ID: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{1,16}")
_PORTS: Final = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?")
_TUNNEL_DEVICE: Final = re.compile(r"(vxlan|gre|geneve)-.*")
# Names that we, or the kernel, need for something else on every host.
RESERVED_DEVICES: Final = frozenset({"lo", "all", "default", "br-int", "br-tun", "br-ex", "br-phy", "patch-tun",
                                     "patch-int", "int-br-ex", "phy-br-ex", "ovs-netdev", "ovs-system",
                                     STRANGERS})
PROTOCOLS: Final = frozenset({"any", "ah", "dccp", "egp", "esp", "gre", "icmp", "icmpv6", "igmp", "ipip", "ospf",
                              "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp"})


def refuse(code: str, message: str, hint: str = "") -> PydanticCustomError:
    """An error that pydantic collects and `shapes` turns into a finding."""
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def wrong_type(wanted: str, value: object, hint: str = "") -> PydanticCustomError:
    """The error for a value of another type than wanted."""
    if wanted == "text" and isinstance(value, (bool, int, float)):
        hint = f'put it in quotes: "{str(value).lower()}"'
    return refuse("TB113", f"this must be {wanted}, not {describe(value)}", hint)


def name(value: Any) -> str:
    """A name that may be given to an object: letters, digits, dot, underscore, hyphen; at most 63."""
    text = reference(value)
    if NAME.fullmatch(text) is None:
        raise refuse("TB201", f"{quoted(text)} is not a legal name", NAME_RULE)
    return text


NAME_RULE: Final = "use up to 63 letters, digits, dots, hyphens and underscores, and start with a letter or a digit"


def reference(value: Any) -> str:
    """The name of another object; whether that exists is checked later."""
    if not isinstance(value, str):
        raise wrong_type("text", value)
    return value


def truth(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong_type("true or false", value)
    return value


def number(low: int, high: int) -> Callable[[Any], int]:
    """A whole number from low to high, both included."""
    def whole(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type("a whole number", value)
        if not low <= value <= high:
            raise refuse("TB116", f"{value} is out of range", f"from {low} to {high}")
        return value
    return whole


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of a few words."""
    def word(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type(" or ".join(choices), value)
        if value not in choices:
            hint = Nearest().hint(value, frozenset(choices))
            raise refuse("TB114", f"{quoted(value)} is not one of the possible values", hint)
        return value
    return word


def address(value: Any) -> Address:
    """An IPv4 or IPv6 address without zone."""
    if not isinstance(value, str):
        raise wrong_type("an IP address", value)
    try:
        if "%" not in value:
            return ip_address(value)
    except ValueError:
        pass
    hint = "leave the prefix length out" if "/" in value else ""
    raise refuse("TB119", f"{quoted(value)} is not an IP address", hint)


def address_or_dhcp(value: Any) -> Address | str:
    """An address, or the word dhcp."""
    return value if value == "dhcp" else address(value)


def prefix(value: Any) -> Prefix:
    """An address prefix such as 10.0.1.0/24; an address alone is the prefix that holds only it."""
    if not isinstance(value, str):
        raise wrong_type("an address prefix", value)
    try:
        wide = ip_network(value, strict=False)
    except ValueError:
        raise refuse("TB120", f"{quoted(value)} is not an address prefix", "such as 10.0.1.0/24") from None
    if str(wide.network_address) != str(ip_address(value.split("/")[0])):
        raise refuse("TB121", f"{quoted(value)} has host bits set", f"the prefix is {wide}")
    return wide


def cidr(value: Any) -> Prefix:
    """A prefix that hosts can live in."""
    found = prefix(value)
    if "/" not in value:
        raise refuse("TB120", f"{quoted(value)} has no prefix length", "such as 10.0.1.0/24")
    if found.is_multicast or found.is_loopback or found.prefixlen == 0:
        raise refuse("TB314", f"hosts cannot have addresses of {found}")
    return found


def mac(value: Any) -> str:
    """A MAC address of one port, in lower case with colons."""
    if not isinstance(value, str) or _MAC.fullmatch(value) is None:
        hint = "six pairs of hexadecimal digits, such as fa:16:3e:00:00:50"
        raise refuse("TB118", f"{quoted(value)} is not a MAC address", hint)
    text = value.lower().replace("-", ":")
    if int(text[:2], 16) & 1:
        raise refuse("TB313", f"{text} is a multicast or broadcast address", "make its first byte even")
    if text == "00:00:00:00:00:00":
        raise refuse("TB313", "a port cannot have the MAC address of all zeros")
    return text


def uuid(value: Any) -> UUID:
    """A UUID in its usual form of 36 characters."""
    try:
        if isinstance(value, str) and len(value) == 36:
            return UUID(value)
    except ValueError:
        pass
    raise refuse("TB117", f"{quoted(value)} is not a UUID", "leave the id out to have one made")


def datapath_id(value: Any) -> int:
    """Up to 16 hexadecimal digits in quotes, not all zero."""
    if isinstance(value, int):
        raise wrong_type("text", value)
    if not isinstance(value, str) or _DATAPATH_ID.fullmatch(value) is None or int(value, 16) == 0:
        hint = 'up to 16 hexadecimal digits in quotes, not all zero, such as "00000000000000a1"'
        raise refuse("TB123", f"{quoted(value)} is not a datapath id", hint)
    return int(value, 16)


def device(value: Any) -> str:
    """The name of a network device: at most 15 characters, and not one of ours."""
    text = reference(value)
    if _DEVICE.fullmatch(text) is None:
        raise refuse("TB124", f"{quoted(text)} is not a device name", "up to 15 letters, digits, dots and hyphens")
    if text in RESERVED_DEVICES or _TUNNEL_DEVICE.fullmatch(text):
        raise refuse("TB124", f"{quoted(text)} is a device of every host", "choose another name")
    return text


def bridge(value: Any) -> str:
    """The name of a provider bridge: a device's name, and not that of a bridge or port that every host has."""
    text = reference(value)
    if not is_bridge(text):
        hint = "up to 15 letters, digits, dots and hyphens, and not a device of every host"
        raise refuse("TB124", f"{quoted(text)} cannot be the name of a provider bridge", hint)
    return text


def is_bridge(text: str) -> bool:
    """Whether a provider bridge may have this name."""
    ours = text in RESERVED_DEVICES - {"br-ex"} or _TUNNEL_DEVICE.fullmatch(text) is not None
    return _DEVICE.fullmatch(text) is not None and not ours


def ports(value: Any) -> tuple[int, int]:
    """One port, or a range such as "8000-8010"; 1 to 65535."""
    found = _PORTS.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        low, high = int(found[1]), int(found[2] or found[1])
    elif isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    else:
        raise refuse("TB126", f"{describe(value)} is not a port", 'a number from 1 to 65535, or a range "8000-8010"')
    if not 1 <= low <= high <= 65535:
        raise refuse("TB126", f"{value} is not a port or a range of ports", "from 1 to 65535, the lower one first")
    return low, high


def protocol(value: Any) -> str | int | None:
    """A protocol's name or number; None for `any`."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= 255:
            return value
        raise refuse("TB127", f"{value} is not an IP protocol", "from 0 to 255")
    if not isinstance(value, str) or value not in PROTOCOLS:
        hint = Nearest().hint(value, PROTOCOLS) if isinstance(value, str) else "a name such as tcp, or a number"
        raise refuse("TB127", f"{quoted(value)} is not an IP protocol", hint or "a name such as tcp, or a number")
    return None if value == "any" else value


def host_range(wide: Prefix) -> tuple[int, int]:
    """The first and last address of a prefix that a host can have, as numbers.

    An IPv4 prefix gives up its own address and the broadcast address (not so a /31: RFC 3021); an IPv6 prefix its
    own address, which belongs to any router (RFC 4291, 2.6.1), unless it is a /127 (RFC 6164) or /128.
    """
    first, last = int(wide.network_address), int(wide.broadcast_address)
    if isinstance(wide, IPv4Network):
        return (first, last) if wide.prefixlen >= 31 else (first + 1, last - 1)
    assert isinstance(wide, IPv6Network)
    return (first, last) if wide.prefixlen >= 127 else (first + 1, last)


def can_be_host(value: Address, wide: Prefix) -> bool:
    """Whether an address is one that a host of the prefix can have."""
    low, high = host_range(wide)
    return value in wide and low <= int(value) <= high


Name = Annotated[str, PlainValidator(name)]
Reference = Annotated[str, PlainValidator(reference)]
Truth = Annotated[bool, PlainValidator(truth)]
Ip = Annotated[Address, PlainValidator(address)]
IpOrDhcp = Annotated[Address | str, PlainValidator(address_or_dhcp)]
AnyPrefix = Annotated[Prefix, PlainValidator(prefix)]
Cidr = Annotated[Prefix, PlainValidator(cidr)]
Mac = Annotated[str, PlainValidator(mac)]
Uuid = Annotated[UUID, PlainValidator(uuid)]
DatapathId = Annotated[int, PlainValidator(datapath_id)]
Device = Annotated[str, PlainValidator(device)]
Bridge = Annotated[str, PlainValidator(bridge)]
PortRange = Annotated[tuple[int, int], PlainValidator(ports)]
Protocol = Annotated[str | int | None, PlainValidator(protocol)]
Whole = Annotated[int, PlainValidator(number(-(10 ** 29), 10 ** 29))]
