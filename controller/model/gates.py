"""Where pings meet security groups: at the card that they leave, and at the one that they enter."""
from __future__ import annotations

from controller.model.filtering import Filters
from controller.model.protocols import echo
from controller.model.topology import Address, Port


class Gates:
    """The security groups of a topology, asked for pings."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters

    def leaves(self, card: object, source: Address, destination: Address) -> bool:
        """Whether whoever asks may ask; who is no VM's card may."""
        return not isinstance(card, Port) or self.filters.leaves(card, echo(source, destination)).passes

    def enters(self, card: object, source: Address, destination: Address) -> bool:
        """Whether whoever is asked hears it."""
        return not isinstance(card, Port) or self.filters.enters(card, echo(source, destination)).passes

    def answers(self, card: Port, asked: Port) -> bool:
        """Whether a card of a VM may say what answers a question to another: only where nobody wants to know it."""
        return card == asked or self.filters.profile(card) is None

    def lets_talk(self, source: Port, target: Port) -> bool:
        """Whether two on one subnet may, the source first."""
        if source.ip.version != target.ip.version:  # they cannot be on one subnet
            return False
        return self.leaves(source, source.ip, target.ip) and self.enters(target, source.ip, target.ip)
