"""The score stage: base and tuned are asked all that was held out, by one model with its adapter off and on.

What is asked follows from the recipe alone, so that `verify` can ask for it again; every answer becomes a record in
scores/, and every figure of result.json is computed from these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keeptune.config.ability_names import READING_ABILITY, chosen_names
from keeptune.config.recipe import Recipe
from keeptune.data.plain_texts import Text, general_texts
from keeptune.data.preparation import load_examples
from keeptune.errors import DataError, ModelError
from keeptune.evaluation import divergence as drift
from keeptune.evaluation import harness
from keeptune.evaluation import reading as retained
from keeptune.evaluation import skill as skills
from keeptune.evaluation import unchanged_prompts as unchanged
from keeptune.evaluation.abilities.base import Ability
from keeptune.evaluation.abilities.registry import ABILITIES, abilities_named
from keeptune.evaluation.answer_divergence import PROMPTS, AnsweredPrompt, answer_divergence, chat_prompts
from keeptune.evaluation.fingerprint import adapter_facts
from keeptune.evaluation.gate import AbilityScores
from keeptune.evaluation.model_pair import WHO, AdapterPair
from keeptune.evaluation.practised import practised_by, practised_by_texts
from keeptune.evaluation.reading_likelihood import answer_nll
from keeptune.evaluation.retention_suite import evaluate, record_path, stored
from keeptune.evaluation.unchanged_prompts import suite_prompts
from keeptune.files import read_json, read_records, write_json, write_records
from keeptune.generation.distributed import SharedGenerator
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import AGAIN, RecordCache, sha256_of
from keeptune.grading.squad import ReadingItem, reading_items
from keeptune.models import adapter_metadata as adapter_card
from keeptune.pipeline.result import Scores
from keeptune.progress import Listener
from keeptune.prompts.chat import Layout as ChatLayout
from keeptune.prompts.chat import fallback_prompt
from keeptune.prompts.reading import Layout, other
from keeptune.prompts.template import Prompt

Record = dict[str, Any]

SKILL, READING, OTHER_PROMPT, TASKS, DRIFT = "skill", "retained", "retained-other", "tasks", "drift"
"""What is scored: test questions, reading questions under one prompt and another, tasks of the harness, and how far
predictions moved. The abilities of the retention suite have files of their own (evaluation/retention.py)."""

DIVERGENCE, PRACTISED = "divergence-tuned.jsonl", "practised.json"
"""The divergence on the tuned model's own answers; which abilities training practised, and why."""

UNCHANGED = "unchanged"
"""Prompts that do not invoke an adapter with an invocation, and what it changes there."""

_DIVERGENCE_TOKENS = 96
"""The most tokens of such an answer to a skill prompt."""

_LONGER, _MARGIN_TOKENS = 1.1, 16
"""What an answer may have beyond the longest solution taught: a mended step more, or larger numbers."""


class FinalScores:
    """The questions for the final score of a run, and the records of the answers."""

    def __init__(self, folder: Path, recipe: Recipe, listener: Listener) -> None:
        self.folder, self.recipe, self.listener = folder, recipe, listener
        self.prompt = Prompt(recipe.prompt.template)
        self.fallback = fallback_prompt(self.prompt, recipe.retain.invocation is not None)

    def asked(self, split: str, limit: int = 0) -> list[skills.Asked]:
        """The problems of a part of the data; the first `limit`, or all."""
        rows = load_examples(self.folder / "data" / f"{split}.parquet")
        asked = [skills.Asked(row.id, row.kind, row.problem, skills.truth(row.truth)) for row in rows]
        return asked[:limit] if limit else asked

    def reading(self) -> tuple[list[ReadingItem], list[ReadingItem]]:
        """The reading questions for choices and for the final score; no passage is in both.

        errors: DataError where both are needed and there is one passage, or less than four questions.
        """
        settings = self.recipe.score
        items = reading_items(settings.retained, settings.retained_limit)
        cut = len(items) - (min(settings.dev_limit, len(items) // 4) if self.chooses else 0)
        while 0 < cut < len(items) and items[cut].paragraph == items[cut - 1].paragraph:
            cut -= 1
        if self.chooses and cut in (0, len(items)):
            raise DataError(
                f"score.retained: {len(items)} questions cannot be divided by passage into some for choices and some "
                "for the final score; raise score.retained_limit, or give a file with more passages"
            )
        return items[cut:], items[:cut]

    @property
    def chooses(self) -> bool:
        """Whether checkpoints, averages or scales are compared. That takes reading questions away from the test."""
        return self.recipe.train.score_every_steps > 0 or self.recipe.select.compares

    def layouts(self) -> dict[str, Layout]:
        """The reading prompts that are asked, by the name of what they score."""
        layout = self.recipe.score.reading_prompt
        return {READING: layout, **({OTHER_PROMPT: other(layout)} if self.recipe.score.both_prompts else {})}

    def texts(self) -> list[Text]:
        """The general texts, and the prompts of test questions, on which predictions are compared."""
        general = general_texts(self.recipe.score.general, self.recipe.score.general_limit)
        asked = self.asked("test", drift.SKILL_PROMPTS)
        return [*general, *(Text(own.name, drift.SKILL, self.prompt.render(own.problem)) for own in asked)]

    def paths(self) -> list[Path]:
        """The files of records that the recipe asks for."""
        tasks = [TASKS] if self.recipe.score.tasks else []
        wanted = [self._path(what, who) for what in (SKILL, *self.layouts(), *tasks) for who in WHO]
        if self.recipe.score.general:
            wanted.append(self._path(DRIFT, "tuned"))
        if self.recipe.retain.invocation:
            wanted.append(self._path(UNCHANGED, "tuned"))
        if self.recipe.score.suite == "none":
            return wanted
        scores = self.folder / "scores"
        wanted += [record_path(scores, own.name, who) for own in self.abilities() for who in WHO]
        return [*wanted, scores / DIVERGENCE, scores / PRACTISED]

    def abilities(self) -> list[Ability]:
        """The abilities of the suite that have records of their own."""
        suite = self.recipe.score.suite
        if suite == "none":
            return []
        return [own for own in abilities_named(self.recipe.score.abilities, suite) if own.name != READING_ABILITY]

    def ability_scores(self) -> list[AbilityScores]:
        """The measurements of all abilities that the verdict can rest on, with what training practised."""
        practised, scores = self.practised(), self.folder / "scores"
        made = [stored(own, scores).scores(practised.get(own.name)) for own in self.abilities()]
        if READING_ABILITY in chosen_names(self.recipe.score.abilities):
            base, tuned = ([_as_reading(own) for own in self.records(READING, who)] for who in WHO)
            reading = ABILITIES[READING_ABILITY].measurements(base, tuned)
            made.insert(0, AbilityScores(READING_ABILITY, reading, practised.get(READING_ABILITY)))
        return [*made, *harness.ability_scores(*(self.scores(who).tasks for who in WHO))]

    def practised(self) -> dict[str, str]:
        """Which abilities training practised, and why, as it was found when the run was scored."""
        return {str(name): str(why) for name, why in read_json(self.folder / "scores" / PRACTISED).items()}

    def answer_divergences(self) -> list[Record]:
        """The divergence on the tuned model's own answers; nothing where that was not measured."""
        path = self.folder / "scores" / DIVERGENCE
        return read_records(path) if path.is_file() else []

    def complete(self) -> bool:
        """Whether all is scored."""
        return all(path.is_file() for path in self.paths())

    def score(self, generator: SharedGenerator, adapter: Path, scale: float, kept: RecordCache) -> None:
        """Scores what has no records yet, but for what `kept` has of the very same model and questions.

        The generator's model holds the adapter in the folder `adapter`, which is to count `scale` times.
        """
        model, tokenizer = generator.model, generator.tokenizer
        for who, own in (("base", 0.0), ("tuned", scale)):
            facts = {**adapter_facts(adapter, own), "answered_by": generator.packages}
            with generator.scaled(own):
                if not self._path(SKILL, who).is_file():
                    self._score_skill(generator, who, kept.with_facts(facts))
                for what in self.layouts():
                    if not self._path(what, who).is_file():
                        self._score_reading(generator, who, what, kept.with_facts(facts))
                if self.recipe.score.tasks and not self._path(TASKS, who).is_file():
                    self._score_tasks(model, tokenizer, who, kept.with_facts(facts))
        path = self._path(DRIFT, "tuned")
        if self.recipe.score.general and not path.is_file():
            texts = self.texts()
            records, there = kept.with_facts(adapter_facts(adapter, scale)).records(
                {"what": DRIFT, "texts": sha256_of(texts)},
                lambda: drift.score_drift(model, scale, tokenizer, texts),
            )
            write_records(path, records)
            self.listener.say(f"loss and divergence on {len(texts)} texts{AGAIN if there else ''}")

        if self.recipe.retain.invocation and not self._path(UNCHANGED, "tuned").is_file():
            with generator.scaled(scale):
                self._check_unchanged(generator)
        if self.recipe.score.suite != "none":
            self._score_suite(AdapterPair(generator, adapter, scale, kept, self.fallback))

    def _check_unchanged(self, generator: Generator) -> None:
        """errors: ModelError when the adapter changes anything on prompts that do not invoke it."""
        prompts = suite_prompts(ChatLayout(generator.tokenizer, self.fallback))
        records = unchanged.state_differences(generator.model, prompts)
        if differing := [record["id"] for record in records if record["difference"]]:
            raise ModelError(
                f"the adapter changes {len(differing)} of {len(records)} prompts that do not invoke it, e.g. "
                f"{differing[0]}; this is a fault of keeptune's, please report it"
            )
        write_records(self._path(UNCHANGED, "tuned"), records)
        self.listener.say(f"unchanged outside its invocation: {len(records)} prompts, bit for bit")

    def unchanged(self) -> list[Record]:
        """What was found on prompts that do not invoke the adapter; nothing where it always acts."""
        return self._if_there(UNCHANGED, "tuned")

    def _score_suite(self, pair: AdapterPair) -> None:
        """Base and tuned on the retention suite, and the divergence on the tuned model's answers."""
        size, scores = self.recipe.score.suite, self.folder / "scores"
        assert size != "none"
        evaluate(pair, self.abilities(), "final", size, scores, self.listener)
        if not (scores / DIVERGENCE).is_file():
            prompts = self._skill_prompts(pair.layout.tokenizer) + chat_prompts(pair.layout, PROMPTS[size])
            write_records(scores / DIVERGENCE, answer_divergence(pair, prompts, self.recipe.seed))
            self.listener.say(f"divergence on answers to {len(prompts)} prompts, greedy and sampled")
        if not (scores / PRACTISED).is_file():
            rows = load_examples(self.folder / "data" / "train.parquet")
            texts = (text for row in rows for text in (row.problem, row.solution))
            write_json(scores / PRACTISED, practised_by_texts(texts, "training data") | practised_by(self.recipe))

    def _skill_prompts(self, tokenizer: Any) -> list[AnsweredPrompt]:
        size = self.recipe.score.suite
        budgets = self.budgets()
        assert size != "none"
        return [
            AnsweredPrompt(
                own.name,
                "skill",
                self.prompt.render(own.problem),
                tuple(self.prompt.encode(tokenizer, own.problem)),
                min(_DIVERGENCE_TOKENS, budgets.get(own.kind, skills.longest(budgets))),
            )
            for own in self.asked("test", PROMPTS[size])
        ]

    def budgets(self) -> dict[str, int]:
        """How many tokens an answer may have, by kind: as many as the longest solution, and a tenth more; and no fewer
        than the adapter that this one went on from, whose rows may have been longer."""
        kinds = read_json(self.folder / "data" / "card.json")["kinds"]
        start = self.recipe.adapter.start
        card = adapter_card.beside(start) if start else None
        before = card.budgets if card else {}
        return {
            kind: max(round(_LONGER * facts["solution_tokens"]["max"]) + _MARGIN_TOKENS, before.get(kind, 0))
            for kind, facts in kinds.items()
            if facts["train"]
        }

    def records(self, what: str, who: str) -> list[Record]:
        """The records of the answers to `what` by `who`. errors: RunError when there are none."""
        return read_records(self._path(what, who))

    def scores(self, who: str) -> Scores:
        """All records of one model's answers."""
        others = (self._if_there(what, who) for what in (OTHER_PROMPT, TASKS))
        return Scores(self.records(SKILL, who), self.records(READING, who), *others)

    def moved(self) -> list[Record]:
        """How far the predictions moved, text by text; nothing where that was not measured."""
        return self._if_there(DRIFT, "tuned")

    def _score_skill(self, generator: Generator, who: str, kept: RecordCache) -> None:
        asked, budgets = self.asked("test"), self.budgets()
        skills.require_invoked(generator, self.prompt, (own.problem for own in asked))
        count = self.listener.counter(f"{who}: test questions", len(asked))
        records, there = kept.records(
            skills.facts(self.prompt, asked, budgets),
            lambda: skills.score_skill(generator, self.prompt, asked, budgets, count),
        )
        write_records(self._path(SKILL, who), records)
        right = skills.summary(records)["accuracy"]
        self.listener.say(f"{who}: {right:.1%} of {len(asked)} test questions right{AGAIN if there else ''}")

    def _score_reading(self, generator: Generator, who: str, what: str, kept: RecordCache) -> None:
        items, layout = self.reading()[1], self.layouts()[what]
        count = self.listener.counter(f"{who}: reading questions, {layout} prompt", len(items))

        def score() -> list[Record]:
            records = retained.score_retained(generator, items, layout, count)
            if what == READING:
                for record, nll in zip(records, answer_nll(generator, items), strict=True):
                    record[retained.LIKELIHOOD] = nll
            return records

        records, there = kept.records(
            {**retained.facts(items, layout), "what": what, "with_likelihood": what == READING}, score
        )
        write_records(self._path(what, who), records)
        scores = retained.summary(records)
        self.listener.say(
            f"{who}: reading F1 {scores['f1']:.1f}, EM {scores['em']:.1f} on {len(items)} questions, {layout} prompt"
            f"{AGAIN if there else ''}"
        )

    def _score_tasks(self, model: Any, tokenizer: Any, who: str, kept: RecordCache) -> None:
        asked = self.recipe.score.tasks, self.recipe.score.tasks_limit, self.recipe.score.tasks_path
        self.listener.say(f"{who}: {', '.join(asked[0])}, asked by lm-evaluation-harness")
        records, there = kept.records(
            harness.facts(*asked), lambda: harness.score_tasks(model.get_base_model(), tokenizer, *asked)
        )
        if who == "tuned":
            harness.check_same(self.records(TASKS, "base"), records)
        write_records(self._path(TASKS, who), records)
        means = (f"{name} {100 * harness.values(records, name).mean():.1f}" for name in asked[0])
        self.listener.say(f"{who}: {', '.join(means)}{AGAIN if there else ''}")

    def _if_there(self, what: str, who: str) -> list[Record]:
        """The records of what a recipe may leave out, and older runs do."""
        return self.records(what, who) if self._path(what, who).is_file() else []

    def _path(self, what: str, who: str) -> Path:
        return self.folder / "scores" / f"{what}-{who}.jsonl"


def _as_reading(record: Record) -> Record:
    """A reading record as the suite's ability has it."""
    scores = record[retained.SQUAD]
    return {
        "cluster": f"{record['article']}/{record['paragraph']}",
        "f1": scores["f1"] / 100,
        "em": scores["em"] / 100,
    }
