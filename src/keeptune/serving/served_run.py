"""The models that a server offers: the base of a run, its tuned model, and further scales of it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from keeptune.errors import ModelError, RecipeError
from keeptune.evaluation.model_pair import find_adapter
from keeptune.models.out_of_memory import explain_out_of_memory
from keeptune.pipeline.evaluate_files import open_target
from keeptune.serving.api_error import ApiError
from keeptune.serving.decoder import BatchDecoder
from keeptune.serving.prompting import StoredPrompt

BASE, TUNED = "base", "tuned"

DEFAULT_CONTEXT_TOKENS = 2_048


@dataclass(frozen=True, slots=True)
class ServedRun:
    """A loaded run, ready to be served.

    Attributes:
        name: the run directory or adapter folder.
        base: the name of the base model.
        scales: the factor of the change that tuning made, by the name of the model.
        prompt: the stored prompt.
        decoder: the models.
    """

    name: str
    base: str
    scales: dict[str, float]
    prompt: StoredPrompt
    decoder: BatchDecoder

    def require_model(self, name: str) -> str:
        """The name of a model that is served.

        Raises:
            ApiError: there is none with this name.
        """
        if name in self.scales:
            return name
        near = difflib.get_close_matches(name, self.scales, n=1, cutoff=0.6)
        advice = f"did you mean {near[0]}?" if near else f"choose among {', '.join(self.scales)}"
        raise ApiError(404, f"there is no model {name!r:.80}; {advice}", code="model_not_found", param="model")


def served_scales(scales: Sequence[float]) -> dict[str, float]:
    """The models by name: base, tuned, and tuned@SCALE for each further scale.

    Raises:
        RecipeError: a scale is not finite, or one of base and tuned.
    """
    for scale in scales:
        if not math.isfinite(scale) or scale <= 0 or scale == 1:
            raise RecipeError(f"--scale must be > 0 and not 1 (got {scale:g}); 0 is the model base, and 1 is tuned")
    return {BASE: 0.0, TUNED: 1.0, **{f"{TUNED}@{scale:g}": scale for scale in sorted(set(scales))}}


@explain_out_of_memory("loading the model")
def open_run(target: str, scales: Sequence[float], context_tokens: int | None, slots: int) -> ServedRun:
    """Loads the model of a run or an adapter folder.

    Raises:
        RecipeError: a scale or the length of the context is wrong.
        ModelError: there is no adapter, or it does not fit the base model.
        PromptError: the chat template has changed since the training.
    """
    models = served_scales(scales)
    if find_adapter(target) is None:
        raise ModelError(f"{target}: there is no adapter to serve; give a finished run or an adapter folder")
    opened = open_target(target)
    model, tokenizer = opened.generator.model, opened.generator.tokenizer
    limit = getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT_TOKENS
    context = min(DEFAULT_CONTEXT_TOKENS, limit) if context_tokens is None else context_tokens
    if context > limit:
        raise RecipeError(f"--context must be ≤ {limit}, which {opened.model} was made for (got {context})")
    decoder = BatchDecoder(model, tokenizer, models, context, slots)
    prompt = StoredPrompt(opened.prompt, tokenizer, decoder.invocation)
    return ServedRun(target, opened.model, models, prompt, decoder)
