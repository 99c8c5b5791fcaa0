"""What a results page holds, whatever it is written as, and its writing as Markdown.

Sections are made of texts, tables, pictures, clips and titled parts. RESULTS.md has the texts and the tables; the HTML
page (`benchmarks.page`) has all of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from benchmarks.columns import LOWER, ZERO


@dataclass(frozen=True)
class Cell:
    """A figure as it is read, what stands smaller beside it, and whether it is the best of those it stands with."""

    text: str
    interval: str = ""  # with its brackets
    spread: str = ""  # over seeds, or p
    best: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, (self.text, self.interval, self.spread)))


@dataclass(frozen=True)
class Table:
    """Rows under the titles of their columns; figures are cells, what is no figure is a string."""

    kind: ClassVar[str] = "table"
    titles: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]

    @property
    def figures(self) -> list[bool]:
        """Whether each column holds figures."""
        return [any(isinstance(row[i], Cell) for row in self.rows) for i in range(len(self.titles))]


@dataclass(frozen=True)
class Text:
    """Prose in Markdown."""

    kind: ClassVar[str] = "text"
    markdown: str


@dataclass(frozen=True)
class Picture:
    """A plot that `draw` writes to a path, with a colour for each system; name: its file's, without suffix.

    wide: it needs the page's whole width; photo: it shows pictures, whose light and dark mean something.
    """

    kind: ClassVar[str] = "picture"
    name: str
    title: str
    draw: Callable[[Path, Mapping[str, str]], None]
    wide: bool = False
    photo: bool = False

    @property
    def file(self) -> str:
        return f"{self.name}.png"


@dataclass(frozen=True)
class Clip:
    """A film with sound; file: its name beside the pictures'."""

    kind: ClassVar[str] = "clip"
    file: str
    title: str


@dataclass(frozen=True)
class Part:
    """Blocks under a title of their own; folded: long, and seldom read."""

    kind: ClassVar[str] = "part"
    title: str
    blocks: Sequence["Block"]
    folded: bool = False


Block = Text | Table | Picture | Clip | Part


@dataclass(frozen=True)
class Section:
    """What was measured of one thing."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Page:
    """title, facts (what is needed to run it again, by name, in Markdown) and sections."""

    title: str
    facts: Mapping[str, str]
    sections: list[Section] = field(default_factory=list)


def blocks_of(page: Page) -> Iterator[Block]:
    """Every block of a page, those within parts after their part."""
    pending = [block for section in page.sections for block in section.blocks]
    while pending:
        block = pending.pop(0)
        yield block
        if isinstance(block, Part):
            pending[:0] = block.blocks


def with_interval(figure: Mapping[str, float]) -> Cell:
    """A word error rate {wer, low, high} in %."""
    return Cell(f"{figure['wer']:.1f}", f"[{figure['low']:.1f}, {figure['high']:.1f}]")


def best_marked(cells: Sequence[Cell | str], values: Sequence[float | None], better: str) -> list[Cell | str]:
    """The cells, the best of `values` marked and what reads the same as it; None doesn't compete.

    better: as in `benchmarks.columns`. Nothing is marked where fewer than two compete, or where all read the same.
    """
    size = {i: abs(value) if better == ZERO else value for i, value in enumerate(values) if value is not None}
    if len({cells[i].text for i in size}) < 2:
        return list(cells)
    best = cells[(min if better in (LOWER, ZERO) else max)(size, key=size.get)].text
    return [
        Cell(cell.text, cell.interval, cell.spread, best=True) if i in size and cell.text == best else cell
        for i, cell in enumerate(cells)
    ]


def markdown_page(page: Page) -> str:
    """The page in Markdown, without pictures and clips."""
    facts = "".join(f"- {name}: {said}\n" for name, said in page.facts.items())
    return "\n".join([f"# {page.title}\n\n{facts}", *map(markdown_section, page.sections)])


def markdown_section(section: Section) -> str:
    """A section in Markdown, without pictures and clips; empty where nothing is left."""
    written = list(filter(None, map(_markdown, section.blocks)))
    return "\n\n".join([f"## {section.title}", *written]) + "\n" if written else ""


def _markdown(block: Block) -> str:
    match block:
        case Text():
            return block.markdown.strip()
        case Table():
            head, *body = ["| " + " | ".join(map(str, row)) + " |" for row in (block.titles, *block.rows)]
            return "\n".join([head, "|" + "---|" * len(block.titles), *body])
        case Part():
            written = list(filter(None, map(_markdown, block.blocks)))
            return "\n\n".join([f"### {block.title}", *written]) if written else ""
    return ""
