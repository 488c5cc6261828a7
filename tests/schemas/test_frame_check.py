from dataclasses import replace

from kinescribe.schemas.frame_check import DifferingFrame, FrameCheck

FOUND = FrameCheck(
    rows=5,
    right=2,
    differ=1,
    not_comparable={"missing": 2},
    differing=[DifferingFrame("0" * 32, "/clips/a.mp4", "source", 1.5, "the frame at 1.600 s")],
    read_below=["/clips"],
    not_read=None,
)


def test_the_tables_show_counts_reasons_and_each_frame_that_differs():
    counts, reasons, frames = FOUND.tables()
    assert dict(counts.rows) == {
        "rows drawn": "5",
        "rows compared": "3",
        "right": "2",
        "differ": "1",
        "not comparable": "2",
        "videos read below": "/clips",
    }
    assert reasons.rows == [("missing", "2")]
    assert frames.rows == [("0" * 32, "source", "1.500", "/clips/a.mp4", "the frame at 1.600 s")]


def test_a_row_that_differs_is_a_problem():
    assert FOUND.problems()[0].startswith("the frames of 1 of 5 rows are not those of their videos; ")
    assert replace(FOUND, differ=0, differing=[]).problems() == []


def test_nothing_compared_is_a_problem_only_if_a_root_would_help():
    nothing = replace(FOUND, right=0, differ=0, differing=[], not_comparable={"missing": 5})
    assert nothing.problems() == []
    outside = replace(nothing, not_comparable={"forbidden": 5}, not_read="/data/videos")
    assert "add --root /data/videos" in outside.problems()[0]
    assert replace(outside, right=1).problems() == []
