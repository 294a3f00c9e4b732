"""Dev evaluation: scores for checkpoint selection, on questions that the final evaluation does not use.

Dev scores are computed during training, which logs them, and for the candidates of checkpoint selection.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from keeptune.evaluation import reading_score, skill_score
from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.checkpoint_candidates import Candidate, evaluations_without_improvement
from keeptune.evaluation.gate import judge
from keeptune.evaluation.practised import practised_by
from keeptune.evaluation.suite_evaluation import PairedRecords, record_path
from keeptune.evaluation.verdict_record import abilities_record, limits_of
from keeptune.event_log import EventLog
from keeptune.files import Record, read_records, write_records
from keeptune.generation.engine import Generator
from keeptune.pipeline.final_evaluation import FinalEvaluation
from keeptune.prompts.chat import ChatLayout

BASE = "base"

DEV_ABILITIES = ("knowledge", "commonsense", "grammar", "general-text", "chat")
"""Abilities of the suite that dev scores include: those that need few generated answers."""

LOGGED = ("status", "base", "tuned", "point", "n")
"""The keys of an ability's dev scores that are logged."""


class DevEvaluation:
    """Evaluates a model on the dev questions of a run. Scores in the log are not computed again."""

    def __init__(self, final: FinalEvaluation, tokenizer: Any, events: EventLog) -> None:
        self.final, self.tokenizer, self.events = final, tokenizer, events
        self.recipe, self.prompt, self.reporter = final.recipe, final.prompt, final.reporter

    def score(self, generator: Generator, label: str) -> Record:
        """The scores of the generator's model in its current state; `label` names it in progress messages."""
        problems, items = self.final.problems("dev", self.recipe.score.dev_limit), self.final.reading()[0]
        budgets, grader = self.final.budgets(), self.final.grader
        records = skill_score.score_skill(generator, self.prompt, problems, budgets, grader=grader)
        answers = skill_score.summarize(records, grader)
        layout = self.recipe.score.reading_prompt
        reading = reading_score.summarize(reading_score.score_reading(generator, items, layout))
        abilities = self._abilities(generator, label == BASE)
        lost = [name for name, ability in abilities.items() if ability["status"] == "lost"]
        self.reporter.info(
            f"{label}: dev {answers['accuracy']:.1%} of {len(problems)}, "
            f"reading F1 {reading['f1']:.1f}, EM {reading['em']:.1f}" + (f", lost: {', '.join(lost)}" if lost else "")
        )
        scores = {
            "skill": {"accuracy": answers["accuracy"], "n": answers["n"]},
            "retained": {"f1": reading["f1"], "em": reading["em"], "n": reading["n"]},
        }
        return {**scores, "abilities": abilities} if abilities else scores

    @property
    def compares_abilities(self) -> bool:
        """Whether candidates are also judged by the retention suite."""
        return self.recipe.score.suite != "none" and self.recipe.gate.policy == "suite"

    @cached_property
    def _practised(self) -> dict[str, str]:
        """Computed once, because it reads the replay sources."""
        return practised_by(self.recipe)

    def _abilities(self, generator: Generator, is_base: bool) -> Record:
        """Status and figures of each counted ability, by the gate's rule on the dev items of the suite.

        The base model's records are stored in RUN/dev, where each tuned model is paired with them.
        """
        if not self.compares_abilities:
            return {}
        subject, folder = Subject(generator, ChatLayout(self.tokenizer, self.final.fallback)), self.final.directory.dev
        answers = []
        for ability in self.final.abilities():
            if ability.name not in DEV_ABILITIES or ability.name in self._practised:
                continue
            items, path = dev_items(ability, self.recipe.score.dev_limit), record_path(folder, ability.name, BASE)
            if is_base:
                write_records(path, ability.collect_records(subject, items, None))
            else:
                base = read_records(path)
                tuned = ability.collect_records(subject, items, base)
                answers.append(PairedRecords(ability, base, tuned).ability_scores(None))
        gate = self.recipe.gate
        judged = abilities_record(judge(answers, limits_of(gate), resamples=gate.resamples, seed=self.recipe.seed))
        return {name: {key: scores[key] for key in LOGGED} for name, scores in judged.items()}

    def candidate(self, generator: Generator, checkpoint: str, scale: float = 1.0) -> Candidate:
        """The scores of a checkpoint, which the generator's model holds at this scale."""
        label = checkpoint if scale == 1.0 else f"{checkpoint}, scale {scale:g}"
        return _candidate(checkpoint, scale, self.score(generator, label))

    def base_candidate(self, tuned: Generator) -> Candidate:
        """The scores of the base model, computed once: the tuned model with its adapter switched off."""
        logged = [event for event in self.events.events() if event["event"] == BASE]
        if not logged:
            with tuned.scaled(0.0):
                logged = [{"event": BASE, **self.score(tuned, BASE)}]
            self.events.log(logged[0])
        return _candidate(BASE, 0.0, logged[0])

    def logged_candidates(self) -> list[Candidate]:
        """The scores of the steps that were evaluated during training."""
        events = [event for event in self.events.events() if event["event"] == "score"]
        return [_candidate(f"step-{event['step']}", 1.0, event) for event in events]

    def has_stopped_improving(self, tuned: Generator) -> bool:
        """Whether the last `train.patience` evaluations found no better candidate."""
        recipe, base = self.recipe, self.base_candidate(tuned)
        without = evaluations_without_improvement(
            self.logged_candidates(), base, recipe.gate.threshold, recipe.select.retention_weight
        )
        return without >= recipe.train.patience


def dev_items(ability: Ability, limit: int) -> list[Any]:
    """At most about `limit` dev items of an ability, whole clusters spread over all of them."""
    items = ability.items("dev", "full")
    clusters = list(dict.fromkeys(ability.item_fields(item)["cluster"] for item in items))
    every = max(1, round(len(items) / limit)) if limit else 1
    chosen = set(clusters[::every])
    return [item for item in items if ability.item_fields(item)["cluster"] in chosen]


def _candidate(checkpoint: str, scale: float, scores: Record) -> Candidate:
    lost = tuple(name for name, ability in scores.get("abilities", {}).items() if ability["status"] == "lost")
    return Candidate(
        checkpoint, scores["skill"]["accuracy"], scores["retained"]["f1"], scores["retained"]["em"], scale, lost
    )
