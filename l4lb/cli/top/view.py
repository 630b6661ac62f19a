"""What a person has chosen to see in ``l4lb top``, and what keys make of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from l4lb.cli.output import printable
from l4lb.cli.rates import Target
from l4lb.cli.top import LONGEST, SHORTEST
from l4lb.cli.top.columns import COLUMNS, NAMED

_INTERVALS = (SHORTEST, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, LONGEST)
_PAGE = 10  # backends

HELP = (
    "arrows: select",
    "s: sort",
    "r: reverse",
    "f: one service",
    "d: drain",
    "e: enable",
    "space: pause",
    "+ -: interval",
    "q: quit",
)


@dataclass(frozen=True, slots=True)
class View:
    """The state of the screen."""

    sort: str = "backend"
    reverse: bool = False
    interval: float = 1.0  # seconds between looks
    service: str | None = None  # only this one
    selected: Target | None = None
    paused: bool = False
    draining: Target | None = None  # asked whether to, not answered yet
    help: bool = False
    message: str = ""  # until the next key

    def said(self, message: str) -> View:
        """With something to tell."""
        return replace(self, message=message)


@dataclass(frozen=True, slots=True)
class Quit:
    """End."""


@dataclass(frozen=True, slots=True)
class Change:
    """Ask the daemon to change a backend."""

    target: Target
    action: Literal["drain", "enable"]


def selection(view: View, order: Sequence[Target]) -> Target | None:
    """The backend that is selected, of those that are shown: the first if the one that was is gone."""
    return view.selected if view.selected in order else next(iter(order), None)


def pressed(view: View, key: str, order: Sequence[Target]) -> tuple[View, Quit | Change | None]:
    """What a key does, with the backends in the order in which they are shown."""
    if view.draining is not None:
        answered = replace(view, draining=None, message="" if key in "yY" else "not drained")
        return answered, Change(view.draining, "drain") if key in "yY" else None
    view = replace(view, message="", help=False)
    selected = selection(view, order)
    match key:
        case "q":
            return view, Quit()
        case "?" | "h":
            return replace(view, help=True), None
        case "d" if selected:
            return replace(view, draining=selected), None
        case "e" if selected:
            return view, Change(selected, "enable")
        case "f" if selected:
            return replace(view, service=None if view.service else selected[0], selected=selected), None
        case _:
            return _shown(view, key, order, selected), None


def _shown(view: View, key: str, order: Sequence[Target], selected: Target | None) -> View:
    match key:
        case "s":
            return replace(view, sort=_next_column(view.sort), reverse=False)
        case "r":
            return replace(view, reverse=not view.reverse)
        case " ":
            return replace(view, paused=not view.paused)
        case "+" | "=":
            return replace(
                view, interval=min((i for i in _INTERVALS if i > view.interval), default=LONGEST)
            )
        case "-":
            return replace(
                view, interval=max((i for i in _INTERVALS if i < view.interval), default=SHORTEST)
            )
    if selected is None:
        return view
    last, at = len(order) - 1, order.index(selected)
    places = {
        "up": at - 1,
        "k": at - 1,
        "down": at + 1,
        "j": at + 1,
        "page up": at - _PAGE,
        "page down": at + _PAGE,
        "home": 0,
        "end": last,
    }
    return replace(view, selected=order[max(0, min(last, places.get(key, at)))])


def _next_column(name: str) -> str:
    names = [column.name for column in COLUMNS]
    return names[(names.index(name) + 1) % len(names)]


def _order(view: View) -> str:
    """``by NEW/S, falling``."""
    column = NAMED[view.sort]
    if not column.descending:
        return f"by {column.title}{', backwards' if view.reverse else ''}"
    return f"by {column.title}, {'rising' if view.reverse else 'falling'}"


def bottom(view: View) -> tuple[str, ...]:
    """What the last line has to say, or lines to help."""
    if view.draining is not None:
        service, address = view.draining
        return (printable(f"drain {address} of {service}? y/n"),)
    if view.help:
        return HELP
    if view.message:
        return (view.message,)
    return "?: keys", "paused" if view.paused else f"every {view.interval:g}s", _order(view)
