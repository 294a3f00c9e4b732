"""Both models are asked once, in whole clusters; what is stored is not asked again; early decisions ask less."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluation.pairs import adapter_pair
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import RunError
from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.abilities.long_context import plant_facts
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.gate import GateResult, Limits, Measurement, judge
from keeptune.evaluation.model_pair import VARIANTS, AdapterPair
from keeptune.evaluation.suite.loader import Size, Split
from keeptune.evaluation.suite_evaluation import (
    LOOKS,
    PairedRecords,
    collect_records,
    evaluate_suite,
    evaluate_suite_sequentially,
    load_paired_records,
    record_path,
    split_into_looks,
)
from keeptune.files import Record, read_records
from keeptune.generation.record_cache import RecordCache
from keeptune.progress import SilentReporter
from keeptune.prompts.chat import FALLBACK


class Part(Ability):
    """The first items of an ability; `calls` says how many were asked of whom."""

    def __init__(self, name: str, count: int) -> None:
        self.inner, self.name, self.count = ABILITIES[name], name, count
        self.calls: list[tuple[str, int]] = []

    def items(self, split: Split, size: Size) -> Sequence[Any]:
        return self.inner.items(split, size)[: self.count]

    def item_fields(self, item: Any) -> Record:
        return self.inner.item_fields(item)

    def evaluate(
        self, subject: Subject, items: Sequence[Any], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        self.calls.append(("base" if base is None else "tuned", len(items)))
        return self.inner.evaluate(subject, items, base, progress)

    def grade_records(self, records: Sequence[Record]) -> list[Record]:
        return self.inner.grade_records(records)

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return self.inner.measurements(base, tuned)


class Known(Ability):
    """Questions whose answers are known: question n is right where `base`, or `tuned`, says so for n."""

    def __init__(self, name: str, count: int, base: Sequence[bool], tuned: Sequence[bool], chance: float = 0.0) -> None:
        self.name, self.count, self.answers, self.chance = name, count, {"base": base, "tuned": tuned}, chance
        self.calls: list[tuple[str, list[int]]] = []

    def items(self, split: Split, size: Size) -> list[int]:  # noqa: ARG002
        return list(range(self.count))

    def item_fields(self, item: int) -> Record:
        return {"id": f"{self.name}-{item}", "language": "en", "cluster": f"{item}"}

    def evaluate(
        self,
        subject: Subject,  # noqa: ARG002
        items: Sequence[int],
        base: Sequence[Record] | None,
        progress: Progress,
    ) -> list[Record]:
        who = "base" if base is None else "tuned"
        if base is not None:
            assert [record["id"] for record in base] == [f"{self.name}-{item}" for item in items]
        self.calls.append((who, list(items)))
        progress(len(items))
        return [{"correct": self.answers[who][item]} for item in items]

    def grade_records(self, records: Sequence[Record]) -> list[Record]:
        return [{"score": float(record["correct"])} for record in records]

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return [paired_measurement("score", base, tuned, lambda record: record["score"], chance=self.chance)]

    @property
    def asked(self) -> int:
        """Questions put to the tuned model."""
        return sum(len(items) for who, items in self.calls if who == "tuned")


@pytest.fixture(scope="module")
def module_pair(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AdapterPair:
    return adapter_pair(model_folder, tmp_path_factory.mktemp("pair"))


@pytest.fixture
def pair(module_pair: AdapterPair, tmp_path: Path) -> AdapterPair:
    """The same pair with an empty cache."""
    return with_cache(module_pair, tmp_path / "cache")


def with_cache(pair: AdapterPair, folder: Path, scale: float = 1.0) -> AdapterPair:
    return AdapterPair(pair.generator, pair.adapter, scale, RecordCache(folder, {}), FALLBACK)


def parts() -> list[Part]:
    return [Part("grammar", 20), Part("chat", 6), Part("knowledge", 8)]


def run(pair: AdapterPair, abilities: Sequence[Ability], folder: Path) -> list[PairedRecords]:
    return evaluate_suite(pair, abilities, "final", "quick", folder, SilentReporter())


def test_every_model_answers_each_question_once(pair: AdapterPair, tmp_path: Path) -> None:
    abilities = parts()
    answers = run(pair, abilities, tmp_path)
    for own, ability in zip(answers, abilities, strict=True):
        assert ability.calls == [("base", ability.count), ("tuned", ability.count)]
        expected = [ability.item_fields(item)["id"] for item in ability.items("final", "quick")]
        assert [record["id"] for record in own.base] == [record["id"] for record in own.tuned] == expected
        assert own.base != own.tuned
        for who, records in zip(VARIANTS, (own.base, own.tuned), strict=True):
            assert read_records(record_path(tmp_path, ability.name, who)) == records
        assert own.ability_scores("replay").practised == "replay"


def test_existing_record_files_are_not_recomputed(pair: AdapterPair, tmp_path: Path, module_pair: AdapterPair) -> None:
    before = run(pair, parts(), tmp_path)
    record_path(tmp_path, "chat", "tuned").unlink()
    for who in VARIANTS:
        record_path(tmp_path, "grammar", who).unlink()
    again = parts()
    after = run(with_cache(module_pair, tmp_path / "another cache"), again, tmp_path)
    assert [own.calls for own in again] == [[("base", 20), ("tuned", 20)], [("tuned", 6)], []]
    assert [(own.base, own.tuned) for own in after] == [(own.base, own.tuned) for own in before]
    nobody = parts()
    run(pair, nobody, tmp_path)
    assert [own.calls for own in nobody] == [[], [], []]


def test_stored_records_are_used(pair: AdapterPair, tmp_path: Path) -> None:
    ability = Part("grammar", 20)
    run(pair, [ability], tmp_path)
    path = record_path(tmp_path, "grammar", "tuned")
    edited = [{**record, "correct": True} for record in read_records(path)]
    path.write_text("".join(json.dumps(record) + "\n" for record in edited), encoding="utf-8")
    (own,) = run(pair, [ability], tmp_path)
    assert own.tuned == edited
    assert load_paired_records(ability, tmp_path).tuned == edited
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RunError):
        run(pair, [ability], tmp_path)


def test_answers_are_found_in_the_cache(pair: AdapterPair, tmp_path: Path) -> None:
    first, second = parts(), parts()
    made = run(pair, first, tmp_path / "one")
    found = run(pair, second, tmp_path / "two")
    assert [own.calls for own in second] == [[], [], []]
    assert [(own.base, own.tuned) for own in found] == [(own.base, own.tuned) for own in made]


def test_a_model_whose_adapter_is_off_is_its_base(module_pair: AdapterPair, tmp_path: Path) -> None:
    abilities = [Part("grammar", 20), Part("general-text", 2)]
    for own in run(with_cache(module_pair, tmp_path / "cache", scale=0.0), abilities, tmp_path):
        assert own.base == own.tuned


def test_other_scales_and_texts_are_computed_again(pair: AdapterPair, module_pair: AdapterPair, tmp_path: Path) -> None:
    ability, first = Part("long-context", 1), plant_facts(320, "some name")[:1]
    other = [dataclasses.replace(first[0], text=first[0].text.replace("the", "a"))]
    assert ability.item_fields(first[0]) == ability.item_fields(other[0])
    half = with_cache(module_pair, tmp_path / "cache", scale=0.5)
    for own, items in ((pair, first), (pair, first), (pair, other), (half, first)):
        with own.using("tuned") as subject:
            collect_records(own.cache("tuned"), "tuned", subject, ability, items, [], SilentReporter())
    assert len(ability.calls) == 3


def in_looks(
    pair: AdapterPair, abilities: Sequence[Ability], folder: Path, limits: Limits | None = None, **practised: str
) -> tuple[list[PairedRecords], GateResult]:
    return evaluate_suite_sequentially(
        pair, abilities, "quick", limits or Limits(), practised, folder, SilentReporter(), resamples=1000, seed=3
    )


def test_a_verdict_in_looks_on_the_tiny_model(pair: AdapterPair, tmp_path: Path) -> None:
    abilities = [Part("grammar", 80), Part("knowledge", 40)]
    answers, result = in_looks(pair, abilities, tmp_path)
    assert result.verdict == "undecided"  # two abilities are too few to pass
    assert [own.name for own in result.abilities] == ["grammar", "knowledge"]
    for own, ability in zip(answers, abilities, strict=True):
        ids = [record["id"] for record in own.base]
        assert ids == [record["id"] for record in own.tuned]
        assert set(ids) <= {ability.item_fields(item)["id"] for item in ability.items("final", "quick")}
        assert len(set(ids)) == len(ids)
        again = load_paired_records(ability, tmp_path)
        assert (again.base, again.tuned) == (own.base, own.tuned)
    whole = {own.ability.name: own.ability_scores(None).measurements for own in answers}
    assert [len(parts[0].base) for parts in whole.values()] == [own.headline.n for own in result.abilities]


def test_a_base_evaluated_on_all_questions_has_nothing_to_lose(pair: AdapterPair, tmp_path: Path) -> None:
    """Random weights answer at chance: nothing is decided early on that."""
    ability = Part("knowledge", 40)
    answers, result = in_looks(pair, [ability], tmp_path)
    assert result.abilities[0].status == "nothing to lose"
    assert len(answers[0].base) == 40


RIGHT, WRONG = [True] * 400, [False] * 400


def test_decided_abilities_get_no_further_questions(pair: AdapterPair, tmp_path: Path) -> None:
    kept = [Known(name, 400, RIGHT, RIGHT) for name in ("one", "two", "three")]
    # A loss near the limit of 10 % stays open to the end.
    close = Known("close", 400, RIGHT, [n % 10 > 0 for n in range(400)])
    answers, result = in_looks(pair, [*kept, close], tmp_path)
    assert result.verdict == "undecided"
    assert [own.asked for own in kept] == [80] * 3
    assert close.asked == 400
    assert [len(own.tuned) for own in answers] == [80, 80, 80, 400]
    assert [own.status for own in result.abilities] == ["retained"] * 3 + ["undecided"]


def test_a_proven_loss_ends_the_evaluation(pair: AdapterPair, tmp_path: Path) -> None:
    close = Known("close", 400, RIGHT, [n % 10 > 0 for n in range(400)])
    answers, result = in_looks(pair, [close, Known("lost", 400, RIGHT, WRONG)], tmp_path)
    assert result.verdict == "fail"
    assert [len(own.tuned) for own in answers] == [80, 80]


def test_all_retained_is_a_pass(pair: AdapterPair, tmp_path: Path) -> None:
    _, result = in_looks(pair, [Known(name, 400, RIGHT, RIGHT) for name in ("one", "two", "three")], tmp_path)
    assert result.verdict == "pass"


def test_a_fifth_of_the_questions_does_not_decide_nothing_to_lose(pair: AdapterPair, tmp_path: Path) -> None:
    """A base that is right on 12 % is right on fewer than ten questions of a fifth, and on enough of them all."""
    weak = Known("weak", 400, [n % 8 == 0 for n in range(400)], WRONG)
    kept = [Known(name, 400, RIGHT, RIGHT) for name in ("one", "two", "three")]
    first = split_into_looks(weak, weak.items("final", "quick"), 3)[0]
    assert sum(weak.answers["base"][item] for item in first) <= 10
    _, result = in_looks(pair, [*kept, weak], tmp_path)
    assert result.verdict == "fail"
    assert result.abilities[-1].status == "lost"
    assert [own.asked for own in kept] == [80] * 3


def test_uncounted_abilities_are_evaluated_in_one_look(pair: AdapterPair, tmp_path: Path) -> None:
    close = [n % 10 > 0 for n in range(400)]
    counted = [Known(name, 400, RIGHT, RIGHT) for name in ("one", "two", "three")]
    practised, ignored = Known("practised", 400, RIGHT, close), Known("ignored", 400, WRONG, close)
    limits = Limits(counted=frozenset(["one", "two", "three", "practised"]))
    _, result = in_looks(pair, [*counted, practised, ignored], tmp_path, limits, practised="replay")
    assert result.verdict == "pass"
    assert (practised.asked, ignored.asked) == (80, 80)


def test_bounds_are_wider_than_those_of_one_look(pair: AdapterPair, tmp_path: Path) -> None:
    """At the last look, what one look would just decide may stay open."""
    tuned = [n % 15 > 0 for n in range(400)]
    own = Known("near", 400, RIGHT, tuned)
    _, result = in_looks(pair, [own], tmp_path)
    once = judge(
        [answers.ability_scores(None) for answers in run_known(pair, own, tmp_path)], Limits(), resamples=1000, seed=3
    )
    assert once.abilities[0].status == "retained"
    assert result.abilities[0].headline.n in (320, 400)


def run_known(pair: AdapterPair, ability: Known, folder: Path) -> list[PairedRecords]:
    return evaluate_suite(pair, [ability], "final", "quick", folder / "once", SilentReporter())


class Clusters(Known):
    """Questions in clusters of given sizes."""

    def __init__(self, sizes: Sequence[int], name: str = "clusters") -> None:
        super().__init__(name, sum(sizes), [], [])
        self.owners = [number for number, size in enumerate(sizes) for _ in range(size)]

    def item_fields(self, item: int) -> Record:
        return {"id": str(item), "language": "en", "cluster": f"c{self.owners[item]}"}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(0, 1000))
def test_looks_are_whole_clusters(sizes: list[int], seed: int) -> None:
    ability = Clusters(sizes)
    items = ability.items("final", "full")
    looks = split_into_looks(ability, items, seed)
    assert len(looks) == LOOKS
    assert sorted(item for look in looks for item in look) == items
    clusters = [{ability.owners[item] for item in look} for look in looks]
    assert sum(map(len, clusters)) == len(sizes)  # no cluster is in two looks
    assert max(map(len, clusters)) == len(clusters[0]) == -(-len(sizes) // LOOKS)
    assert split_into_looks(ability, items, seed) == looks


def test_looks_depend_on_seed_and_ability() -> None:
    sizes = [1] * 50
    drawn = [
        split_into_looks(Clusters(sizes, name), list(range(50)), seed) for name in ("one", "two") for seed in range(3)
    ]
    assert all(drawn[place] != drawn[other] for place in range(6) for other in range(place))


@pytest.mark.parametrize("name", ABILITIES)
def test_looks_of_the_suite_are_of_about_equal_size(name: str) -> None:
    ability = ABILITIES[name]
    items = ability.items("final", "standard")
    sizes = [len(look) for look in split_into_looks(ability, items, 0)]
    largest = max(Counter(ability.item_fields(item)["cluster"] for item in items).values())
    assert sum(sizes) == len(items)
    assert max(sizes) - min(sizes) <= LOOKS * largest
