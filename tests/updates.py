"""What a switch says of its flows, as values."""
from __future__ import annotations

from controller.switch import packing
from controller.switch.dumps import Content, Update
from flows.cookie import cookie_of
from flows.flow import Flow


def update(event: int, of: Flow, *, cookie: int | None = None, doing: Flow | None = None) -> Update:
    """Cookie and actions are the flow's own, if nothing else is said."""
    return Update(event, of.table.id, of.priority, cookie_of(of) if cookie is None else cookie,
                  packing.fields(of.match), packing.instructions((doing or of).actions))


def content(of: Flow, *, cookie: int | None = None, doing: Flow | None = None) -> Content:
    """The same as a row of a dump."""
    return Content(of.table.id, of.priority, cookie_of(of) if cookie is None else cookie, packing.fields(of.match),
                   packing.instructions((doing or of).actions))
