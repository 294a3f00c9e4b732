"""The pair of models of an evaluation, base and tuned: one model with an adapter, or two separate models.

An adapter and its base are one model with the adapter on and off, so that nothing else differs between them. Two
separate models, such as a base and a merged or fully fine-tuned one, each use their own tokenizer and chat template.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keeptune.errors import ModelError
from keeptune.evaluation.abilities.base import Subject
from keeptune.evaluation.fingerprint import adapter_fingerprint, record_cache
from keeptune.evaluation.run_integrity import check_files
from keeptune.generation.distributed import DistributedGenerator
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache
from keeptune.generation.self_test import load_checked_model
from keeptune.models import adapter_metadata, adapters, base_identity
from keeptune.models import load as models
from keeptune.prompts.chat import FALLBACK, ChatLayout, fallback_prompt
from keeptune.prompts.template import Prompt
from keeptune.run_files.directory import ADAPTER_CONFIG, RunDirectory
from keeptune.training.distributed import distributed_context

Variant = Literal["base", "tuned"]
VARIANTS: tuple[Variant, Variant] = ("base", "tuned")
"""The two models of a pair, as they are called in file names and records."""


@dataclass(frozen=True, slots=True)
class LoadedSubject(Subject):
    """A subject whose model is loaded in this process."""

    generator: Generator


class Pair(ABC):
    """Base and tuned model. Only one of them is in use at a time."""

    @abstractmethod
    def using(self, variant: Variant) -> AbstractContextManager[LoadedSubject]:
        """Context in which one of the models is ready to be evaluated."""

    @abstractmethod
    def cache(self, variant: Variant) -> RecordCache:
        """The cache of records of one of the models."""

    @property
    @abstractmethod
    def differing_tokens(self) -> str | None:
        """Why losses per token and divergences cannot be compared; None if they can."""


class AdapterPair(Pair):
    """One model with an adapter. The base is the model without it; tuned multiplies its change by `scale`."""

    def __init__(
        self, generator: DistributedGenerator, adapter: Path, scale: float, cache: RecordCache, fallback: Prompt
    ) -> None:
        self.generator, self.adapter, self.scale = generator, adapter, scale
        self.base_cache, self.layout = cache, ChatLayout(generator.tokenizer, fallback)

    @contextmanager
    def using(self, variant: Variant) -> Iterator[LoadedSubject]:
        with self.generator.scaled(self._scale(variant)):
            yield LoadedSubject(self.generator, self.layout)

    def cache(self, variant: Variant) -> RecordCache:
        adapter = adapter_fingerprint(self.adapter, self._scale(variant))
        return self.base_cache.extended({**adapter, "answered_by": self.generator.packages})

    @property
    def differing_tokens(self) -> None:
        return None

    def _scale(self, variant: Variant) -> float:
        return 0.0 if variant == "base" else self.scale


class ModelPair(Pair):
    """Two separate models, each with its own tokenizer."""

    def __init__(self, base: Generator, tuned: Generator, caches: Sequence[RecordCache], fallback: Prompt) -> None:
        self.generators = dict(zip(VARIANTS, (base, tuned), strict=True))
        self.caches = dict(zip(VARIANTS, caches, strict=True))
        self.fallback = fallback

    @contextmanager
    def using(self, variant: Variant) -> Iterator[LoadedSubject]:
        generator = self.generators[variant]
        yield LoadedSubject(generator, ChatLayout(generator.tokenizer, self.fallback))

    def cache(self, variant: Variant) -> RecordCache:
        return self.caches[variant].extended({"adapter": None})

    @property
    def differing_tokens(self) -> str | None:
        base, tuned = (self.generators[variant] for variant in VARIANTS)
        if base.tokenizer.get_vocab() != tuned.tokenizer.get_vocab():
            return "base and tuned have different tokenizers"
        sizes = [len(generator.head.weight) for generator in (base, tuned)]
        if sizes[0] != sizes[1]:
            return f"base and tuned have vocabularies of different size ({sizes[0]:,} and {sizes[1]:,})"
        return None


def open_pair(base: str, tuned: str, scale: float | None = None) -> Pair:
    """Loads a base and a tuned model from names, folders, PEFT adapters or run directories.

    `scale` multiplies the change that an adapter makes. The default is the scale stored with the adapter, else 1.

    Raises:
        ModelError: if a model cannot be loaded or needs remote code, or if the adapter does not fit the base.
    """
    folder = find_adapter(tuned)
    metadata = adapter_metadata.load(folder) if folder and (folder / adapter_metadata.FILE).is_file() else None
    stored = metadata.prompt if metadata else FALLBACK
    dtype, quantization = (metadata.dtype, metadata.quantization) if metadata else ("auto", None)
    if metadata:
        base_identity.require_same(metadata.base, base, tuned)
    base_generator, cache = _load(base, dtype, quantization)
    if folder is not None:
        if scale is None:
            scale = metadata.scale if metadata else 1.0
        model = adapters.load_adapter(base_generator.model, folder)
        generator = DistributedGenerator(model, base_generator.tokenizer, base_generator.group)
        fallback = fallback_prompt(stored, generator.invocation is not None)
        return AdapterPair(generator, folder, scale, cache, fallback)
    if scale is not None:
        raise ModelError(f"--scale: {tuned} is a whole model, and only an adapter has a scale; leave out --scale")
    if models.resolve(tuned) == models.resolve(base):
        return ModelPair(base_generator, base_generator, (cache, cache), FALLBACK)
    tuned_generator, tuned_cache = _load(tuned, "auto", None)
    return ModelPair(base_generator, tuned_generator, (cache, tuned_cache), FALLBACK)


def find_adapter(name: str) -> Path | None:
    """The adapter folder of a run directory or PEFT folder; None for a whole model.

    Raises:
        ModelError: if the run has no adapter yet.
        RunError: if the adapter is not the one that the run wrote.
    """
    folder = Path(name).expanduser()
    # Checked first, because published adapters have their recipe beside them.
    if (folder / ADAPTER_CONFIG).is_file():
        return folder
    run = RunDirectory(folder)
    if not run.is_run:
        return None
    if not run.adapter_config.is_file():
        raise ModelError(f"{folder}: this run has no adapter yet; finish it with `keeptune run` first")
    check_files(run, f"{run.adapter.name}/")
    return run.adapter


def _load(name: str, dtype: str, quantization: str | None) -> tuple[DistributedGenerator, RecordCache]:
    tokenizer = models.load_tokenizer(name)
    model, _ = load_checked_model(name, tokenizer, dtype, quantization)
    return DistributedGenerator(model, tokenizer, distributed_context()), record_cache(model, tokenizer)
