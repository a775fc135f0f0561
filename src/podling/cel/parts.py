"""A part of an expression that has been compiled: its type, how to compute it, what that costs."""

from __future__ import annotations

from dataclasses import dataclass

from podling.cel.access import Run
from podling.cel.costs import Size
from podling.cel.types import Type


@dataclass(slots=True)
class Part:
    """`cost` is the most that it may cost by the sizes of its operands."""

    type: Type
    run: Run
    cost: int = 0
    own: int = 0
    """What it costs whenever it runs; what depends on values, or on the way it takes, is charged where it comes up."""
    size: Size | None = None
    """Of a value whose size is known otherwise than from the schema."""
    items: Size | None = None
    """The sizes of the items of a list, the members of a map, where the expression itself tells them."""
    keys: Size | None = None
    path: tuple[str, ...] = ()
    """The way from a variable to the value; `()`: the value is not simply a part of a variable."""
    attribute: bool = False
    """Whether it is a variable or a part of something, which is looked at in one go with what is above it."""
    constant: bool = False
