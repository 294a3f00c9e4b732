"""What checkpoints are compared by: a model's scores on the dev questions, which are in no final score.

They are asked during training, whose log keeps them, and of the last checkpoint and its scales when one is chosen.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.evaluation import reading as retained
from keeptune.evaluation import skill as skills
from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.checkpoint_choice import Candidate, brought_nothing
from keeptune.evaluation.gate import judge
from keeptune.evaluation.practised import practised_by
from keeptune.evaluation.retention_suite import Answers, record_path
from keeptune.evaluation.verdict_record import abilities_record, limits_of
from keeptune.event_log import Journal
from keeptune.files import read_records, write_records
from keeptune.generation.engine import Generator
from keeptune.models import adapter as adapters
from keeptune.pipeline.evaluation_stage import FinalScores
from keeptune.progress import Listener
from keeptune.prompts.chat import Layout
from keeptune.prompts.template import Prompt

Record = dict[str, Any]

BASE = "base"

DEV_ABILITIES = ("knowledge", "commonsense", "grammar", "general-text", "chat")
"""Abilities that candidates are compared on: those that need few written answers, for it is done at every dev score."""

LOGGED = ("status", "base", "tuned", "point", "n")
"""Of an ability's dev scores, what the log keeps."""


class DevScores:
    """Asks a model the dev questions of a run, and knows what was scored before."""

    def __init__(
        self, recipe: Recipe, final: FinalScores, prompt: Prompt, tokenizer: Any, journal: Journal, listener: Listener
    ) -> None:
        self.recipe, self.final, self.prompt, self.tokenizer = recipe, final, prompt, tokenizer
        self.journal, self.listener = journal, listener

    def of(self, model: Any, who: str) -> Record:
        """The scores of the model as it stands; `who` names it where it is told."""
        asked, items = self.final.asked("dev", self.recipe.score.dev_limit), self.final.reading()[0]
        generator = Generator(model.eval(), self.tokenizer)
        answers = skills.summary(skills.score_skill(generator, self.prompt, asked, self.final.budgets()))
        kept = retained.summary(retained.score_retained(generator, items, self.recipe.score.reading_prompt))
        abilities = self._abilities(generator, who == BASE)
        lost = [name for name, own in abilities.items() if own["status"] == "lost"]
        self.listener.say(
            f"{who}: dev {answers['accuracy']:.1%} of {len(asked)}, reading F1 {kept['f1']:.1f}, EM {kept['em']:.1f}"
            + (f", lost: {', '.join(lost)}" if lost else "")
        )
        scores = {
            "skill": {"accuracy": answers["accuracy"], "n": answers["n"]},
            "retained": {"f1": kept["f1"], "em": kept["em"], "n": kept["n"]},
        }
        return {**scores, "abilities": abilities} if abilities else scores

    @property
    def compares_abilities(self) -> bool:
        """Whether candidates are judged by the retention suite, too."""
        return self.recipe.score.suite != "none" and self.recipe.gate.policy == "suite"

    @cached_property
    def _practised(self) -> dict[str, str]:
        """Found once for all dev scores, because it reads the replay sources."""
        return practised_by(self.recipe)

    def _abilities(self, generator: Generator, is_base: bool) -> Record:
        """The gate's rule on the dev items of the suite: status and point of each ability that it counts.

        The base's records are kept in RUN/dev, for the tuned model is paired with them.
        """
        if not self.compares_abilities:
            return {}
        subject, folder = Subject(generator, Layout(self.tokenizer, self.final.fallback)), self.final.folder / "dev"
        answers = []
        for own in self.final.abilities():
            if own.name not in DEV_ABILITIES or own.name in self._practised:
                continue
            items, path = dev_items(own, self.recipe.score.dev_limit), record_path(folder, own.name, BASE)
            if is_base:
                write_records(path, own.records(subject, items, None))
            else:
                base = read_records(path)
                answers.append(Answers(own, base, own.records(subject, items, base)).scores(None))
        gate = self.recipe.gate
        judged = abilities_record(judge(answers, limits_of(gate), resamples=gate.resamples, seed=self.recipe.seed))
        return {name: {key: own[key] for key in LOGGED} for name, own in judged.items()}

    def candidate(self, model: Any, checkpoint: str, scale: float = 1.0) -> Candidate:
        """Those of a checkpoint, which the model holds at this scale."""
        who = checkpoint if scale == 1.0 else f"{checkpoint}, scale {scale:g}"
        return _candidate(checkpoint, scale, self.of(model, who))

    def of_base(self, tuned: Any) -> Candidate:
        """Those of the base, which is asked once: the tuned model with its adapter switched off."""
        logged = [event for event in self.journal.events() if event["event"] == BASE]
        if not logged:
            with adapters.scaled(tuned, 0.0):
                logged = [{"event": BASE, **self.of(tuned, BASE)}]
            self.journal.log(logged[0])
        return _candidate(BASE, 0.0, logged[0])

    def of_steps(self) -> list[Candidate]:
        """Those of the steps that were scored during training."""
        events = [event for event in self.journal.events() if event["event"] == "score"]
        return [_candidate(f"step-{event['step']}", 1.0, event) for event in events]

    def are_enough(self, tuned: Any) -> bool:
        """Whether as many of them as there is patience brought nothing better to hand over."""
        recipe, base = self.recipe, self.of_base(tuned)
        without = brought_nothing(self.of_steps(), base, recipe.gate.threshold, recipe.select.kept_weight)
        return without >= recipe.train.patience


def dev_items(ability: Ability, limit: int) -> list[Any]:
    """At most about `limit` dev items of an ability, whole clusters spread over all of them."""
    items = ability.items("dev", "full")
    clusters = list(dict.fromkeys(ability.stated(item)["cluster"] for item in items))
    every = max(1, round(len(items) / limit)) if limit else 1
    chosen = set(clusters[::every])
    return [item for item in items if ability.stated(item)["cluster"] in chosen]


def _candidate(name: str, scale: float, scores: Record) -> Candidate:
    lost = tuple(ability for ability, own in scores.get("abilities", {}).items() if own["status"] == "lost")
    return Candidate(name, scores["skill"]["accuracy"], scores["retained"]["f1"], scores["retained"]["em"], scale, lost)
