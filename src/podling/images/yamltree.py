"""YAML with line numbers, so that an error in a configuration file can say where it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from podling.images.errors import BuildError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Tree:
    """A node of a YAML document: one of `text`, `items`, `fields` is set; `path` is `build.artifacts[0].image`."""

    file: str
    line: int
    path: str
    text: str | None = None
    items: tuple[Tree, ...] | None = None
    fields: dict[str, Tree] | None = field(default=None)

    def refuse(self, message: str, hint: str = "") -> BuildError:
        """An error at this place."""
        return BuildError(message, file=self.file, line=self.line, hint=hint)

    def _place(self) -> str:
        return f" in {self.path}" if self.path else ""

    def mapping(self, known: tuple[str, ...] = ()) -> dict[str, Tree]:
        """The fields of a mapping (an empty value counts as one); with `known`, others are refused."""
        if self.fields is None and self.text != "":
            raise self.refuse(f"expected a mapping{self._place()}")
        fields = self.fields or {}
        for name, value in fields.items():
            if known and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
                raise value.refuse(f"unknown field {name}{self._place()}", hint)
        return fields

    def sequence(self) -> tuple[Tree, ...]:
        """The items of a list; an empty value counts as one."""
        if self.items is None and self.text != "":
            raise self.refuse(f"expected a list{self._place()}")
        return self.items or ()

    def scalar(self) -> str:
        """The text of a plain value."""
        if self.text is None:
            raise self.refuse(f"expected a text{self._place()}")
        return self.text


def load(file: Path) -> Iterator[Tree]:
    """The documents of a file, empty ones left out; raises `BuildError` for broken YAML, `OSError` for the file."""
    text = file.read_text(encoding="utf-8")
    loader = _LOADER(text)
    try:
        while loader.check_node():
            tree = _tree(loader.get_node(), str(file), "")
            if tree.text != "":
                yield tree
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise BuildError(f"not valid YAML: {error.problem}", file=str(file), line=line) from error
    except yaml.YAMLError as error:
        raise BuildError(f"not valid YAML: {error}", file=str(file)) from error
    finally:
        loader.dispose()


def _tree(node: Any, file: str, path: str) -> Tree:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        fields: dict[str, Tree] = {}
        for key, value in node.value:
            name = str(key.value)
            fields[name] = _tree(value, file, f"{path}.{name}" if path else name)
        return Tree(file, line, path, fields=fields)
    if isinstance(node, yaml.SequenceNode):
        items = tuple(_tree(item, file, f"{path}[{index}]") for index, item in enumerate(node.value))
        return Tree(file, line, path, items=items)
    text = "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    return Tree(file, line, path, text=text)
