"""The models of one run: the base, which is loaded once, and the adapter that it currently holds."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from keeptune.config.model import ModelSection
from keeptune.config.prompt import PromptSection
from keeptune.generation.self_test import load_checked_model
from keeptune.models import adapters, base_identity, load
from keeptune.progress import Reporter
from keeptune.prompts.chat_prompt import AnyPrompt
from keeptune.prompts.template import Prompt
from keeptune.run_files.manifest import BaseModelRecord


class ModelSession:
    """Loads the base model and its tokenizer on first use.

    PEFT changes the base in place when it attaches an adapter. Use either `base()` or the last adapted model, never
    both.
    """

    def __init__(self, config: ModelSection, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self._base: Any = None
        self.tuned: Any = None

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        return load.load_tokenizer(self.config.name)

    @cached_property
    def identity(self) -> BaseModelRecord:
        """The identity of the base model's files."""
        return base_identity.identify(self.config.name)

    def prompt(self, section: PromptSection) -> AnyPrompt:
        """The prompt of a recipe; a chat prompt is the tokenizer's own.

        Raises:
            as `load.load_prompt`.
        """
        if not section.is_chat:
            return Prompt(section.template)
        return load.load_prompt(section, self.config.name, self.tokenizer)

    def base(self) -> Any:
        """The base model without an adapter; an attached adapter is removed."""
        if self.tuned is not None:
            self._base, self.tuned = adapters.detach(self.tuned), None
        if self._base is None:
            self._base = self.load_base()
        return self._base

    def load_base(self, placed: bool = True) -> Any:
        """A newly loaded base model; `placed=False` leaves it on the processor for sharding.

        Raises:
            ModelError: when it cannot be loaded, the tokenizer does not fit it, or keeptune computes something else
                than the model.
        """
        self.reporter.info(f"loading {self.config.name} (the embedded model is unpacked on first use)")
        config = self.config
        model, notice = load_checked_model(config.name, self.tokenizer, config.dtype, config.quantization, placed)
        if notice:
            self.reporter.info(notice)
        return model

    def with_adapter(self, folder: Path) -> Any:
        """The base with the adapter in `folder`, which replaces an attached one."""
        self.tuned = adapters.load_adapter(self.base(), folder)
        return self.tuned
