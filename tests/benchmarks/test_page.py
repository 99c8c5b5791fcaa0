"""The HTML page: whole by itself, well formed, every link of its contents leads somewhere."""

from html.parser import HTMLParser

import pytest

from benchmarks import page as pages
from benchmarks.content import Cell, Clip, Page, Part, Picture, Section, Table, Text
from benchmarks.page import slug, to_html, write_page

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Raises where tags don't nest; keeps what tags have."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def all(self, attribute):
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


@pytest.fixture
def page(tmp_path):
    (tmp_path / "plot.png").write_bytes(b"plot")
    (tmp_path / "small.mp4").write_bytes(b"1" * 10)
    (tmp_path / "large.mp4").write_bytes(b"1" * 30)
    best, plain = Cell("1.0", "[0.5, 1.5]", best=True), Cell("2.0", "[1.5, 2.5]", "± 0.1")
    blocks = [
        Text("A `code` and *so* on, <script>alert(1)</script>\n\n- one\n- two"),
        Table(["system", "kind", "WER <%>"], [["A", "x & y", best], ["B", "z", plain], ["C", "", ""]]),
        Picture("plot", "A plot", lambda path, colors: None, wide=True),
        Part("Long one", [Text("|a|b|\n|---|---|\n|x|1|")], folded=True),
        Part("Short one", [Text("Said.")]),
    ]
    clips = Section("Clips", [Clip("small.mp4", "small"), Clip("large.mp4", "large")])
    return Page("Title", {"commit": "`abc`"}, [Section("First: a_b", blocks), clips])


def read(page, folder):
    write_page(page, folder / "index.html")
    text = (folder / "index.html").read_text(encoding="utf-8")
    return text, Reader(text)


def test_it_is_well_formed_and_needs_no_network(page, tmp_path):
    text, reader = read(page, tmp_path)
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}
    assert all(source.startswith("data:") for source in reader.all("src"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "WER &lt;%&gt;" in text and "x &amp; y" in text


def test_every_link_leads_to_one_place(page, tmp_path):
    _, reader = read(page, tmp_path)
    ids = reader.all("id")
    assert reader.all("href") == [f"#{name}" for name in ids] and len(set(ids)) == len(ids) == 4
    assert "first-a-b-long-one" in ids


def test_figures_stand_right_the_best_marked(page, tmp_path):
    text, reader = read(page, tmp_path)
    classes = [attrs.get("class") for tag, attrs in reader.tags if tag == "td"]
    assert classes[:6] == [None, "figure best", None, "figure", None, "figure"]
    assert "<span>2.0</span> <small>[1.5, 2.5]</small> <small>± 0.1</small>" in text
    assert [tag for tag, _ in reader.tags].count("details") == 1


def test_clips_that_are_large_stay_beside_it(page, tmp_path, monkeypatch):
    def clips():
        return [attrs["src"][:9] for tag, attrs in read(page, tmp_path)[1].tags if tag == "video"]

    monkeypatch.setattr(pages, "MAX_CLIP_BYTES", 20)
    assert clips() == ["data:vide", "large.mp4"]
    monkeypatch.setattr(pages, "MAX_CLIP_BYTES", 30)
    monkeypatch.setattr(pages, "MAX_CLIPS_BYTES", 39)
    assert clips() == ["data:vide", "large.mp4"]
    monkeypatch.setattr(pages, "MAX_CLIPS_BYTES", 40)
    assert clips() == ["data:vide", "data:vide"]


def test_markdown_is_read_and_tags_are_shown():
    assert to_html("`a` **b**") == "<p><code>a</code> <strong>b</strong></p>"
    assert "<td>x</td>" in to_html("|a|b|\n|---|---|\n|x|1|")
    assert to_html("<b>x</b>") == "<p>&lt;b&gt;x&lt;/b&gt;</p>"
    assert to_html("<div>\nx\n</div>").count("&lt;") == 2


def test_a_place_has_a_plain_name():
    assert slug("Recognition: test_unseen") == "recognition-test-unseen"
