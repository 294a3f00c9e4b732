"""The selection of sample answers: by kind and hash, independent of their quality."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from keeptune.report.examples import pick, pick_reading
from keeptune.run_files.records import Answer, Points, ReadingAnswer


def answer(name: int, kind: str, right: bool) -> Answer:
    return Answer(
        id=f"{name:04}",
        kind=kind,
        problem="",
        output="",
        truth="1",
        answer=None,
        source=None,
        verdicts={"2d4s": right, "exact": not right},
        stopped=True,
        output_tokens=1,
    )


def reading(name: str, f1: float) -> ReadingAnswer:
    points = {"squad-v1.1": Points(f1=f1, em=0)}
    return ReadingAnswer(id=name, question="", prompt="", prediction="", references=["x"], **points)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.booleans())
def test_kinds_take_turns_and_only_one_verdict_is_selected(drawn: Sequence[tuple[str, bool]], right: bool) -> None:
    answers = [answer(name, kind, verdict) for name, (kind, verdict) in enumerate(drawn)]
    shown = [example.tuned for example in pick([], answers, right, limit=6)]
    fitting = [a for a in answers if a.verdicts["2d4s"] == right]
    assert len(shown) == min(6, len(fitting)) and {a.id for a in shown} <= {a.id for a in fitting}
    counts = {kind: sum(a.kind == kind for a in shown) for kind in "abc"}
    for kind, count in counts.items():
        exhausted = count == sum(a.kind == kind for a in fitting)
        assert exhausted or count >= max(counts.values()) - 1


def test_file_order_does_not_matter() -> None:
    answers = [answer(name, "ab"[name % 2], right=True) for name in range(30)]
    assert pick([], answers, right=True) == pick([], answers[::-1], right=True)


def test_base_answer_belongs_to_the_same_question() -> None:
    base = [answer(2, "a", right=False), answer(1, "a", right=False)]
    (first, second, third) = pick(base, [answer(name, "a", right=True) for name in (1, 2, 3)], right=True)
    assert first.base == base[1] and second.base == base[0] and third.base is None


def test_reading_shows_losses_before_gains_before_unchanged() -> None:
    base = [reading(name, f1) for name, f1 in zip("abcdefgh", (100, 50, 90, 0, 10, 20, 100, 0), strict=True)]
    tuned = [reading(name, f1) for name, f1 in zip("abcdefgh", (0, 0, 80, 100, 50, 30, 100, 0), strict=True)]
    assert [example.tuned.id for example in pick_reading(base, tuned)] == ["a", "b", "d", "e", "g", "h"]


def test_unchanged_answers_fill_up_when_none_is_lost() -> None:
    same = [reading(name, 50) for name in "abcdefgh"]
    assert [example.change for example in pick_reading(same, same)] == [0.0] * 6
