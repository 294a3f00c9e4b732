"""llama.cpp reads prompts and answers from exported GGUF files as keeptune does.

It runs in the Python that KEEPTUNE_LLAMACPP_PYTHON names (`make test-llamacpp` installs it). Otherwise these tests are
skipped.
"""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
from export import tiny_families
from gguf import GGUFReader
from oracle_llamacpp.llamacpp import Comparison, compare_answers, run_llamacpp
from transformers import AutoTokenizer, LlamaForCausalLM

from keeptune.export.exporter import export
from keeptune.files import Record, read_records
from keeptune.generation.engine import Generator, never_stop
from keeptune.generation.llamacpp import PYTHON
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models
from keeptune.pipeline.artefact_differences import first_differences

pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} does not name a Python with llama.cpp")

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "adapters" / "smollm2-135m-arithmetic"
TOKENIZERS = os.environ.get("KEEPTUNE_TOKENIZERS")
INVOKED = ROOT / "adapters" / "smollm2-135m-arithmetic-invoked"
POOL = ROOT / "src" / "keeptune" / "generation" / "prompt_pool.jsonl"

AGREEMENT = 0.94
"""The smallest share of equal greedy answers. keeptune computes in bfloat16 and llama.cpp in float16, so near ties of
a long answer fall to either side."""

ROUNDING_NATS = 0.05
"""How far llama.cpp's margin between two tokens may be from that of keeptune in float32. float16 has 11 bits."""


def share_equal(answers: list[dict[str, Any]], expected: list[str]) -> float:
    """The share of answers that have the expected text."""
    return sum(one["text"] == text for one, text in zip(answers, expected, strict=True)) / len(expected)


@pytest.mark.parametrize("shape", tiny_families.SHAPES)
def test_every_shape_answers_as_in_keeptune(tmp_path: Path, shape: str) -> None:
    model = tiny_families.save(tmp_path / "model", shape)
    adapter = tiny_families.tune(model, tmp_path / "adapter")
    export(model, "gguf", tmp_path / "base")
    export(adapter, "gguf", tmp_path / "merged")
    export(adapter, "gguf-lora", tmp_path / "lora")
    words = models.load_tokenizer(str(model))
    texts = [tiny.PROMPT.render(problem) for _, problem, _ in tiny.problems(42)]
    tokens, budgets = [words.encode(text) for text in texts], [24] * len(texts)
    base, files = tmp_path / "base" / "model.gguf", {"texts": texts, "prompts": texts, "budgets": budgets}
    tuned = adapters.load_adapter(tiny.load(model), adapter)
    expected = [answer.text for answer in Generator(tuned, words).answer(tokens, budgets, never_stop)]
    merged = run_llamacpp(tmp_path / "merged" / "model.gguf", **files)
    added = run_llamacpp(base, tmp_path / "lora" / "adapter.gguf", **files)
    alone = run_llamacpp(base, **files)
    assert merged["tokens"] == added["tokens"] == tokens
    with adapters.scaled(tuned, 0):
        before = [answer.text for answer in Generator(tuned, words).answer(tokens, budgets, never_stop)]
    assert before != expected
    # A random model has many tokens that are nearly as likely, and float16 decides between some of them.
    shares = {
        "base": share_equal(alone["answers"], before),
        "merged": share_equal(merged["answers"], expected),
        "added": share_equal(added["answers"], expected),
    }
    assert min(shares.values()) >= 0.8, shares


@pytest.mark.skipif(TOKENIZERS is None, reason="KEEPTUNE_TOKENIZERS names no folder of tokenizers")
@pytest.mark.parametrize("name", ["llama2", "llama3_1", "qwen3"])
def test_released_tokenizers_give_the_same_tokens(tmp_path: Path, name: str) -> None:
    """tests/prompts/test_released_tokenizers.py says how to get the tokenizers."""
    assert TOKENIZERS is not None
    words = AutoTokenizer.from_pretrained(Path(TOKENIZERS) / name)
    LlamaForCausalLM(tiny.config(len(words))).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    export(tmp_path / "model", "gguf", tmp_path / "out")
    rows = read_records(POOL)
    problems = read_records(SHIPPED / "scores" / "skill.jsonl")[:300]
    texts = [row["messages"][-1]["content"] for row in rows] + [row["problem"] for row in problems]
    found = run_llamacpp(tmp_path / "out" / "model.gguf", texts=texts)["tokens"]
    assert found == [words.encode(text) for text in texts]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded model (`base`), and the shipped adapter merged (`merged`) and alone (`lora`)."""
    folder = tmp_path_factory.mktemp("exports")
    export(models.EMBEDDED, "gguf", folder / "base")
    export(SHIPPED, "gguf", folder / "merged")
    export(SHIPPED, "gguf-lora", folder / "lora")
    return folder


def answered(folder: Path, count: int) -> list[Record]:
    """The records of a published adapter with the shortest complete answers, at most a fifth of them of one kind.

    So the time does not depend on the adapter's longest answers, and all kinds of problems with short ones are there.
    """
    records = [one for one in read_records(folder / "scores" / "skill.jsonl") if one["stopped"]]
    by_kind, chosen = Counter[str](), []
    for record in sorted(records, key=lambda one: (one["output_tokens"], one["id"])):
        if by_kind[record["kind"]] < count // 5:
            by_kind[record["kind"]] += 1
            chosen.append(record)
    assert len(chosen) >= count, f"{folder}: too few complete answers, or too few kinds"
    return chosen[:count]


def check_agreement(folder: Path, records: list[Record], model: Path, adapter: Path | None = None) -> Comparison:
    """Nearly all answers of llama.cpp equal the published ones, and float32 explains the others.

    Where an answer parts from the published one, keeptune in float32 gives the same margin between the two tokens.
    So a difference is one of rounding, whichever adapter is published. A wrong export has other margins.
    """
    card, words = adapter_metadata.load(folder), models.load_tokenizer(models.EMBEDDED)
    prompts = [card.prompt.encode(words, record["problem"]) for record in records]
    comparison = compare_answers(model, adapter, records, prompts, words)
    assert comparison.share_equal >= AGREEMENT, comparison.differences
    if comparison.differences:
        exact = adapters.load_adapter(models.load_model(card.model, "float32"), folder)
        adapters.set_scale(exact, card.scale)
        expected = first_differences(Generator(exact, words), prompts, records, comparison.answers)
        margins = [one["margin"] for one in comparison.differences]
        assert margins == pytest.approx([one["margin"] for one in expected], abs=ROUNDING_NATS), expected
    return comparison


def test_prompts_have_the_same_tokens(exports: Path) -> None:
    words, card = models.load_tokenizer(models.EMBEDDED), adapter_metadata.load(SHIPPED)
    records = read_records(INVOKED / "scores-always-on" / "skill.jsonl")
    english = [one for one in records if one["kind"] == "english"]
    problems = [one["problem"] for one in [*records[:170], *english[:30]]]
    asked = [row for row in read_records(POOL) if row["messages"][-1]["role"] == "user"]
    chats = [row["messages"] for language in ("en", "zh") for row in asked if row["language"] == language][::7][:200]
    assert len(problems) == len(chats) == 200
    merged = run_llamacpp(
        exports / "merged" / "model.gguf",
        texts=[card.prompt.render(problem) for problem in problems],
        chats=[[{"role": "user", "content": problem}] for problem in problems],
    )
    assert merged["tokens"] == [card.prompt.encode(words, problem) for problem in problems]
    # Programs that serve the file send chats through its template, which is the prompt of the training.
    assert merged["renderings"] == [card.prompt.render(problem) for problem in problems]
    expected = [words.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in chats]
    base = run_llamacpp(exports / "base" / "model.gguf", texts=expected, chats=chats)
    assert base["renderings"] == expected
    assert base["tokens"] == [words.encode(text, add_special_tokens=False) for text in expected]


def test_the_shipped_adapter_answers_as_in_keeptune(exports: Path) -> None:
    records = answered(SHIPPED, 100)
    check_agreement(SHIPPED, records, exports / "merged" / "model.gguf")
    check_agreement(SHIPPED, records, exports / "base" / "model.gguf", exports / "lora" / "adapter.gguf")


def test_another_scale_of_the_adapter_is_found(exports: Path, tmp_path: Path) -> None:
    """An export that loses a part of alpha/rank must not pass as rounding."""
    lora = Path(shutil.copy(exports / "lora" / "adapter.gguf", tmp_path / "adapter.gguf"))
    alpha = GGUFReader(lora, "r+").fields["adapter.lora.alpha"]
    alpha.parts[alpha.data[0]][0] *= 0.8
    with pytest.raises(AssertionError):
        check_agreement(SHIPPED, answered(SHIPPED, 20), exports / "base" / "model.gguf", lora)


def test_an_invoked_adapter_acts_only_after_its_invocation(exports: Path, tmp_path: Path) -> None:
    export(INVOKED, "gguf-lora", tmp_path / "invoked")
    base, adapter = exports / "base" / "model.gguf", tmp_path / "invoked" / "adapter.gguf"
    records = answered(INVOKED, 20)
    check_agreement(INVOKED, records, base, adapter)
    other = {"prompts": [one["prompt"].partition("\n")[2] for one in records], "budgets": [40] * len(records)}
    assert run_llamacpp(base, adapter, **other)["answers"] == run_llamacpp(base, **other)["answers"]
