#!/usr/bin/python3 -IS
"""What busybox's DHCP client has learned, done: it runs this in the VM with one word, and the rest as variables.

The words are deconfig, bound, renew, leasefail and nak. A card's number is the metric of its routes, so the first
card's default route is the VM's.
"""
import os
import subprocess
import sys

ROOM = "/run/tunbridge-vm"  # the VM's own; resolv.conf there is seen as /etc/resolv.conf


def main(word, lease):
    """Obey one word; `lease` holds the variables that udhcpc(8) names."""
    if word == "deconfig":
        ip(f"address flush dev {lease['interface']} scope global", f"link set dev {lease['interface']} up")
    elif word in ("bound", "renew"):
        configure(lease)
        name_servers(lease)


def configure(lease):
    """The MTU, the address and the routes; what is there already is left as it is."""
    card = lease["interface"]
    address = f"{lease['ip']}/{lease.get('mask', '32')}"
    ip(*([f"link set dev {card} mtu {lease['mtu']}"] if "mtu" in lease else []),
       f"address replace {address} brd + dev {card}",
       *(f"address delete {old} dev {card}" for old in addresses(card) if old != address))
    wanted = routes(lease)
    for line in shown(card):
        if line.split()[0] not in wanted:
            ip(f"route delete {line.split()[0]} dev {card} proto dhcp")
    ip(*(f"route replace {destination} {way} dev {card} proto dhcp metric {metric(card)}"
         for destination, way in wanted.items()))


def routes(lease):
    """Destination -> `via GATEWAY`, or nothing on the wire itself. Classless routes replace the router (RFC 3442)."""
    words = (lease.get("staticroutes") or lease.get("msstaticroutes") or "").split()
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if not pairs:
        pairs = [("0.0.0.0/0", gateway) for gateway in lease.get("router", "").split()[:1]]
    return {destination_of(prefix): "" if gateway == "0.0.0.0" else f"via {gateway}" for prefix, gateway in pairs}


def destination_of(prefix):
    """As `ip route` shows it."""
    return "default" if prefix == "0.0.0.0/0" else prefix.removesuffix("/32")


def metric(card):
    """eth1's routes are second to eth0's."""
    digits = card.lstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits) if digits.isdigit() else 0


def name_servers(lease):
    """Each card's in a file of its own, all of them in resolv.conf."""
    if not os.path.ismount(ROOM):
        return
    mine = os.path.join(ROOM, f"dns.{lease['interface']}")
    with open(mine, "w", encoding="ascii") as file:
        file.writelines(f"nameserver {address}\n" for address in lease.get("dns", "").split())
    with open(os.path.join(ROOM, "resolv.conf"), "w", encoding="ascii") as file:
        for name in sorted(name for name in os.listdir(ROOM) if name.startswith("dns.")):
            with open(os.path.join(ROOM, name), encoding="ascii") as part:
                file.write(part.read())


def addresses(card):
    """The card's own, with their prefix lengths."""
    text = output("-o", "-4", "address", "show", "dev", card, "scope", "global")
    return [line.split()[3] for line in text.splitlines()]


def shown(card):
    """The routes that an earlier lease has brought."""
    return output("route", "show", "dev", card, "proto", "dhcp").splitlines()


def output(*words):
    """What `ip` says."""
    return subprocess.run(["ip", *words], stdout=subprocess.PIPE, text=True, check=False).stdout


def ip(*lines):
    """Some `ip` commands in one go; one that fails keeps none of the others from being done."""
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(["ip", "-force", "-batch", "-"], input=text, text=True, check=False)


if __name__ == "__main__":
    main(sys.argv[1], os.environ)
