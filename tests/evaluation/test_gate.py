"""The retention verdict on arrays whose right status is known. No test needs a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.evaluation.gate import (
    MINIMUM_ABILITIES,
    MINIMUM_CLUSTERS,
    MINIMUM_QUESTIONS,
    AbilityResult,
    AbilityScores,
    GateResult,
    Kind,
    Limits,
    Measurement,
    judge,
)
from keeptune.evaluation.statistics import FloatArray

LOGARITHM_OF_VOCABULARY = 10.8


def measurement(
    base: FloatArray, tuned: FloatArray, *, name: str = "value", kind: Kind = "score", **changes: Any
) -> Measurement:
    """One measure whose questions are independent, unless `changes` says otherwise."""
    fields: dict[str, Any] = {
        "clusters": list(range(len(base))),
        "weights": np.ones(len(base)),
        "chance": LOGARITHM_OF_VOCABULARY if kind == "loss" else 0.0,
        "question_count": len(base),
    }
    return Measurement(name, kind, base, tuned, **{**fields, **changes})


def answers(n: int = 400, right: int = 300, lost: int = 0, gained: int = 0) -> tuple[FloatArray, FloatArray]:
    """Right (1) and wrong (0) answers of base and tuned: `right` of the base, of which the tuned model loses `lost`."""
    base = np.zeros(n)
    base[:right] = 1
    tuned = base.copy()
    tuned[:lost] = 0
    tuned[right : right + gained] = 1
    return base, tuned


def scored_ability(
    name: str, *, practised: str | None = None, measure: Mapping[str, Any] | None = None, **counts: int
) -> AbilityScores:
    """An ability with one measure of right and wrong answers."""
    return AbilityScores(name, [measurement(*answers(**counts), **(measure or {}))], practised)


def loss_ability(name: str, change: float, texts: int = 60, spread: float = 0.05) -> AbilityScores:
    """Nats on texts of different lengths: tuned is `change` ± `spread` nats per token above base."""
    generator = np.random.default_rng(4)
    tokens = generator.integers(50, 150, texts).astype(np.float64)
    base = generator.normal(3, 0.5, texts) * tokens
    changes = generator.normal(0, spread, texts)
    changes += change - (changes * tokens).sum() / tokens.sum()
    return AbilityScores(name, [measurement(base, base + changes * tokens, kind="loss", weights=tokens)])


def unchanged(count: int = 3) -> list[AbilityScores]:
    """Abilities of which the tuned model has lost nothing."""
    return [scored_ability(f"unchanged {number}", right=300 - number) for number in range(count)]


def verdict_on(abilities: Sequence[AbilityScores], limits: Limits | None = None, **options: Any) -> GateResult:
    return judge(abilities, limits or Limits(), **{"resamples": 2000, "seed": 1, **options})


def by_name(result: GateResult) -> dict[str, AbilityResult]:
    return {ability.name: ability for ability in result.abilities}


def test_equal_models_pass_with_a_ratio_of_exactly_one() -> None:
    generator = np.random.default_rng(0)
    graded = generator.random(250)
    abilities = [
        scored_ability("choices"),
        AbilityScores("reading", [measurement(graded, graded.copy(), clusters=[k // 5 for k in range(250)])]),
        loss_ability("text", 0.0, spread=0.0),
    ]
    result = verdict_on(abilities)
    assert result.verdict == "pass"
    for name, value in {"choices": 1, "reading": 1, "text": 0}.items():
        headline = by_name(result)[name].headline
        assert (headline.point, headline.low95, headline.high95) == (value, value, value)
    assert all(ability.status == "retained" and ability.counted for ability in result.abilities)


def test_a_clear_loss_fails_and_is_named() -> None:
    result = verdict_on([*unchanged(), scored_ability("arithmetic", lost=90)])
    assert result.verdict == "fail"
    assert "arithmetic" in result.reason
    assert "unchanged" not in result.reason
    lost = by_name(result)["arithmetic"]
    assert (lost.status, lost.counted) == ("lost", True)
    assert lost.headline.high95 < 0.9
    assert lost.headline.more_questions is None


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_four_questions_decide_nothing(lost: int) -> None:
    result = verdict_on([*unchanged(), scored_ability("short", n=4, right=4, lost=lost)])
    assert result.verdict == "undecided"
    short = by_name(result)["short"]
    assert (short.status, short.headline.more_questions) == ("undecided", MINIMUM_QUESTIONS - 4)


def test_four_questions_with_broken_values_decide_nothing() -> None:
    broken = measurement(np.ones(4), np.full(4, np.nan))
    assert verdict_on([*unchanged(), AbilityScores("short", [broken])]).verdict == "undecided"


@pytest.mark.parametrize("lost", [0, 300])
def test_few_clusters_decide_nothing(lost: int) -> None:
    few = {"clusters": [number % (MINIMUM_CLUSTERS - 1) for number in range(400)]}
    result = verdict_on([*unchanged(), scored_ability("few texts", lost=lost, measure=few)])
    assert (result.verdict, by_name(result)["few texts"].status) == ("undecided", "undecided")
    enough = {"clusters": [number % MINIMUM_CLUSTERS for number in range(400)]}
    assert by_name(verdict_on([scored_ability("texts", lost=lost, measure=enough)]))["texts"].status != "undecided"


def test_clustered_changes_widen_the_interval() -> None:
    together = {"clusters": [number // 20 for number in range(400)]}
    single, clustered = scored_ability("single", lost=20), scored_ability("clustered", lost=20, measure=together)
    wide, narrow = (verdict_on([ability]).abilities[0].headline for ability in (clustered, single))
    assert wide.point == narrow.point
    assert wide.low95 < narrow.low95


def test_fewer_than_three_counted_abilities_decide_nothing() -> None:
    assert verdict_on(unchanged(MINIMUM_ABILITIES - 1)).verdict == "undecided"
    assert verdict_on(unchanged(MINIMUM_ABILITIES)).verdict == "pass"
    assert verdict_on([]).verdict == "undecided"
    # A loss needs no company.
    assert verdict_on([scored_ability("only", lost=90)]).verdict == "fail"


@pytest.mark.parametrize("lost", [0, 100])
def test_a_base_at_chance_has_nothing_to_lose(lost: int) -> None:
    guessed = scored_ability("guessed", right=104, lost=lost, measure={"chance": 0.25})
    result = verdict_on([*unchanged(), guessed])
    assert result.verdict == "pass"
    assert (by_name(result)["guessed"].status, by_name(result)["guessed"].counted) == ("nothing to lose", False)


def test_a_base_above_chance_has_something_to_lose() -> None:
    known = scored_ability("known", right=140, lost=100, measure={"chance": 0.25})
    assert verdict_on([*unchanged(), known]).verdict == "fail"


def test_a_base_with_few_right_answers_has_nothing_to_lose() -> None:
    assert by_name(verdict_on([scored_ability("weak", right=9, lost=9)]))["weak"].status == "nothing to lose"


@pytest.mark.parametrize("above_chance", [0.001, 1.0])
def test_a_base_loss_of_chance_has_nothing_to_lose(above_chance: float) -> None:
    base = np.full(60, LOGARITHM_OF_VOCABULARY + above_chance)
    text = AbilityScores("text", [measurement(base, base + 1, kind="loss")])
    assert by_name(verdict_on([text]))["text"].status == "nothing to lose"


def test_a_random_base_is_undecided() -> None:
    generator = np.random.default_rng(2)
    abilities = []
    for name, chance in (("four options", 0.25), ("pairs", 0.5), ("generation", 0.0), ("code", 0.25)):
        right = round(chance * 400)
        base, tuned = (generator.permutation(np.arange(400) < right).astype(np.float64) for _ in range(2))
        abilities.append(AbilityScores(name, [measurement(base, tuned, chance=chance)]))
    result = verdict_on(abilities)
    assert result.verdict == "undecided"
    assert {ability.status for ability in result.abilities} == {"nothing to lose"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    base, tuned = answers()
    broken = tuned.copy()
    broken[7] = value
    result = verdict_on([*unchanged(), AbilityScores("broken", [measurement(base, broken)])])
    assert (result.verdict, by_name(result)["broken"].status) == ("fail", "lost")
    result = verdict_on([*unchanged(), AbilityScores("broken", [measurement(broken, tuned)])])
    assert (result.verdict, by_name(result)["broken"].status) == ("undecided", "undecided")


def test_answers_that_cannot_be_compared_have_nothing_to_lose() -> None:
    usable = {"question_count": 150, "kind": "loss", "chance": LOGARITHM_OF_VOCABULARY}
    result = verdict_on([scored_ability("chat", n=20, right=20, measure=usable)])
    assert by_name(result)["chat"].status == "nothing to lose"


def test_a_practised_ability_never_counts() -> None:
    practised = scored_ability("reading", lost=200, practised="replay")
    result = verdict_on([*unchanged(), practised])
    assert result.verdict == "pass"
    reading = by_name(result)["reading"]
    assert (reading.status, reading.counted, reading.practised) == ("practised", False, "replay")
    assert reading.headline.status == "lost"
    too_few = [*unchanged(MINIMUM_ABILITIES - 1), scored_ability("reading", practised="replay")]
    assert verdict_on(too_few).verdict == "undecided"


def test_only_the_counted_abilities_decide() -> None:
    abilities = [*unchanged(), scored_ability("ignored", lost=200)]
    counted = frozenset(ability.name for ability in unchanged())
    result = verdict_on(abilities, Limits(counted=counted))
    assert result.verdict == "pass"
    assert not by_name(result)["ignored"].counted
    assert verdict_on(abilities, Limits(counted=counted | {"ignored"})).verdict == "fail"
    assert verdict_on(abilities, Limits(counted=frozenset(sorted(counted)[:2]))).verdict == "undecided"


def test_thresholds_by_ability() -> None:
    abilities = [*unchanged(), scored_ability("summaries", lost=60)]
    assert by_name(verdict_on(abilities))["summaries"].status == "lost"
    lenient = by_name(verdict_on(abilities, Limits(thresholds={"summaries": 0.7})))["summaries"]
    assert (lenient.status, lenient.headline.limit) == ("retained", 0.7)
    strict = by_name(verdict_on([*unchanged(), scored_ability("facts", lost=15)], Limits(thresholds={"facts": 0.99})))
    assert strict["facts"].status == "lost"
    assert strict["unchanged 0"].headline.limit == 0.9


@pytest.mark.parametrize(
    ("change", "status"), [(-0.2, "retained"), (0.05, "retained"), (0.1, "undecided"), (0.2, "lost")]
)
def test_a_loss_is_compared_with_the_margin(change: float, status: str) -> None:
    ability = verdict_on([loss_ability("text", change)]).abilities[0]
    assert ability.status == status
    assert ability.headline.point == pytest.approx(change)
    assert ability.headline.limit == 0.10


@pytest.mark.parametrize("change", [0.09, 0.11])
def test_a_loss_near_the_margin_is_undecided(change: float) -> None:
    assert verdict_on([loss_ability("text", change, spread=0.2)]).abilities[0].status == "undecided"


def test_margins_by_ability() -> None:
    margins = {"strict": 0.02, "lenient": 0.5}
    abilities = [loss_ability("strict", 0.06), loss_ability("default", 0.06), loss_ability("lenient", 0.2)]
    statuses = [ability.status for ability in verdict_on(abilities, Limits(margins=margins)).abilities]
    assert statuses == ["lost", "retained", "retained"]


def test_an_ability_is_lost_or_undecided_if_one_measure_is() -> None:
    retained, lost, undecided = (measurement(*answers(lost=lost)) for lost in (0, 90, 30))
    expected = {
        "lost": [retained, lost, undecided],
        "undecided": [retained, undecided],
        "retained": [retained, retained],
    }
    for status, measures in expected.items():
        assert verdict_on([AbilityScores("x", measures)]).abilities[0].status == status


def surer(lost: int, proves: bool) -> AbilityScores:
    """A model that lost answers and became so sure of the others that the mean probability did not fall."""
    base, tuned = answers(n=400, right=300, lost=lost)
    probability = measurement(0.6 * base + 0.1, 0.9 * tuned + 0.1, name="probability")
    return AbilityScores("knowledge", [probability, measurement(base, tuned, name="accuracy", proves=proves)])


@pytest.mark.parametrize(
    ("lost", "proves", "status"),
    [
        (0, False, "retained"),
        (27, False, "retained"),  # 91 % kept: what the other measure proves, this one must not contradict
        (27, True, "undecided"),
        (40, False, "undecided"),  # 87 % kept
        (90, False, "lost"),
    ],
)
def test_a_second_check_need_not_prove_but_must_not_contradict(lost: int, proves: bool, status: str) -> None:
    result = verdict_on([surer(lost, proves), *unchanged(2)])
    own = by_name(result)["knowledge"]
    assert own.status == status
    assert own.measures[0].status == "retained"
    assert result.verdict == {"retained": "pass", "undecided": "undecided", "lost": "fail"}[status]


@pytest.mark.parametrize(("lost", "status"), [(0, "nothing to lose"), (20, "lost")])
def test_a_second_check_alone_proves_nothing(lost: int, status: str) -> None:
    """Found by bench/gate_simulation.py: with too few questions for the probability, a ratio of accuracies above the
    limit made an ability `retained`."""
    base, tuned = answers(n=60, right=44, lost=lost)
    probability = measurement(0.7 * base, 0.7 * tuned, name="probability")
    second = measurement(base, tuned, name="accuracy", proves=False)
    own = by_name(verdict_on([AbilityScores("knowledge", [probability, second]), *unchanged()]))["knowledge"]
    assert [measure.status for measure in own.measures][1] == ("retained" if status == "nothing to lose" else "lost")
    assert own.status == status


def test_a_marginal_loss_among_many_is_not_lost() -> None:
    marginal = scored_ability("marginal", lost=48, gained=2)
    alone = by_name(verdict_on([marginal]))["marginal"]
    assert alone.status == "lost"
    among = by_name(verdict_on([marginal, *unchanged(40)]))["marginal"]
    assert among.headline.high95 < among.headline.limit
    assert among.status == "undecided"


def test_abilities_that_are_lost_make_room_for_the_next() -> None:
    marginal = scored_ability("marginal", lost=48, gained=2)
    clear = [scored_ability(f"lost {number}", lost=150) for number in range(9)]
    assert by_name(verdict_on([marginal, *clear]))["marginal"].status == "lost"


def test_abilities_outside_the_family_need_no_correction() -> None:
    marginal = scored_ability("marginal", lost=48, gained=2)
    uncounted = unchanged(9)
    guessed = [scored_ability(f"guessed {number}", right=100, measure={"chance": 0.25}) for number in range(9)]
    practised = [scored_ability(f"practised {number}", practised="replay") for number in range(9)]
    limits = Limits(counted=frozenset({ability.name for ability in [marginal, *guessed, *practised]}))
    result = verdict_on([marginal, *uncounted, *guessed, *practised], limits)
    assert by_name(result)["marginal"].status == "lost"


def test_several_looks_need_stronger_evidence() -> None:
    abilities = [scored_ability("less", lost=48, gained=2), scored_ability("same", lost=19)]
    once, often = (by_name(verdict_on(abilities, looks=looks)) for looks in (1, 5))
    assert (once["less"].status, once["same"].status) == ("lost", "retained")
    assert (often["less"].status, often["same"].status) == ("undecided", "undecided")
    clear = by_name(verdict_on([*unchanged(), scored_ability("clear", lost=150)], looks=5))
    assert clear["clear"].status == "lost"
    assert clear["unchanged 0"].status == "retained"


@pytest.mark.parametrize(("lost", "gained", "status"), [(20, 0, "retained"), (35, 15, "retained"), (50, 8, "lost")])
def test_the_further_questions_decide_if_the_rates_stay(lost: int, gained: int, status: str) -> None:
    def result_at(times: float) -> AbilityResult:
        counts = {"n": 200, "right": 150, "lost": lost // 2, "gained": gained // 2}
        base, tuned = answers(**{name: round(times * count) for name, count in counts.items()})
        return verdict_on([AbilityScores("x", [measurement(base, tuned)])]).abilities[0]

    result = result_at(1)
    more = result.headline.more_questions
    assert result.status == "undecided"
    assert more is not None
    assert more > 0
    assert result_at(1.15 * (1 + more / 200)).status == status
    assert result_at(1 + 0.6 * more / 200).status == "undecided"


def test_a_point_on_the_limit_knows_no_number_of_questions() -> None:
    headline = verdict_on([loss_ability("text", 0.25)], Limits(margin=0.25)).abilities[0].headline
    # The point differs from the limit by rounding at most.
    assert headline.status == "undecided"
    assert headline.more_questions is None or headline.more_questions > 1_000_000


def test_a_seed_gives_equal_results() -> None:
    abilities = [*unchanged(), scored_ability("open", lost=30, gained=10)]
    assert verdict_on(abilities) == verdict_on(abilities)
    assert verdict_on(abilities) != verdict_on(abilities, seed=2)


SMALL = 60
LOOKS = st.sampled_from([1, 5])


@st.composite
def small_abilities(draw: st.DrawFn) -> list[AbilityScores]:
    """Up to six abilities of 60 questions: at chance or above, with few or many losses, some practised."""
    abilities = []
    for number in range(draw(st.integers(0, 6))):
        right = draw(st.sampled_from([5, 20, 50, 60]))
        lost = draw(st.one_of(st.just(0), st.integers(0, right)))
        gained = draw(st.integers(0, SMALL - right))
        practised = draw(st.sampled_from([None, None, None, "replay"]))
        chance = draw(st.sampled_from([0.0, 0.25]))
        size = draw(st.sampled_from([SMALL, SMALL, SMALL, 4]))
        base, tuned = answers(SMALL, right, lost, gained)
        abilities.append(
            AbilityScores(f"ability {number}", [measurement(base[:size], tuned[:size], chance=chance)], practised)
        )
    return abilities


@st.composite
def limits_of(draw: st.DrawFn) -> Limits:
    counted = draw(st.one_of(st.none(), st.frozensets(st.sampled_from([f"ability {number}" for number in range(6)]))))
    return Limits(draw(st.sampled_from([0.5, 0.9, 0.99])), counted=counted)


@settings(max_examples=80)
@given(small_abilities(), limits_of(), LOOKS)
def test_the_verdict_follows_from_the_counted_statuses(
    abilities: list[AbilityScores], limits: Limits, looks: int
) -> None:
    result = verdict_on(abilities, limits, resamples=200, looks=looks)
    counted = [ability for ability in result.abilities if ability.counted]
    statuses = [ability.status for ability in counted]
    assert all(ability.practised is None and ability.status != "nothing to lose" for ability in counted)
    assert all(limits.counted is None or ability.name in limits.counted for ability in counted)
    assert (result.verdict == "fail") == ("lost" in statuses)
    assert (result.verdict == "pass") == (len(counted) >= MINIMUM_ABILITIES and set(statuses) == {"retained"})


@settings(max_examples=60)
@given(small_abilities(), LOOKS)
def test_a_further_lost_ability_fails_the_run(abilities: list[AbilityScores], looks: int) -> None:
    lost = scored_ability("lost", lost=299)
    result = verdict_on([*abilities, lost], resamples=200, looks=looks)
    assert by_name(result)["lost"].status == "lost"
    assert result.verdict == "fail"
    assert "lost" in result.reason


@settings(max_examples=60)
@given(st.data(), small_abilities(), limits_of(), LOOKS)
def test_the_order_of_abilities_does_not_matter(
    data: st.DataObject, abilities: list[AbilityScores], limits: Limits, looks: int
) -> None:
    other = data.draw(st.permutations(abilities))
    first, second = (verdict_on(order, limits, resamples=200, looks=looks) for order in (abilities, other))
    assert first.verdict == second.verdict
    first_statuses, second_statuses = (
        {ability.name: (ability.status, ability.counted, ability.headline.status) for ability in result.abilities}
        for result in (first, second)
    )
    assert first_statuses == second_statuses


@settings(max_examples=60)
@given(small_abilities(), limits_of())
def test_several_looks_decide_nothing_that_one_look_leaves_undecided(
    abilities: list[AbilityScores], limits: Limits
) -> None:
    once, often = (verdict_on(abilities, limits, resamples=200, looks=looks) for looks in (1, 5))
    for single, repeated in zip(once.abilities, often.abilities, strict=True):
        if repeated.status in ("lost", "retained"):
            assert repeated.status == single.status


def test_no_loss_among_few_right_answers_proves_nothing() -> None:
    """Ten right answers that all stay right have a probability of 35 % under a true ratio of 0.9."""
    few = [scored_ability(f"few {number}", n=30, right=10) for number in range(3)]
    assert verdict_on(few).verdict == "undecided"
    assert {own.status for own in verdict_on(few).abilities} == {"nothing to lose"}
    lost = by_name(verdict_on([scored_ability("few", n=60, right=30, lost=30), *unchanged()]))["few"]
    assert lost.status == "lost"


def test_an_ability_without_a_measure_is_not_retained() -> None:
    result = verdict_on([*unchanged(), AbilityScores("empty", [])])
    assert (result.verdict, by_name(result)["empty"].status) == ("undecided", "undecided")
