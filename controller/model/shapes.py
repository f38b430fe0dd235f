"""From the tree of a file to a draft: each object is held against its shape alone, so none hides another's faults."""
from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from controller.model.draft import UNNAMED_CLOUD, Draft, Group, Item, SubnetItem
from controller.model.kinds import NAME, NAME_RULE, address
from controller.model.plugs import legs_of, port_item
from controller.model.problems import Finding, Nearest, describe, quoted
from controller.model.schema import (
    FloatingIpShape,
    GroupShape,
    HostShape,
    NetworkShape,
    OptionsShape,
    PortShape,
    RouterShape,
    RuleShape,
    Shape,
    SinglePortVmShape,
    SubnetShape,
    TunnelShape,
    UnderlayShape,
    VmShape,
)
from controller.model.tree import Node

OPTIONS: Final = tuple(OptionsShape.model_fields)
SECTIONS: Final = ("hosts", "networks", "routers", "floating_ips", "security_groups", "vms")
REQUIRED: Final = ("underlay", "hosts", "networks")

S = TypeVar("S", bound=Shape)
_TYPES: Final = {"string": "text", "int": "a whole number", "bool": "true or false", "list": "a list",
                 "dict": "a mapping of keys", "model": "a mapping of keys", "model_attributes": "a mapping of keys"}


class Shaper:
    """Holds one file against the shapes. `findings` grows while `draft` is made."""

    def __init__(self, root: Node) -> None:
        self.findings: list[Finding] = []
        self._root = root
        self._nearest = Nearest()

    def draft(self) -> Draft:
        """The parts of the file that have the right shape."""
        if not isinstance(self._root.children, dict):
            self._find("TB113", self._root, f"a topology is a mapping of keys, not {describe(self._root.data)}")
            return Draft(self._root, UNNAMED_CLOUD, {}, None, None)
        self._top_level_keys()
        options = self._options()
        draft = Draft(self._root, str(options.get("cloud", UNNAMED_CLOUD)), options,
                      self._single("underlay", UnderlayShape), self._single("tunnel", TunnelShape))
        for fill in (self._hosts, self._networks, self._vms, self._routers, self._floating_ips, self._groups):
            fill(draft)
        return draft

    def _top_level_keys(self) -> None:
        known = frozenset((*OPTIONS, "underlay", "tunnel", *SECTIONS))
        children = typing.cast("dict[str, Node]", self._root.children)
        for key, node in children.items():
            if key not in known:
                self._find("TB111", node, f"unknown key {quoted(key)}", self._nearest.hint(key, known))
        for key in REQUIRED:
            if key not in children:
                self._find("TB112", self._root, f'the key "{key}" is missing')

    def _options(self) -> dict[str, object]:
        """The single values, each judged alone: one that is wrong leaves the others in force."""
        children = typing.cast("dict[str, Node]", self._root.children)
        given = {key: children[key].data for key in OPTIONS if key in children}
        try:
            return OptionsShape.model_validate(given).model_dump()
        except ValidationError as error:
            self._report(error, OptionsShape, self._root, "")
            wrong = {str(each["loc"][0]) for each in error.errors()}
            right = {key: value for key, value in given.items() if key not in wrong}
            return OptionsShape.model_construct(**right).model_dump()

    def _single(self, key: str, model: type[S]) -> Item[S] | None:
        """The object behind a top-level key; an absent optional one is all defaults."""
        node = self._root.child(key)
        if node is None or (node.data is None and key not in REQUIRED):
            return None if key in REQUIRED else Item(key, key, model(), self._root)
        return self._item(key, key, model, node)

    def _hosts(self, draft: Draft) -> None:
        for name, node in self._entries(draft, "hosts"):
            item = self._item(name, f"hosts.{word(name)}", HostShape, node)
            if item is not None:
                draft.hosts[name] = item

    def _networks(self, draft: Draft) -> None:
        names_: set[str] = set()
        certain = True
        for name, node in self._entries(draft, "networks"):
            certain &= self._subnets(draft, name, node, names_)
            item = self._item(name, f"networks.{word(name)}", NetworkShape, node)
            if item is None:
                draft.unsure.add(name)
            else:
                draft.networks[name] = item
        certain &= draft.declared["networks"] is not None
        draft.declared["subnets"] = frozenset(names_) if certain else None

    def _subnets(self, draft: Draft, network: str, node: Node, declared: set[str]) -> bool:
        """Whether the names of all subnets of a network are known; they go to `declared`."""
        subnets = node.child("subnets")
        draft.subnets_by_network[network] = []
        if subnets is None or subnets.data is None:
            return isinstance(node.children, dict)
        if not isinstance(subnets.children, dict):
            draft.unsure.add(network)  # as NetworkShape reports it
            return False
        declared.update(subnets.children)
        for name, child in subnets.children.items():
            path = f"networks.{word(network)}.subnets.{word(name)}"
            self._check_name(name, child, f"networks.{word(network)}.subnets")
            item = self._item(name, path, SubnetShape, child)
            if item is None:
                draft.unsure.add(network)
                continue
            subnet_id = item.shape.id or draft.object_id(f"networks/{network}/subnets/{name}")
            found = SubnetItem(name, path, item.shape, child, network, subnet_id)
            draft.subnets_by_network[network].append(found)
            first = draft.subnets.setdefault(name, found)
            if first is not found:
                self._find("TB202", child, f"{path}: there is already a subnet {quoted(name)}",
                           f"the other is {first.path} in line {first.line}")
        return True

    def _vms(self, draft: Draft) -> None:
        for name, node in self._entries(draft, "vms"):
            path = f"vms.{word(name)}"
            listed = isinstance(node.children, dict) and "ports" in node.children
            item = self._item(name, path, VmShape, node) if listed else self._item(name, path, SinglePortVmShape, node)
            if item is None:
                continue
            draft.vms[name] = item
            shapes = item.shape.ports if isinstance(item.shape, VmShape) else [item.shape]
            if not shapes:
                self._find("TB125", node, f"{path}: the list of ports is empty", "give the VM a port", "ports")
            for index, shape in enumerate(shapes):
                draft.ports.append(port_item(draft, item, index, shape, len(shapes)))

    def _routers(self, draft: Draft) -> None:
        for name, node in self._entries(draft, "routers"):
            item = self._item(name, f"routers.{word(name)}", RouterShape, node)
            if item is not None:
                draft.routers[name] = item
                draft.legs.extend(legs_of(draft, item))

    def _floating_ips(self, draft: Draft) -> None:
        for key, node in self._entries(draft, "floating_ips", named=False):
            path = f"floating_ips.{word(key)}"
            try:
                address(key)
            except ValueError:
                self._find("TB119", node, f"{path}: {quoted(key)} is not an IP address")
            else:
                item = self._item(key, path, FloatingIpShape, node)
                if item is not None:
                    draft.floating_ips[key] = item

    def _groups(self, draft: Draft) -> None:
        """A group is a list of rules, or a mapping with such a list behind `rules` where it needs an id."""
        for name, node in self._entries(draft, "security_groups"):
            path = f"security_groups.{word(name)}"
            group_id, rules = draft.object_id(f"security_groups/{name}"), node
            if isinstance(node.children, dict):
                group = self._item(name, path, GroupShape, node)
                if group is None:
                    continue
                group_id, rules = group.shape.id or group_id, node.children.get("rules", Node(node.at))
            elif node.data is not None and not isinstance(node.children, list):
                self._find("TB113", node, f"{path}: this must be a list of rules, not {describe(node.data)}")
                continue
            shaped = [self._item(str(index), f"{path}[{index}]", RuleShape, child)
                      for index, child in enumerate(typing.cast("list[Node]", rules.children or []))]
            draft.groups[name] = Group(name, path, node, group_id, tuple(rule for rule in shaped if rule is not None))

    def _entries(self, draft: Draft, section: str, *, named: bool = True) -> Iterator[tuple[str, Node]]:
        """The objects of a section by name; says what is wrong with the section and the names."""
        node = self._root.child(section)
        children = node.children if node is not None else None
        draft.declared[section] = frozenset(children) if isinstance(children, dict) else frozenset()
        if node is not None and node.data is not None and not isinstance(children, dict):
            draft.declared[section] = None
            self._find("TB113", node, f"{section}: this must be a mapping of names, not {describe(node.data)}")
            return
        if section in REQUIRED and node is None:
            draft.declared[section] = None
        if section == "hosts" and node is not None and not children:
            draft.declared[section] = None
            self._find("TB125", node, "hosts: there must be at least one host")
        for name, child in typing.cast("dict[str, Node]", children or {}).items():
            if named:
                self._check_name(name, child, section)
            yield name, child

    def _check_name(self, name: str, node: Node, path: str) -> None:
        if NAME.fullmatch(name) is None:
            at = node.place
            self.findings.append(Finding("TB201", at, f"{path}: {quoted(name)} is not a legal name", NAME_RULE))

    def _item(self, name: str, path: str, model: type[S], node: Node) -> Item[S] | None:
        try:
            return Item(name, path, model.model_validate(node.data), node)
        except ValidationError as error:
            self._report(error, model, node, path)
            return None

    def _report(self, error: ValidationError, model: type[BaseModel], node: Node, path: str) -> None:
        for each in error.errors(include_url=False):
            loc = tuple(each["loc"])
            kind, context = each["type"], each.get("ctx", {})
            if kind == "missing":
                where, key = join(path, loc[:-1]), str(loc[-1])
                self._find("TB112", node, f'{where}the key "{key}" is missing', "", *loc[:-1])
            elif kind == "extra_forbidden":
                self._unknown_key(model, node, path, loc)
            elif kind.startswith("TB"):
                self._find(kind, node, join(path, loc) + context["message"], context["hint"], *loc)
            else:
                wanted = _TYPES.get(kind.removesuffix("_type"), each["msg"])
                found, one = describe(each["input"]), isinstance(each["input"], (str, int, float))
                hint = f"put it in brackets: [{quoted(each['input'])[1:-1]}]" if wanted == "a list" and one else ""
                self._find("TB113", node, f"{join(path, loc)}this must be {wanted}, not {found}", hint, *loc)

    def _unknown_key(self, model: type[BaseModel], node: Node, path: str, loc: tuple[str | int, ...]) -> None:
        key, where = str(loc[-1]), join(path, loc[:-1])
        holder = model_at(model, loc[:-1])
        at = node.key_of(*loc)
        if holder is VmShape and key in PortShape.model_fields:
            hint = "with a list of ports, this belongs on one of them"
            self.findings.append(Finding("TB122", at, f'{where}"{key}" and "ports" exclude each other', hint))
            return
        known = {info.alias or field for field, info in holder.model_fields.items()}
        if holder is SinglePortVmShape:
            known.add("ports")
        hint = self._nearest.hint(key, frozenset(known))
        self.findings.append(Finding("TB111", at, f"{where}unknown key {quoted(key)}", hint))

    def _find(self, code: str, node: Node, message: str, hint: str = "", *path: str | int) -> None:
        self.findings.append(Finding(code, node.find(*path), message, hint))


def word(name: str) -> str:
    """A name inside a path: as it is, or in quotes if it is not a legal one."""
    return name if NAME.fullmatch(name) else quoted(name)


def join(path: str, loc: tuple[str | int, ...]) -> str:
    """`vms.web1.ports[0].ip: `, the beginning of a message; empty for the file as a whole."""
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{word(str(step))}" if path else word(str(step))
    return f"{path}: " if path else ""


def model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    """The shape of the object at a location inside another shape."""
    for step in loc:
        for field, info in model.model_fields.items():
            if step in (field, info.alias):
                model = _model_in(info.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
