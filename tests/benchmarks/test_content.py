from benchmarks.columns import HIGHER, LOWER, ZERO
from benchmarks.content import (
    Cell,
    Clip,
    Page,
    Part,
    Picture,
    Section,
    Table,
    Text,
    best_marked,
    blocks_of,
    markdown_page,
    markdown_section,
    with_interval,
)


def test_a_cell_reads_with_its_interval_and_spread():
    assert str(with_interval({"wer": 12.345, "low": 10.0, "high": 15.0})) == "12.3 [10.0, 15.0]"
    assert str(Cell("2.23", "[2.14, 2.32]", "± 0.04")) == "2.23 [2.14, 2.32] ± 0.04"
    assert str(Cell("2.23")) == "2.23"


def marks(values, better, spec=".1f"):
    cells = ["" if value is None else Cell(format(value, spec)) for value in values]
    return [isinstance(cell, Cell) and cell.best for cell in best_marked(cells, values, better)]


def test_the_best_is_marked_and_what_reads_the_same():
    assert marks([3.0, 1.04, 1.01, None], LOWER) == [False, True, True, False]
    assert marks([3.0, 1.0], HIGHER) == [True, False]
    assert marks([-3.0, 1.0, -0.5], ZERO) == [False, False, True]
    assert marks([0.0, 1.0], LOWER) == [True, False]


def test_nothing_is_best_alone_or_among_equals():
    assert marks([3.0, None], LOWER) == [False, False]
    assert marks([1.01, 1.04], LOWER) == [False, False]
    assert marks([None], LOWER) == [False]


def test_who_does_not_compete_is_not_marked():
    cells = [Cell("0.0"), Cell("0.0"), Cell("1.0")]
    assert [cell.best for cell in best_marked(cells, [None, 0.0, 1.0], LOWER)] == [False, True, False]


def test_markdown_has_texts_and_tables_and_no_pictures():
    table = Table(["system", "WER"], [["A", Cell("1.0", "[0.5, 1.5]", best=True)], ["B", ""]])
    picture = Picture("plot", "a plot", lambda path, colors: None)
    section = Section("One", [Text("Said.\n"), table, picture, Part("More", [Text("- a\n- b")], folded=True)])
    empty = Section("Clips", [Clip("a.mp4", "a"), Part("Pictures", [picture])])
    assert table.figures == [False, True]
    assert markdown_section(empty) == ""
    assert markdown_page(Page("Title", {"commit": "`abc`"}, [section, empty])).strip() == (
        "# Title\n\n- commit: `abc`\n\n## One\n\nSaid.\n\n"
        "| system | WER |\n|---|---|\n| A | 1.0 [0.5, 1.5] |\n| B |  |\n\n### More\n\n- a\n- b"
    )


def test_blocks_are_found_in_parts_too():
    inner, last = Text("inner"), Text("last")
    part = Part("Part", [inner])
    assert list(blocks_of(Page("", {}, [Section("", [part]), Section("", [last])]))) == [part, inner, last]
