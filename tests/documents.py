"""The documents for people, as tests read them: their code blocks, links and headings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = tuple(sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]))

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A piece of code in a document."""

    language: str
    text: str

    @property
    def title(self) -> str:
        """Its first line, which is the name of the file where it is one: ``# ask.py``."""
        return self.text.partition("\n")[0]


def blocks(document: Path) -> list[Block]:
    """The fenced blocks, in their order."""
    return [Block(language, text) for language, text in _FENCED.findall(document.read_text(encoding="utf-8"))]


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return _FENCED.sub("", document.read_text(encoding="utf-8"))


def links(document: Path) -> list[str]:
    """The targets of its links."""
    return _LINK.findall(prose(document))


def anchors(document: Path) -> set[str]:
    """What can stand behind a ``#`` in a link to it, as the common hosts make it of headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(document))
    }
