"""The tiny model as the retention suite asks it: alone, broken, and as base and tuned."""

from pathlib import Path
from typing import Any

import tiny

from keeptune.evaluation.abilities.base import Subject
from keeptune.evaluation.model_pair import AdapterPair
from keeptune.generation.distributed import DistributedGenerator
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache
from keeptune.models import adapters
from keeptune.prompts.chat import FALLBACK, ChatLayout
from keeptune.training.distributed import distributed_context

CHAT_TEMPLATE = (
    "{% for message in messages %}<|begin|>{{ message['role'] }}: {{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant: {% endif %}"
)


def subject(model: Any, template: str | None = None) -> Subject:
    """A model with the tiny tokenizer, which has a chat template only where one is given."""
    words = tiny.tokenizer()
    words.chat_template = template
    return Subject(Generator(model, words), ChatLayout(words))


def broken(model_folder: Path) -> Any:
    """The tiny model as a diverged training leaves it: no logit is a finite number."""
    model = tiny.load(model_folder)
    model.lm_head.weight.data.fill_(float("nan"))
    return model


def adapter_pair(model_folder: Path, folder: Path, scale: float = 1.0) -> AdapterPair:
    """The tiny model with an adapter that makes a difference; the adapter and the cache are stored in `folder`."""
    tuned = tiny.tune(tiny.load(model_folder))
    adapters.save_adapter(tuned, folder / "adapter")
    generator = DistributedGenerator(tuned, tiny.tokenizer(), distributed_context())
    return AdapterPair(generator, folder / "adapter", scale, RecordCache(folder / "cache", {}), FALLBACK)
