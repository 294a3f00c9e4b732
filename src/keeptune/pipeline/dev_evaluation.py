"""Dev evaluation: the scores that checkpoints are compared by, on questions that the final evaluation does not use.

Dev scores are computed during training, whose log keeps them, and for the candidates of checkpoint selection.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.evaluation import reading_score, skill_score
from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.checkpoint_candidates import Candidate, evaluations_without_improvement
from keeptune.evaluation.gate import judge
from keeptune.evaluation.practised import practised_by
from keeptune.evaluation.suite_evaluation import PairedRecords, record_path
from keeptune.evaluation.verdict_record import abilities_record, limits_of
from keeptune.event_log import EventLog
from keeptune.files import read_records, write_records
from keeptune.generation.engine import Generator
from keeptune.models import adapters
from keeptune.pipeline.final_evaluation import FinalEvaluation
from keeptune.progress import Reporter
from keeptune.prompts.chat import ChatLayout
from keeptune.prompts.template import Prompt

Record = dict[str, Any]

BASE = "base"

DEV_ABILITIES = ("knowledge", "commonsense", "grammar", "general-text", "chat")
"""Abilities that candidates are compared on: those that need few generated answers, since every dev score has them."""

LOGGED = ("status", "base", "tuned", "point", "n")
"""The keys of an ability's dev scores that the log keeps."""


class DevEvaluation:
    """Evaluates a model on the dev questions of a run; scores in the log are not computed again."""

    def __init__(
        self,
        recipe: Recipe,
        final: FinalEvaluation,
        prompt: Prompt,
        tokenizer: Any,
        events: EventLog,
        reporter: Reporter,
    ) -> None:
        self.recipe, self.final, self.prompt, self.tokenizer = recipe, final, prompt, tokenizer
        self.events, self.reporter = events, reporter

    def of(self, model: Any, who: str) -> Record:
        """The scores of the model in its current state; `who` names it in progress messages."""
        problems, items = self.final.problems("dev", self.recipe.score.dev_limit), self.final.reading()[0]
        generator = Generator(model.eval(), self.tokenizer)
        answers = skill_score.summarize(skill_score.score_skill(generator, self.prompt, problems, self.final.budgets()))
        kept = reading_score.summarize(reading_score.score_reading(generator, items, self.recipe.score.reading_prompt))
        abilities = self._abilities(generator, who == BASE)
        lost = [name for name, own in abilities.items() if own["status"] == "lost"]
        self.reporter.info(
            f"{who}: dev {answers['accuracy']:.1%} of {len(problems)}, reading F1 {kept['f1']:.1f}, EM {kept['em']:.1f}"
            + (f", lost: {', '.join(lost)}" if lost else "")
        )
        scores = {
            "skill": {"accuracy": answers["accuracy"], "n": answers["n"]},
            "retained": {"f1": kept["f1"], "em": kept["em"], "n": kept["n"]},
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
        for own in self.final.abilities():
            if own.name not in DEV_ABILITIES or own.name in self._practised:
                continue
            items, path = dev_items(own, self.recipe.score.dev_limit), record_path(folder, own.name, BASE)
            if is_base:
                write_records(path, own.collect_records(subject, items, None))
            else:
                base = read_records(path)
                answers.append(PairedRecords(own, base, own.collect_records(subject, items, base)).ability_scores(None))
        gate = self.recipe.gate
        judged = abilities_record(judge(answers, limits_of(gate), resamples=gate.resamples, seed=self.recipe.seed))
        return {name: {key: own[key] for key in LOGGED} for name, own in judged.items()}

    def candidate(self, model: Any, checkpoint: str, scale: float = 1.0) -> Candidate:
        """The scores of a checkpoint, which the model holds at this scale."""
        who = checkpoint if scale == 1.0 else f"{checkpoint}, scale {scale:g}"
        return _candidate(checkpoint, scale, self.of(model, who))

    def of_base(self, tuned: Any) -> Candidate:
        """The scores of the base model, computed once: the tuned model with its adapter switched off."""
        logged = [event for event in self.events.events() if event["event"] == BASE]
        if not logged:
            with adapters.scaled(tuned, 0.0):
                logged = [{"event": BASE, **self.of(tuned, BASE)}]
            self.events.log(logged[0])
        return _candidate(BASE, 0.0, logged[0])

    def of_steps(self) -> list[Candidate]:
        """The scores of the steps that were evaluated during training."""
        events = [event for event in self.events.events() if event["event"] == "score"]
        return [_candidate(f"step-{event['step']}", 1.0, event) for event in events]

    def are_enough(self, tuned: Any) -> bool:
        """Whether the last `train.patience` evaluations brought no better candidate."""
        recipe, base = self.recipe, self.of_base(tuned)
        without = evaluations_without_improvement(
            self.of_steps(), base, recipe.gate.threshold, recipe.select.retention_weight
        )
        return without >= recipe.train.patience


def dev_items(ability: Ability, limit: int) -> list[Any]:
    """At most about `limit` dev items of an ability, whole clusters spread over all of them."""
    items = ability.items("dev", "full")
    clusters = list(dict.fromkeys(ability.item_fields(item)["cluster"] for item in items))
    every = max(1, round(len(items) / limit)) if limit else 1
    chosen = set(clusters[::every])
    return [item for item in items if ability.item_fields(item)["cluster"] in chosen]


def _candidate(name: str, scale: float, scores: Record) -> Candidate:
    lost = tuple(ability for ability, own in scores.get("abilities", {}).items() if own["status"] == "lost")
    return Candidate(name, scores["skill"]["accuracy"], scores["retained"]["f1"], scores["retained"]["em"], scale, lost)
