"""A real two-layer Llama with a real byte-level tokenizer, made in a folder in under a second.

What keeptune does with a model of 8 billion parameters it does with this one: same classes, same files, same code.
"""

import random
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from keeptune.config.adapter import AdapterSection
from keeptune.config.solution_format import Rounding
from keeptune.config.train import TrainSection
from keeptune.models import adapters
from keeptune.models.load import load_model
from keeptune.prompts.template import Prompt
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.training.batches import TokenizedExample

BEGIN, END = "<|begin|>", "<|end|>"
PROMPT = Prompt("Question: {problem}\nAnswer:\n")


def problems(number: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """So many (kind, problem, worked solution), every kind in turn."""
    skill, generator = Arithmetic(), random.Random(seed)
    made = []
    for index in range(number):
        kind = skill.kinds[index % len(skill.kinds)]
        problem, raw = skill.generate(kind, generator)
        question = skill.parse(problem, raw)
        assert question is not None
        made.append((kind, problem, skill.render_solution(question, raw, "longhand", Rounding())))
    return made


def tokenizer(before: Sequence[str] = (), after: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the skill's words; it puts the special tokens `before` and `after` a text."""
    core = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([PROMPT.render(problem) + solution for _, problem, solution in problems(60)], trainer)
    if before or after:
        specials = [(token, core.token_to_id(token)) for token in {*before, *after}]
        core.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after], pair=[*before, "$A", "$B", *after], special_tokens=specials
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BEGIN, eos_token=END, pad_token=END)


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of Llama 2's sort: a space before every text, bytes for what it has no token for."""
    characters = ["▁", *(chr(code) for code in range(33, 127))]
    vocabulary = [END, BEGIN, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    ids = {text: number for number, text in enumerate(vocabulary)}
    core = Tokenizer(models.BPE(ids, [], unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.post_processor = processors.TemplateProcessing(
        single=[BEGIN, "$A"], pair=[BEGIN, "$A", "$B"], special_tokens=[(BEGIN, 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BEGIN, eos_token=END, pad_token=END)


LLAMA3_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
"""The shape that published counts of parameters are checked against; no weights are made of it."""


def options(vocabulary: int, **changes: Any) -> dict[str, Any]:
    """Two layers, four heads in two groups; weights drawn so wide that no two tokens are nearly as likely."""
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
    }
    special = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    return {**sizes, **special, "tie_word_embeddings": False, "initializer_range": 0.3, **changes}


def config(vocabulary: int, **changes: Any) -> LlamaConfig:
    """A Llama with these options."""
    return LlamaConfig(**options(vocabulary, **changes))


def save(folder: Path) -> Path:
    """`folder`, with a model and its tokenizer in it."""
    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config(len(words)))
    # Rows and lines shall end now and then, as a real model's do.
    model.lm_head.weight.data[[words.eos_token_id, *words.encode("\n")]] *= 2
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """The model as keeptune runs it, in float32, so that results can be compared to the fifth digit."""
    return load_model(str(folder), "float32")


def reference(folder: Path) -> Any:
    """The model as plain transformers runs it, with its own slow attention: what keeptune's results must equal."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def tune(model: Any, rank: int = 4, dropout: float = 0.0) -> Any:
    """The model with an adapter that makes a difference: B is drawn, too, instead of zero."""
    tuned = adapters.attach(model, AdapterSection(rank=rank, alpha=2 * rank, dropout=dropout), seed=1)
    draw = torch.Generator().manual_seed(2)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=draw)
    return tuned


FAMILIES: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "alpha": 8},
    "rslora": {"rank": 4, "alpha": 8},
    "dora": {"rank": 4, "alpha": 8},
    "pissa": {"rank": 4, "alpha": 8},
    "vera": {"rank": 16},
    "ia3": {},
}
"""Every adapter family at a size that suits so small a model."""


def tune_as(model: Any, family: str, **changes: Any) -> Any:
    """The model with a fresh adapter of a family."""
    section = AdapterSection.model_validate({"family": family, **FAMILIES[family], **changes})
    return adapters.attach(model, section, seed=1)


def moved(tuned: Any) -> Any:
    """The same model, after every trained number was moved a little: the adapter makes a difference."""
    draw = torch.Generator().manual_seed(2)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return tuned


def examples(words: Any, number: int, seed: int = 0) -> list[TokenizedExample]:
    """Training rows of all kinds, labelled on the solution."""
    made = []
    for index, (kind, problem, solution) in enumerate(problems(number, seed)):
        asked, wanted = PROMPT.encode(words, problem), PROMPT.encode_solution(words, solution)
        labelled = (False,) * len(asked) + (True,) * len(wanted)
        made.append(TokenizedExample(f"rows.jsonl:{index + 1}", kind, (*asked, *wanted), labelled))
    return made


def settings(**changes: Any) -> TrainSection:
    """Training small enough for a test; every amount can be changed."""
    amounts = {"tokens_per_step": 450, "tokens_per_batch": 300, "learning_rate": 0.01, "checkpoint_every_steps": 2}
    return TrainSection.model_validate({**amounts, **changes})


@contextmanager
def full_disk(largest_bytes: int) -> Iterator[None]:
    """While it lasts, the kernel refuses to let any file of this process grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
