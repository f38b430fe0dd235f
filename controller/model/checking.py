"""All checks of what a file means, in one list. Each takes the draft and yields findings; none depends on another."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from controller.model.check_addresses import check_addresses, check_macs, check_ports
from controller.model.check_floating_ips import check_floating_ips
from controller.model.check_groups import warn_of_groups
from controller.model.check_limits import (
    check_flooding,
    check_numbers,
    check_vlans,
    check_zones,
    warn_of_dhcp,
    warn_of_networks,
)
from controller.model.check_names import check_devices, check_hosts, check_ids, check_node_names, check_references
from controller.model.check_networks import check_subnets, check_tunnel_ids, check_underlay
from controller.model.check_pairs import warn_of_ports
from controller.model.check_providers import check_bridges, check_provider
from controller.model.check_routers import check_routers, warn_of_routers
from controller.model.check_rules import check_rules
from controller.model.check_shadowing import check_shadowing
from controller.model.draft import Draft
from controller.model.problems import Finding

CHECKS: Final[tuple[Callable[[Draft], Iterator[Finding]], ...]] = (
    check_references, check_node_names, check_ids, check_devices, check_hosts,
    check_underlay, check_tunnel_ids, check_provider, check_bridges, check_subnets,
    check_addresses, check_macs, check_ports, check_routers, check_floating_ips, check_rules, check_vlans,
    check_numbers, check_zones, check_flooding,
    warn_of_networks, warn_of_ports, warn_of_routers, warn_of_dhcp, warn_of_groups, check_shadowing,
)


def check(draft: Draft) -> Iterator[Finding]:
    """Everything wrong or doubtful about the parts of a file whose shape is right."""
    for each in CHECKS:
        yield from each(draft)
