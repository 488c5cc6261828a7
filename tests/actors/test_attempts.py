import pytest

from kinescribe.actors.attempts import Attempts, WorkersKeepDying, attempt


class Killed(BaseException):
    """Stands for the death of the process: nothing after it runs."""


def kill_on(poison):
    def work(items):
        if poison & set(items):
            raise Killed
        return list(items)

    return work


def crashed(item):
    return [f"crashed {item}"]


def run_until_done(poison, items):
    """Start the unit again after each death, as Ray does; the results and the number of starts."""
    attempts = Attempts(9)
    for start in range(1, 20):
        try:
            return attempt(attempts, "unit", items, kill_on(poison), crashed), start
        except Killed:
            continue
    raise AssertionError("the unit was started for ever")


def test_a_unit_that_kills_no_worker_is_done_at_the_first_start():
    assert run_until_done(set(), "abc") == ([["a", "b", "c"]], 1)


def test_only_the_item_that_kills_its_worker_is_given_up():
    results, starts = run_until_done({"b"}, "abc")
    assert results == [["a"], ["crashed b"], ["c"]]
    assert starts == 4


def test_two_items_that_kill_are_both_given_up():
    results, starts = run_until_done({"a", "c"}, "abc")
    assert results == [["crashed a"], ["b"], ["crashed c"]]
    assert starts == 5


def test_starts_that_ended_do_not_count():
    attempts = Attempts(9)
    for _ in range(5):
        assert attempt(attempts, "unit", "ab", kill_on(set()), crashed) == [["a", "b"]]


def test_units_are_counted_separately():
    attempts = Attempts(9)
    assert [attempts.begin("a"), attempts.begin("a"), attempts.begin("b")] == [1, 2, 1]
    attempts.end("a")
    assert [attempts.begin("a"), attempts.begin("b")] == [1, 2]


def test_workers_that_keep_dying_raise_unless_one_began_some_work():
    attempts = Attempts(2)
    attempts.start()
    attempts.start()
    attempts.begin("unit")
    attempts.start()
    attempts.start()
    with pytest.raises(WorkersKeepDying):
        attempts.start()


def test_what_several_workers_note_is_news_once():
    attempts = Attempts(9)
    attempts.load()
    for text in ("away", "away"):
        attempts.note(text)
    assert attempts.news() == (1, ["away"])
    for text in ("away", "back", "back", "away"):
        attempts.note(text)
    assert attempts.news() == (1, ["back", "away"])
    assert attempts.news() == (1, [])
