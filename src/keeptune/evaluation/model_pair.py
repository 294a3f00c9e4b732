"""Base and tuned as two subjects of one evaluation, wherever they come from.

An adapter and its base are one model with the adapter off and on, so nothing else can differ between them. Two
separate models, such as a base and a merged or fully fine-tuned one, are compared as they are, each with its own
tokenizer and chat template.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from keeptune.errors import ModelError
from keeptune.evaluation.abilities.base import Subject
from keeptune.evaluation.fingerprint import adapter_facts, record_cache
from keeptune.generation.distributed import SharedGenerator
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models
from keeptune.prompts.chat import FALLBACK, ChatLayout, fallback_prompt
from keeptune.prompts.template import Prompt
from keeptune.training.distributed import distributed_context

Who = Literal["base", "tuned"]
WHO: tuple[Who, Who] = ("base", "tuned")
"""Whose answers are scored, alike in everything but the adapter."""


class Pair(ABC):
    """Both models, one of which answers at a time."""

    @abstractmethod
    def using(self, who: Who) -> AbstractContextManager[Subject]:
        """Gives the model in the state in which it is to be measured."""

    @abstractmethod
    def cache(self, who: Who) -> RecordCache:
        """Answers that this very model gave before, on this machine and by this code."""

    @property
    @abstractmethod
    def differing_tokens(self) -> str | None:
        """Why losses per token and divergences cannot be compared; None where they can."""


class AdapterPair(Pair):
    """One model with an adapter, which is off for the base and counts `scale` times for the tuned model."""

    def __init__(
        self, generator: SharedGenerator, adapter: Path, scale: float, cache: RecordCache, fallback: Prompt
    ) -> None:
        self.generator, self.adapter, self.scale = generator, adapter, scale
        self.base_cache, self.layout = cache, ChatLayout(generator.tokenizer, fallback)

    @contextmanager
    def using(self, who: Who) -> Iterator[Subject]:
        with self.generator.scaled(self._scale(who)):
            yield Subject(self.generator, self.layout)

    def cache(self, who: Who) -> RecordCache:
        facts = {**adapter_facts(self.adapter, self._scale(who)), "answered_by": self.generator.packages}
        return self.base_cache.with_facts(facts)

    @property
    def differing_tokens(self) -> None:
        return None

    def _scale(self, who: Who) -> float:
        return 0.0 if who == "base" else self.scale


class ModelPair(Pair):
    """Two models, each with its own tokenizer."""

    def __init__(self, base: Generator, tuned: Generator, caches: Sequence[RecordCache], fallback: Prompt) -> None:
        self.generators = dict(zip(WHO, (base, tuned), strict=True))
        self.caches = dict(zip(WHO, caches, strict=True))
        self.fallback = fallback

    @contextmanager
    def using(self, who: Who) -> Iterator[Subject]:
        generator = self.generators[who]
        yield Subject(generator, ChatLayout(generator.tokenizer, self.fallback))

    def cache(self, who: Who) -> RecordCache:
        return self.caches[who].with_facts({"adapter": None})

    @property
    def differing_tokens(self) -> str | None:
        base, tuned = (self.generators[who] for who in WHO)
        if base.tokenizer.get_vocab() != tuned.tokenizer.get_vocab():
            return "base and tuned have different tokenizers"
        sizes = [len(own.head.weight) for own in (base, tuned)]
        if sizes[0] != sizes[1]:
            return f"base and tuned have vocabularies of different size ({sizes[0]:,} and {sizes[1]:,})"
        return None


def open_pair(base: str, tuned: str, scale: float | None = None) -> Pair:
    """Loads a base and a tuned model: names, folders, PEFT adapters, run directories, in any combination that fits.

    `scale` multiplies the change that an adapter makes; by default the one that its card states, else 1.

    Raises:
        ModelError: when a model cannot be loaded, needs code of its own, or the adapter does not fit the base.
    """
    folder = adapter_of(tuned)
    stored = adapter_metadata.load(folder) if folder and (folder / adapter_metadata.FILE).is_file() else None
    prompt = stored.prompt if stored else FALLBACK
    dtype, quantization = (stored.dtype, stored.quantization) if stored else ("auto", None)
    base_generator, cache = _load(base, dtype, quantization)
    if folder is not None:
        counted = scale if scale is not None else stored.scale if stored else 1.0
        model = adapters.load_adapter(base_generator.model, folder)
        own = SharedGenerator(model, base_generator.tokenizer, base_generator.group)
        prompt = fallback_prompt(prompt, own.invocation is not None)
        return AdapterPair(own, folder, counted, cache, prompt)
    if scale is not None:
        raise ModelError(f"--scale is for adapters, and {tuned} is a whole model; leave it out")
    if models.resolve(tuned) == models.resolve(base):
        return ModelPair(base_generator, base_generator, (cache, cache), prompt)
    tuned_generator, tuned_cache = _load(tuned, "auto", None)
    return ModelPair(base_generator, tuned_generator, (cache, tuned_cache), prompt)


def adapter_of(name: str) -> Path | None:
    """The folder of the adapter behind a run directory or a PEFT folder; None for a whole model."""
    folder = Path(name).expanduser()
    if (folder / "adapter_config.json").is_file():
        return folder
    if (folder / "recipe.yaml").is_file():
        if not (folder / "adapter" / "adapter_config.json").is_file():
            raise ModelError(f"{folder}: this run has no adapter yet; finish it with `keeptune run` first")
        return folder / "adapter"
    return None


def _load(name: str, dtype: str, quantization: str | None) -> tuple[SharedGenerator, RecordCache]:
    tokenizer, model = models.load_tokenizer(name), models.load_model(name, dtype, quantization)
    models.check_tokenizer(model, tokenizer)
    return SharedGenerator(model, tokenizer, distributed_context()), record_cache(model, tokenizer)
