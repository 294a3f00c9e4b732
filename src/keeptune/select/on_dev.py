"""What checkpoints are compared by: a model's scores on the dev questions, which are in no final score.

They are asked during training, whose log keeps them, and of the last checkpoint and its scales when one is chosen.
"""

from __future__ import annotations

from typing import Any

from keeptune.final_scores import FinalScores
from keeptune.journal import Journal
from keeptune.listen import Listener
from keeptune.model import adapter as adapters
from keeptune.prompt.template import Prompt
from keeptune.recipe import Recipe
from keeptune.score import retained
from keeptune.score import skill as skills
from keeptune.score.generate import Generator
from keeptune.select.choose import Candidate, brought_nothing

Record = dict[str, Any]


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
        self.listener.say(
            f"{who}: dev {answers['accuracy']:.1%} of {len(asked)}, reading F1 {kept['f1']:.1f}, EM {kept['em']:.1f}"
        )
        return {
            "skill": {"accuracy": answers["accuracy"], "n": answers["n"]},
            "retained": {"f1": kept["f1"], "em": kept["em"], "n": kept["n"]},
        }

    def candidate(self, model: Any, checkpoint: str, scale: float = 1.0) -> Candidate:
        """Those of a checkpoint, which the model holds at this scale."""
        who = checkpoint if scale == 1.0 else f"{checkpoint}, scale {scale:g}"
        return _candidate(checkpoint, scale, self.of(model, who))

    def of_base(self, tuned: Any) -> Candidate:
        """Those of the base, which is asked once: the tuned model with its adapter switched off."""
        logged = [event for event in self.journal.events() if event["event"] == "base"]
        if not logged:
            with adapters.scaled(tuned, 0.0):
                logged = [{"event": "base", **self.of(tuned, "base")}]
            self.journal.log(logged[0])
        return _candidate("base", 0.0, logged[0])

    def of_steps(self) -> list[Candidate]:
        """Those of the steps that were scored during training."""
        events = [event for event in self.journal.events() if event["event"] == "score"]
        return [_candidate(f"step-{event['step']}", 1.0, event) for event in events]

    def are_enough(self, tuned: Any) -> bool:
        """Whether as many of them as there is patience brought nothing better to hand over."""
        recipe, base = self.recipe, self.of_base(tuned)
        without = brought_nothing(self.of_steps(), base, recipe.gate.threshold, recipe.select.kept_weight)
        return without >= recipe.train.patience


def _candidate(name: str, scale: float, scores: Record) -> Candidate:
    return Candidate(name, scores["skill"]["accuracy"], scores["retained"]["f1"], scores["retained"]["em"], scale)
