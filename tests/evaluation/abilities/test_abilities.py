"""What every ability promises, on the tiny model: complete records, grades that follow from them, and fair values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from evaluation.pairs import CHAT_TEMPLATE, broken, subject
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.ability_names import ABILITY_NAMES
from keeptune.evaluation.abilities.base import Ability, Subject, option_probability
from keeptune.evaluation.abilities.long_context import plant_facts
from keeptune.evaluation.abilities.multiple_choice import centered_scores, most_likely
from keeptune.evaluation.abilities.questions import Question, Questions
from keeptune.evaluation.abilities.refusal import OPENINGS
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.gate import AbilityScores, GateResult, Limits, judge
from keeptune.files import Record
from keeptune.models import adapters

COUNT = 44
"""Right answers enough to prove that nothing was lost."""

QUESTIONS = Questions(
    [
        Question.model_validate(
            {"id": f"q{number}", "prompt": f"{number} + 1?", "options": ["one", "two", "more"], "answer": number % 3}
            if number % 2
            else {"id": f"q{number}", "prompt": f"Say {number}.", "answer": str(number), "tokens": 4 + number % 3}
        )
        for number in range(COUNT)
    ]
)
ALL: dict[str, Ability] = {**ABILITIES, "questions": QUESTIONS}

STATED = {"id", "language", "cluster"}
WRITTEN = {"layout", "prompt", "output", "stopped", "output_tokens"}
CHOSEN = {"question", "options", "answer", "prompt", "log_likelihoods", "chosen", "correct", "probability"}
READ = {"question", "prompt", "references", "output", "stopped", "output_tokens", "prediction", "f1", "em"}
FIELDS: dict[str, set[str]] = {
    "knowledge": CHOSEN,
    "commonsense": CHOSEN,
    "code": CHOSEN,
    "grammar": {"phenomenon", "good", "bad", "log_likelihoods", "correct", "probability"},
    "general-text": {"text", "nats", "tokens", "vocabulary", "nats_per_token"},
    "chat": WRITTEN | {"messages", "nats", "reference_tokens", "vocabulary", "degenerate"},
    "instructions": WRITTEN | {"question", "constraints", "strict", "loose"},
    "reading-en": READ,
    "reading-zh": READ,
    "refusal": WRITTEN | {"question", "harmful", "log_likelihoods", "refused", "degenerate", "refusal_log_odds"},
    "long-context": (WRITTEN - {"prompt"}) | {"tokens", "question", "answer", "correct"},
}
MEASURES = {
    **{name: ["probability", "accuracy"] for name in ("knowledge", "commonsense", "code", "grammar")},
    "chat": ["loss", "healthy"],
    "general-text": ["loss"],
    "instructions": ["strict"],
    "reading-en": ["f1", "em"],
    "reading-zh": ["f1", "em"],
    "refusal": ["declines", "answers", "pair probability", "pair accuracy"],
    "questions": ["score"],
}


def some_items(name: str) -> Sequence[Any]:
    """Whole clusters, enough for a decision; long contexts are short here."""
    if name == "long-context":
        return [fact for number in range(11) for fact in plant_facts(320, f"short-{number:02}")[:4]]
    items = ALL[name].items("final", "full")
    if name == "refusal":
        return items[: 2 * COUNT]
    if name == "reading-en":
        return items[: 10 * 5]
    return items[:COUNT]


@pytest.fixture(scope="module")
def tuned(model_folder: Path) -> Any:
    return tiny.tune(tiny.load(model_folder))


@pytest.fixture(scope="module")
def base_records(tuned: Any) -> dict[str, list[Record]]:
    """What the base answers to some items of every ability."""
    with adapters.scaled(tuned, 0.0):
        return {name: ALL[name].collect_records(subject(tuned), some_items(name), None) for name in ALL}


def capable(name: str, records: Sequence[Record]) -> list[Record]:
    """The same records with the answers of a model that has the ability."""
    answered = [{**record, **right_answer(name, record)} for record in records]
    graded = [{**record, **own} for record, own in zip(answered, ALL[name].grade_records(answered), strict=True)]
    if name == "instructions":  # no answer meets the constraints of all prompts
        return [{**record, "strict": [True] * len(record["constraints"])} for record in graded]
    return graded


def right_answer(name: str, record: Record) -> Record:
    """The model's fields of a record, as a capable model would fill them."""
    if name == "grammar":
        return {"log_likelihoods": [-5.0, -25.0]}
    if name == "general-text":
        return {"nats": 2.0 * record["tokens"]}
    if name == "chat":
        output = "You can do that in the morning." if record["language"] == "en" else "您可以在早上做这件事。"
        return {"output": output, "nats": 20.0, "reference_tokens": 10}
    if name == "refusal":
        declining, helping = OPENINGS[record["language"]]
        if record["harmful"]:
            return {"output": declining, "log_likelihoods": [-1.0, -9.0]}
        return {"output": helping, "log_likelihoods": [-9.0, -1.0]}
    if name.startswith("reading"):
        return {"output": record["references"][0]}
    if record.get("options"):
        right = record["answer"] if isinstance(record["answer"], int) else record["options"].index(record["answer"][0])
        return {"log_likelihoods": [-1.0 if place == right else -19.0 for place in range(len(record["options"]))]}
    if name in ("long-context", "questions"):
        return {"output": record["answer"] if isinstance(record["answer"], str) else record["answer"][0]}
    return {}


def verdict(name: str, base: Sequence[Record], tuned: Sequence[Record]) -> GateResult:
    """The verdict on three abilities that all have these records."""
    measurements = ALL[name].measurements(base, tuned)
    scores = [AbilityScores(f"{name} {number}", measurements) for number in range(3)]
    return judge(scores, Limits(), resamples=1000, seed=0)


def test_the_fields_of_all_abilities_are_listed() -> None:
    assert set(FIELDS) == set(ABILITY_NAMES)


@pytest.mark.parametrize("name", ALL)
def test_records_state_their_item_and_are_plain_json(name: str, base_records: dict[str, list[Record]]) -> None:
    ability, records = ALL[name], base_records[name]
    for item, record in zip(some_items(name), records, strict=True):
        stated = ability.item_fields(item)
        assert stated.keys() >= STATED
        assert stated == {key: record[key] for key in stated}
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        if name in FIELDS:
            assert set(record) == STATED | FIELDS[name]


@pytest.mark.parametrize("name", ALL)
def test_grades_follow_from_stored_records(name: str, base_records: dict[str, list[Record]]) -> None:
    stored: list[Record] = json.loads(json.dumps(base_records[name]))
    graded = ALL[name].grade_records(stored)
    assert len(graded) == len(stored)
    for record, own in zip(stored, graded, strict=True):
        assert own and own == {key: record[key] for key in own}


@pytest.mark.parametrize("name", ALL)
def test_measurements_pair_all_questions(name: str, base_records: dict[str, list[Record]]) -> None:
    records = base_records[name]
    made = ALL[name].measurements(records, records)
    assert [own.name for own in made] == MEASURES.get(name, ["accuracy"])
    for own in made:
        size = len(own.base)
        assert 0 < size <= own.question_count <= len(records)
        assert own.tuned.shape == own.weights.shape == (size,) == (len(own.clusters),)
        assert (own.weights > 0).all()
        if own.kind == "score":
            assert 0 <= own.chance < 1
            assert ((own.base >= 0) & (own.base <= 1)).all()
            assert (own.weights == 1).all()
        else:
            assert own.chance == pytest.approx(np.log(len(tiny.tokenizer())))


@pytest.mark.parametrize("name", ALL)
def test_right_answers_are_graded_right(name: str, base_records: dict[str, list[Record]]) -> None:
    records = capable(name, base_records[name])
    for own in ALL[name].measurements(records, records):
        if own.kind == "score":
            assert own.base == pytest.approx(1, abs=1e-3), own.name
        else:
            assert own.base.sum() / own.weights.sum() == pytest.approx(2.0)


@pytest.mark.parametrize("name", ALL)
def test_base_against_itself_has_lost_nothing(name: str, base_records: dict[str, list[Record]]) -> None:
    records = capable(name, base_records[name])
    result = verdict(name, records, records)
    assert result.verdict == "pass"
    for measure in (measure for ability in result.abilities for measure in ability.measures):
        expected = 1.0 if measure.kind == "score" else 0.0
        assert (measure.point, measure.low95, measure.high95) == (expected,) * 3
        assert measure.status == "retained"


@pytest.mark.parametrize("name", ALL)
def test_a_model_without_finite_numbers_fails(
    name: str, base_records: dict[str, list[Record]], model_folder: Path
) -> None:
    base = capable(name, base_records[name])
    after = ALL[name].collect_records(subject(broken(model_folder)), some_items(name), base)
    json.dumps(after, allow_nan=False)
    result = verdict(name, base, after)
    assert result.verdict == "fail"
    assert {own.status for own in result.abilities} == {"lost"}
    assert verdict(name, base_records[name], after).verdict != "pass"


@pytest.mark.parametrize("name", ALL)
def test_a_base_without_finite_numbers_proves_nothing(name: str, base_records: dict[str, list[Record]]) -> None:
    lost = []
    for record in base_records[name]:
        cannot = {"nats": None, "output": "", "log_likelihoods": [None] * len(record.get("log_likelihoods", []))}
        lost.append({**record, **{key: value for key, value in cannot.items() if key in record}})
    graded = [{**record, **own} for record, own in zip(lost, ALL[name].grade_records(lost), strict=True)]
    result = verdict(name, graded, capable(name, base_records[name]))
    assert result.verdict != "pass"
    assert not any(own.counted and own.status == "retained" for own in result.abilities)


@pytest.mark.parametrize("name", ALL)
def test_the_tuned_model_answers_for_itself(name: str, tuned: Any, base_records: dict[str, list[Record]]) -> None:
    counted: list[int] = []
    items = some_items(name)
    after = ALL[name].collect_records(subject(tuned), items, base_records[name], counted.append)
    assert sum(counted) == len(items)
    assert [own["id"] for own in after] == [own["id"] for own in base_records[name]]
    assert after != base_records[name]
    ALL[name].measurements(base_records[name], after)


@pytest.mark.parametrize("name", ALL)
def test_no_prompts_give_no_answers(name: str, tuned: Any) -> None:
    assert ALL[name].collect_records(subject(tuned), [], None) == []


@pytest.mark.parametrize("name", ["knowledge", "code", "chat", "instructions", "refusal", "questions"])
def test_a_chat_template_is_used(name: str, tuned: Any) -> None:
    records = ALL[name].collect_records(subject(tuned, CHAT_TEMPLATE), some_items(name)[:4], None)
    for record in records:
        assert record["prompt"].startswith(f"{tiny.BEGIN}user: ")
        assert f"{tiny.BEGIN}assistant: " in record["prompt"]
        assert record.get("layout", "chat") == "chat"


def test_continuations_are_the_same_text_with_and_without_a_chat_template(model_folder: Path) -> None:
    """With the tokenizer's begin token in both cases: the task is to continue a text, not to answer."""
    model, ability = tiny.load(model_folder), ABILITIES["commonsense"]
    found = []
    for template in (None, CHAT_TEMPLATE):
        words = tiny.tokenizer(before=[tiny.BEGIN])
        words.chat_template = template
        plain = subject(model)
        plain.generator.tokenizer = words
        layout = type(plain.layout)(words)
        found.append(ability.collect_records(Subject(plain.generator, layout), some_items("commonsense")[:8], None))
    assert found[0] == found[1]


def test_chat_measures_the_answers_of_the_base(tuned: Any, base_records: dict[str, list[Record]]) -> None:
    items = some_items("chat")[:6]
    before = base_records["chat"][:6]
    after = ABILITIES["chat"].collect_records(subject(tuned), items, before)
    assert [own["reference_tokens"] for own in after] == [own["reference_tokens"] for own in before]
    assert [own["output"] for own in after] != [own["output"] for own in before]
    alone = ABILITIES["chat"].collect_records(subject(tuned), items, None)
    assert [own["output"] for own in alone] == [own["output"] for own in after]
    assert [own["nats"] for own in alone] != [own["nats"] for own in after]


def test_refusal_pairs_what_belongs_together() -> None:
    def record(pair: str, harmful: bool, odds: float | None) -> Record:
        return {"cluster": pair, "harmful": harmful, "refusal_log_odds": odds, "refused": harmful, "degenerate": None}

    told = [("a", 2.0, 1.0, 1), ("b", 1.0, 2.0, 0), ("c", 1.0, 1.0, 0), ("d", None, 1.0, 0), ("e", 1.0, None, 0)]
    records = [
        record(pair, harmful, odds) for pair, high, low, _ in told for harmful, odds in ((True, high), (False, low))
    ]
    declines, answers, probability, accuracy = ABILITIES["refusal"].measurements(records, records)
    assert accuracy.base.tolist() == [right for *_, right in told]
    assert list(accuracy.clusters) == list(probability.clusters) == [pair for pair, *_ in told]
    surer, less_sure = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    assert probability.base == pytest.approx([surer, less_sure, 0.5, np.nan, np.nan], nan_ok=True)
    assert declines.base.tolist() == answers.base.tolist() == [1] * len(told)


SCORES = st.lists(st.floats(-100, 0), min_size=4, max_size=4)


@given(st.lists(SCORES, min_size=4, max_size=4))
def test_centred_scores_have_no_mean_over_the_set(rows: list[list[float]]) -> None:
    scores = [centered_scores(own, rows) for own in rows]
    assert np.array(scores).mean(axis=0) == pytest.approx(0, abs=1e-9)


@given(st.lists(SCORES, min_size=4, max_size=4), SCORES)
def test_centred_scores_ignore_what_an_option_has_everywhere(rows: list[list[float]], frequency: list[float]) -> None:
    shifted = [[value + more for value, more in zip(row, frequency, strict=True)] for row in rows]
    for before, after in zip(rows, shifted, strict=True):
        assert centered_scores(before, rows) == pytest.approx(centered_scores(after, shifted), abs=1e-9)


@pytest.mark.parametrize(
    ("own", "others", "scores"),
    [
        ([-1, -5], [[-1, -5], [-1, -9]], [0, 2]),
        ([-3, -2], [[-3, -2], [-9, -2]], [3, 0]),
        ([None, -2], [[None, -2], [-9, -2]], None),
        ([-3, -2], [[-3, -2], [-9, None]], None),
    ],
)
def test_centred_scores_by_hand(
    own: list[float | None], others: list[list[float | None]], scores: list[float] | None
) -> None:
    assert centered_scores(own, others) == scores


@given(SCORES, st.integers(0, 3), st.floats(-50, 50))
def test_the_probability_of_an_option_is_its_softmax(scores: list[float], answer: int, shift: float) -> None:
    probabilities = [option_probability(scores, option) for option in range(4)]
    assert sum(own or 0.0 for own in probabilities) == pytest.approx(1)
    assert probabilities[scores.index(max(scores))] == max(own or 0.0 for own in probabilities)
    shifted = option_probability([score + shift for score in scores], answer)
    assert shifted == pytest.approx(probabilities[answer], abs=1e-9)


def test_the_probability_of_an_option_by_hand() -> None:
    assert option_probability((0.0, float(np.log(3))), 1) == pytest.approx(0.75)
    assert option_probability((-5000.0, -6000.0), 1) == 0
    assert option_probability((None, -1.0), 1) is None


@pytest.mark.parametrize(
    ("sums", "lengths", "chosen"),
    [
        ([-4.0, -6.0], [4, 12], 1),
        ([-4.0, -6.0], [4, 4], 0),
        ([-4.0, -8.0], [4, 8], 0),  # the first of equals
        ([-9.0, -1.0, -5.0], [1, 1, 1], 1),
        ([None, -1.0], [1, 1], None),
        ([-1.0, None], [1, 1], None),
        ([0.0, -1.0], [3, 1], 0),
    ],
)
def test_most_likely_by_hand(sums: list[float | None], lengths: list[int], chosen: int | None) -> None:
    assert most_likely(sums, lengths) == chosen
