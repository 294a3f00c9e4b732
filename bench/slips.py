"""The tokens at which a model leaves the right solution, found in one forward pass per problem.

    python bench/slips.py adapters/smollm2-135m-arithmetic --kind function [--problems 20] [--seed 99]

Greedy decoding writes the right solution if the right token is the most likely one at every place, given the right
solution before it. So new problems of a kind pass through the model with their worked solutions. Each token that greedy
decoding would replace is shown in its line; the first one of a problem is where its answer goes wrong. The target is an
adapter folder or a run. The solutions are those that this version writes for the recipe beside the adapter.

A slip means a wrong answer only for kinds whose next token is always determined, such as functions. Quotients, roots
and means contain trials that are off by one on purpose, three in ten, which no model can predict. Whichever trial the
model writes, it can continue from there.
"""

from __future__ import annotations

import argparse
import random
from typing import Any, NamedTuple

import torch
from common import write_result

from keeptune.config.recipe import load
from keeptune.evaluation.model_pair import find_adapter
from keeptune.pipeline.evaluate_files import Target, open_target
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.training.loss import logit_chunks

SHOWN = 6
"""Wrong tokens that are listed of one problem: behind the first, the others are of interest only as kinds of slips."""


class Slip(NamedTuple):
    """A token of a right solution that was not the likeliest: its line, what stood before it there, both tokens."""

    line: int
    before: str
    instead: str
    right: str
    probability: float


@torch.inference_mode()
def slips(target: Target, problem: str, solution: str) -> list[Slip]:
    """All tokens of the solution that greedy decoding would not have written behind those before them."""
    tokenizer, generator = target.generator.tokenizer, target.generator
    question = target.prompt.encode(tokenizer, problem)
    tokens = target.prompt.encode_solution(tokenizer, solution)
    ids = torch.tensor([[*question, *tokens]], device=generator.head.weight.device)
    states = generator.decoder(input_ids=ids, use_cache=False).last_hidden_state[0, len(question) - 1 : -1]
    found = []
    for part in logit_chunks(len(states), len(generator.head.weight)):
        likely = torch.softmax(generator.head(states[part]).float(), dim=-1)
        for place, own, best in zip(range(len(states))[part], likely, likely.argmax(dim=-1).tolist(), strict=True):
            if best != tokens[place]:
                *lines, before = tokenizer.decode(tokens[:place]).split("\n")
                right, instead = (tokenizer.decode([token]) for token in (tokens[place], best))
                found.append(Slip(len(lines) + 1, before, instead, right, float(own[tokens[place]])))
    return found


def _recipe_section(name: str) -> Any:
    """How solutions are written where the adapter was trained."""
    folder = find_adapter(name)
    places = [] if folder is None else [folder / "recipe.yaml", folder.parent / "recipe.yaml"]
    stored = next((path for path in places if path.is_file()), None)
    if stored is None:
        raise SystemExit(
            f"{name}: no recipe.yaml in the adapter folder or beside it, which says how solutions are written"
        )
    return load(stored).data


def main() -> None:
    """Prints each problem with its slips, and how many have none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="an adapter folder or a run directory")
    parser.add_argument("--kind", default="function")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--seed", type=int, default=99)
    options = parser.parse_args()
    skill, generator = Arithmetic(), random.Random(options.seed)
    section, target = _recipe_section(options.target), open_target(options.target)
    style, rounding = section.style(options.kind), section.rounding.for_kind(options.kind)
    without, tokens = 0, 0
    for number in range(1, options.problems + 1):
        problem, raw = skill.generate(options.kind, generator)
        question = skill.parse(problem, raw)
        assert question is not None
        solution = skill.render_solution(question, raw, style, rounding)
        found = slips(target, problem, solution)
        without += not found
        tokens += len(found)
        print(f"{number}. {problem}  {len(solution.splitlines())} lines, {len(found)} slips", flush=True)
        for slip in found[:SHOWN]:
            said = f"{slip.before[-60:]}[{slip.right!r}, not {slip.instead!r}]"
            print(f"    line {slip.line}: {said}, which had {slip.probability:.2f}")
    print(f"{without} of {options.problems} come right; {tokens} slips in all")
    settings = {"target": options.target, "kind": options.kind, "problems": options.problems, "seed": options.seed}
    write_result("slips", {**settings, "right": without, "slips": tokens})


if __name__ == "__main__":
    main()
