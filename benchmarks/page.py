"""A results page as one HTML file that opens from disk: nothing is fetched, no script runs.

Pictures stand in the file itself, and clips that are small; other clips are found beside it.
"""

import base64
import re
from pathlib import Path

from avsr.files import write_text
from benchmarks.content import Clip, Page, Picture, blocks_of

MAX_CLIP_BYTES, MAX_CLIPS_BYTES = 2_000_000, 12_000_000  # that are taken into the page, each and together


def write_page(page: Page, path: Path) -> None:
    """Write the page to `path` (.html), beside which its pictures and clips lie."""
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "markdown": lambda text: Markup(to_html(text)),
        "inline": lambda text: Markup(to_html(text).removeprefix("<p>").removesuffix("</p>")),
        "slug": slug,
    }
    frame = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    write_text(path, frame.render(page=page, sources=sources(page, path.parent)))


def sources(page: Page, folder: Path) -> dict[str, str]:
    """{file: what a src attribute holds} of the page's pictures and clips, which lie in `folder`."""
    found, budget = {}, MAX_CLIPS_BYTES
    for block in blocks_of(page):
        if isinstance(block, Picture):
            found[block.file] = _data(folder / block.file, "image/png")
        elif isinstance(block, Clip):
            size = (folder / block.file).stat().st_size
            if size <= min(MAX_CLIP_BYTES, budget):
                budget -= size
                found[block.file] = _data(folder / block.file, "video/mp4")
            else:
                found[block.file] = block.file
    return found


def to_html(text: str) -> str:
    """Markdown with tables as HTML; tags in it are shown, not obeyed."""
    import markdown

    reader = markdown.Markdown(extensions=["tables", "sane_lists"])
    reader.preprocessors.deregister("html_block")
    reader.inlinePatterns.deregister("html")
    return reader.convert(text)


def slug(text: str) -> str:
    """A title as the name of a place in the page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _data(path: Path, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
