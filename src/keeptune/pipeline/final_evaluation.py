"""The final evaluation of a run: its held-out questions, and one record per answer of base and tuned.

The recipe alone determines the questions, so that `verify` can derive them again. Every answer becomes a record in
scores/, and every figure of result.json is computed from these records. Base and tuned are one model with its adapter
switched off and on.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from keeptune.config.ability_names import READING_ABILITY, chosen_names
from keeptune.config.recipe import Recipe
from keeptune.data.plain_texts import PlainText, load_general_texts
from keeptune.data.preparation import load_prepared_rows
from keeptune.errors import DataError, ModelError
from keeptune.evaluation import harness, reading_score, skill_score, text_divergence, unchanged_prompts
from keeptune.evaluation.abilities.base import Ability
from keeptune.evaluation.abilities.registry import ABILITIES, abilities_named
from keeptune.evaluation.answer_divergence import PROMPTS, DivergencePrompt, chat_prompts, measure_answer_divergence
from keeptune.evaluation.fingerprint import adapter_fingerprint
from keeptune.evaluation.gate import AbilityScores
from keeptune.evaluation.model_pair import VARIANTS, AdapterPair
from keeptune.evaluation.practised import practised_by, practised_by_texts
from keeptune.evaluation.reference_answer_likelihood import answer_nll
from keeptune.evaluation.suite_evaluation import evaluate_suite, load_paired_records, record_path
from keeptune.evaluation.unchanged_prompts import suite_prompts
from keeptune.files import Record, read_json, read_records, write_json, write_records
from keeptune.generation.distributed import DistributedGenerator
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import FROM_CACHE, RecordCache, sha256_of
from keeptune.grading.base import Grader
from keeptune.grading.number import parse_truth
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.models import adapter_metadata
from keeptune.pipeline.model_session import ModelSession
from keeptune.pipeline.result import Scores
from keeptune.progress import Reporter
from keeptune.prompts.chat import ChatLayout, fallback_prompt
from keeptune.prompts.chat_prompt import AnyPrompt
from keeptune.prompts.reading import ReadingLayout, other_layout
from keeptune.prompts.template import Prompt
from keeptune.run_files.card import Card
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.part import Part
from keeptune.run_files.records import Answer, ReadingAnswer
from keeptune.skills.registry import skill_for_section

SKILL, READING, OTHER_PROMPT, TASKS, DRIFT = "skill", "retained", "retained-other", "tasks", "drift"
"""Measurements with one record per item: test questions, reading questions under the main and the other prompt,
lm-evaluation-harness tasks, and loss and divergence on texts. Each ability of the suite has a separate file."""

UNCHANGED = "unchanged"
"""Measurement for adapters with an invocation: what the adapter changes on prompts without it."""

SCHEMAS: dict[str, type[Part]] = {SKILL: Answer, READING: ReadingAnswer, OTHER_PROMPT: ReadingAnswer}
"""Schemas of records by measurement."""

_DIVERGENCE_TOKENS = 96
"""The maximum length of an answer on which the divergence is measured."""

_LONGER, _MARGIN_TOKENS = 1.1, 16
"""Answers may exceed the longest training solution by a tenth and 16 tokens: test problems can need more steps."""


class FinalEvaluation:
    """The questions of the final evaluation of a run, and the records of the answers."""

    def __init__(self, directory: RunDirectory, recipe: Recipe, reporter: Reporter, models: ModelSession) -> None:
        self.directory, self.recipe, self.reporter, self._models = directory, recipe, reporter, models
        self._shown_messages: set[str] = set()

    @cached_property
    def prompt(self) -> AnyPrompt:
        """The prompt of the test questions. A chat prompt loads the tokenizer."""
        return self._models.prompt(self.recipe.prompt)

    @property
    def fallback(self) -> Prompt:
        """The prompt of the suite for models without a chat template."""
        return fallback_prompt(self.prompt, self.recipe.retain.invocation is not None)

    @cached_property
    def grader(self) -> Grader | None:
        """The grader of the skill's answers; None if they are exact values."""
        return skill_for_section(self.recipe.data).grader

    def problems(self, split: str, limit: int = 0) -> list[skill_score.SkillQuestion]:
        """The problems of `dev` or `test`; the first `limit`, or all."""
        rows = load_prepared_rows(self.directory.examples(split))
        truth = str if self.grader else parse_truth
        problems = [
            skill_score.SkillQuestion(row.id, row.kind, row.problem, truth(row.truth), row.conversation) for row in rows
        ]
        return problems[:limit] if limit else problems

    def reading(self) -> tuple[list[ReadingItem], list[ReadingItem]]:
        """The reading questions for checkpoint selection and for the final evaluation; no passage is in both.

        Raises:
            DataError: when selection needs questions and there is one passage, or fewer than four questions.
        """
        settings = self.recipe.score
        items = load_reading_items(settings.retained, settings.retained_limit, self._inform_once)
        cut = len(items) - (min(settings.dev_limit, len(items) // 4) if self.compares_candidates else 0)
        while 0 < cut < len(items) and items[cut].paragraph == items[cut - 1].paragraph:
            cut -= 1
        if self.compares_candidates and cut in (0, len(items)):
            raise DataError(
                f"score.retained: {len(items)} questions cannot be split by passage into selection and final "
                "evaluation; raise score.retained_limit, or give a file with more passages"
            )
        return items[cut:], items[:cut]

    def _inform_once(self, message: str) -> None:
        if message not in self._shown_messages:
            self._shown_messages.add(message)
            self.reporter.info(message)

    @property
    def compares_candidates(self) -> bool:
        """Whether checkpoints, averages or scales are compared. Selection then uses some of the reading questions."""
        return self.recipe.train.score_every_steps > 0 or self.recipe.select.compares

    def layouts(self) -> dict[str, ReadingLayout]:
        """The reading prompts in use, by measurement."""
        layout = self.recipe.score.reading_prompt
        return {READING: layout, **({OTHER_PROMPT: other_layout(layout)} if self.recipe.score.both_prompts else {})}

    def texts(self) -> list[PlainText]:
        """The general texts and the prompts of test questions on which predictions are compared."""
        general = load_general_texts(self.recipe.score.general, self.recipe.score.general_limit)
        problems = self.problems("test", text_divergence.SKILL_PROMPTS)
        return [
            *general,
            *(PlainText(one.name, text_divergence.SKILL, self._rendered(one)) for one in problems),
        ]

    def _rendered(self, question: skill_score.SkillQuestion) -> str:
        return self.prompt.render(question.problem, question.conversation)

    def paths(self) -> list[Path]:
        """The files of records that the recipe requires."""
        directory, tasks = self.directory, [TASKS] if self.recipe.score.tasks else []
        paths = [directory.records(what, variant) for what in (SKILL, *self.layouts(), *tasks) for variant in VARIANTS]
        if self.recipe.score.general:
            paths.append(directory.records(DRIFT, "tuned"))
        if self.recipe.retain.invocation:
            paths.append(directory.records(UNCHANGED, "tuned"))
        if self.recipe.score.suite == "none":
            return paths
        paths += [record_path(directory.scores, one.name, variant) for one in self.abilities() for variant in VARIANTS]
        return [*paths, directory.answer_divergence, directory.practised]

    def abilities(self) -> list[Ability]:
        """The selected abilities of the suite, without reading, whose records are those of the reading questions."""
        suite = self.recipe.score.suite
        if suite == "none":
            return []
        return [one for one in abilities_named(self.recipe.score.abilities, suite) if one.name != READING_ABILITY]

    def ability_scores(self) -> list[AbilityScores]:
        """The measurements of all abilities that the verdict considers, with what training practised."""
        practised = self.practised()
        scores = [
            load_paired_records(one, self.directory.scores).ability_scores(practised.get(one.name))
            for one in self.abilities()
        ]
        if READING_ABILITY in chosen_names(self.recipe.score.abilities):
            base, tuned = ([as_reading(one) for one in self.records(READING, variant)] for variant in VARIANTS)
            reading = ABILITIES[READING_ABILITY].measurements(base, tuned)
            scores.insert(0, AbilityScores(READING_ABILITY, reading, practised.get(READING_ABILITY)))
        return [*scores, *harness.ability_scores(*(self.scores(variant).tasks for variant in VARIANTS))]

    def practised(self) -> dict[str, str]:
        """The abilities that training practised, each with its reason. The evaluation stage stored them."""
        return {str(name): str(reason) for name, reason in read_json(self.directory.practised).items()}

    def answer_divergences(self) -> list[Record]:
        """The divergence on the tuned model's answers; empty where it was not measured."""
        path = self.directory.answer_divergence
        return read_records(path) if path.is_file() else []

    def complete(self) -> bool:
        """Whether every record file exists."""
        return all(path.is_file() for path in self.paths())

    def score(self, generator: DistributedGenerator, adapter: Path, scale: float, cache: RecordCache) -> None:
        """Evaluates what has no records yet. `cache` may hold answers of the same model to the same questions.

        The generator's model has the adapter of the folder `adapter` attached, which is applied at `scale`.
        """
        model, tokenizer = generator.model, generator.tokenizer
        for variant, factor in (("base", 0.0), ("tuned", scale)):
            identity = {**adapter_fingerprint(adapter, factor), "answered_by": generator.packages}
            with generator.scaled(factor):
                if not self._has(SKILL, variant):
                    self._score_skill(generator, variant, cache.extended(identity))
                for what in self.layouts():
                    if not self._has(what, variant):
                        self._score_reading(generator, variant, what, cache.extended(identity))
                if self.recipe.score.tasks and not self._has(TASKS, variant):
                    self._score_tasks(model, tokenizer, variant, cache.extended(identity))
        path = self.directory.records(DRIFT, "tuned")
        if self.recipe.score.general and not path.is_file():
            texts = self.texts()
            records, is_cached = cache.extended(adapter_fingerprint(adapter, scale)).get_or_compute(
                {"what": DRIFT, "texts": sha256_of(texts)},
                lambda: text_divergence.measure_text_divergence(model, scale, tokenizer, texts),
            )
            write_records(path, records)
            self.reporter.info(f"loss and divergence on {len(texts)} texts{FROM_CACHE if is_cached else ''}")
        if self.recipe.retain.invocation and not self._has(UNCHANGED, "tuned"):
            with generator.scaled(scale):
                self._check_unchanged(generator)
        if self.recipe.score.suite != "none":
            self._score_suite(AdapterPair(generator, adapter, scale, cache, self.fallback))

    def _check_unchanged(self, generator: Generator) -> None:
        """Raises ModelError when the adapter changes anything on prompts without its invocation."""
        prompts = suite_prompts(ChatLayout(generator.tokenizer, self.fallback))
        records = unchanged_prompts.state_differences(generator.model, prompts)
        if differing := [record["id"] for record in records if record["difference"]]:
            raise ModelError(
                f"the adapter changes {len(differing)} of {len(records)} prompts that do not invoke it, e.g. "
                f"{differing[0]}; this is a fault of keeptune, please report it"
            )
        write_records(self.directory.records(UNCHANGED, "tuned"), records)
        self.reporter.info(f"unchanged outside its invocation: {len(records)} prompts, bit for bit")

    def unchanged(self) -> list[Record]:
        """The records of prompts without the invocation; empty where the adapter is always active."""
        return self._optional(UNCHANGED, "tuned")

    def _score_suite(self, pair: AdapterPair) -> None:
        """Base and tuned on the retention suite, and the divergence on the tuned model's answers."""
        size, directory = self.recipe.score.suite, self.directory
        assert size != "none"
        evaluate_suite(pair, self.abilities(), "final", size, directory.scores, self.reporter)
        if not directory.answer_divergence.is_file():
            prompts = self._skill_prompts(pair.layout.tokenizer) + chat_prompts(pair.layout, PROMPTS[size])
            write_records(directory.answer_divergence, measure_answer_divergence(pair, prompts, self.recipe.seed))
            self.reporter.info(f"divergence on answers to {len(prompts)} prompts, greedy and sampled")
        if not directory.practised.is_file():
            rows = load_prepared_rows(directory.examples("train"))
            texts = (text for row in rows for text in (row.problem, row.solution))
            write_json(directory.practised, practised_by_texts(texts, "training data") | practised_by(self.recipe))

    def _skill_prompts(self, tokenizer: Any) -> list[DivergencePrompt]:
        size = self.recipe.score.suite
        budgets = self.budgets()
        assert size != "none"
        return [
            DivergencePrompt(
                one.name,
                "skill",
                self._rendered(one),
                tuple(self.prompt.encode(tokenizer, one.problem, one.conversation)),
                min(_DIVERGENCE_TOKENS, budgets.get(one.kind, skill_score.default_budget(budgets))),
            )
            for one in self.problems("test", PROMPTS[size])
        ]

    def budgets(self) -> dict[str, int]:
        """The maximum number of answer tokens by kind: a tenth more than the longest solution, plus 16 tokens.

        It is at least the budget of `adapter.start`, which may have been trained on longer rows.
        """
        kinds = read_json(self.directory.data_card, Card)["kinds"]
        start = self.recipe.adapter.start
        card = adapter_metadata.load_if_present(start) if start else None
        before = card.budgets if card else {}
        return {
            kind: max(round(_LONGER * facts["solution_tokens"]["max"]) + _MARGIN_TOKENS, before.get(kind, 0))
            for kind, facts in kinds.items()
            if facts["train"]
        }

    def records(self, what: str, variant: str) -> list[Record]:
        """The records of a measurement for `base` or `tuned`.

        Raises:
            RunError: when there are none.
        """
        return read_records(self.directory.records(what, variant), SCHEMAS.get(what))

    def scores(self, variant: str) -> Scores:
        """All records of `base` or `tuned`."""
        others = (self._optional(what, variant) for what in (OTHER_PROMPT, TASKS))
        return Scores(self.records(SKILL, variant), self.records(READING, variant), *others)

    def divergences(self) -> list[Record]:
        """Loss and divergence per text; empty where they were not measured."""
        return self._optional(DRIFT, "tuned")

    def _score_skill(self, generator: Generator, variant: str, cache: RecordCache) -> None:
        problems, budgets = self.problems("test"), self.budgets()
        skill_score.check_invoked(generator, self.prompt, (one.problem for one in problems))
        count = self.reporter.counter(f"{variant}: test questions", len(problems))
        records, is_cached = cache.get_or_compute(
            skill_score.fingerprint(self.prompt, problems, budgets, self.grader),
            lambda: skill_score.score_skill(generator, self.prompt, problems, budgets, count, self.grader),
        )
        write_records(self.directory.records(SKILL, variant), records)
        right = skill_score.summarize(records, self.grader)["accuracy"]
        self.reporter.info(
            f"{variant}: {right:.1%} of {len(problems)} test questions right{FROM_CACHE if is_cached else ''}"
        )

    def _score_reading(self, generator: Generator, variant: str, what: str, cache: RecordCache) -> None:
        items, layout = self.reading()[1], self.layouts()[what]
        count = self.reporter.counter(f"{variant}: reading questions, {layout} prompt", len(items))

        def score() -> list[Record]:
            records = reading_score.score_reading(generator, items, layout, count)
            if what == READING:
                for record, nll in zip(records, answer_nll(generator, items), strict=True):
                    record[reading_score.LIKELIHOOD] = nll
            return records

        records, is_cached = cache.get_or_compute(
            {**reading_score.fingerprint(items, layout), "what": what, "with_likelihood": what == READING}, score
        )
        write_records(self.directory.records(what, variant), records)
        scores = reading_score.summarize(records)
        self.reporter.info(
            f"{variant}: reading F1 {scores['f1']:.1f}, EM {scores['em']:.1f} on {len(items)} questions, "
            f"{layout} prompt{FROM_CACHE if is_cached else ''}"
        )

    def _score_tasks(self, model: Any, tokenizer: Any, variant: str, cache: RecordCache) -> None:
        tasks = self.recipe.score.tasks, self.recipe.score.tasks_limit, self.recipe.score.tasks_path
        self.reporter.info(f"{variant}: {', '.join(tasks[0])}, by lm-evaluation-harness")
        records, is_cached = cache.get_or_compute(
            harness.fingerprint(*tasks), lambda: harness.score_tasks(model.get_base_model(), tokenizer, *tasks)
        )
        if variant == "tuned":
            harness.check_same_questions(self.records(TASKS, "base"), records)
        write_records(self.directory.records(TASKS, variant), records)
        means = (f"{name} {100 * harness.per_question_scores(records, name).mean():.1f}" for name in tasks[0])
        self.reporter.info(f"{variant}: {', '.join(means)}{FROM_CACHE if is_cached else ''}")

    def _optional(self, what: str, variant: str) -> list[Record]:
        """The records of a measurement that the recipe may leave out and older runs lack."""
        return self.records(what, variant) if self._has(what, variant) else []

    def _has(self, what: str, variant: str) -> bool:
        return self.directory.records(what, variant).is_file()


def as_reading(record: Record) -> Record:
    """A record of the reading questions in the form of the suite's reading ability."""
    scores = record[reading_score.SQUAD]
    return {
        "cluster": f"{record['article']}/{record['paragraph']}",
        "f1": scores["f1"] / 100,
        "em": scores["em"] / 100,
    }
