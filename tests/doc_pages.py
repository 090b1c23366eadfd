"""Pages of the documentation and the fenced blocks in them, with what the comment before one says of it."""

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "docs"
RECIPES = DOCS / "recipes"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    line: int
    """The number of its first line, from 1."""
    text: str
    said: str
    """The comment before it, without its signs."""


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page):
    lines = text(page).splitlines()
    found, at = [], 0
    while at < len(lines):
        fence = re.fullmatch(r"```(\w*)\s*", lines[at])
        if fence is None:
            assert not lines[at].startswith("```"), f"{page.name}:{at + 1}: an odd fence: {lines[at]}"
            at += 1
            continue
        end = lines.index("```", at + 1)
        said = re.fullmatch(r"<!-- (.*) -->", lines[at - 1]) if at else None
        found.append(Block(fence[1], at + 2, "\n".join(lines[at + 1 : end]), said[1] if said else ""))
        at = end + 1
    return found


def write_files(page, folder):
    """Write the blocks that are files into a folder."""
    for block in blocks(page):
        if block.said.startswith("file: "):
            path = folder / block.said.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n")
