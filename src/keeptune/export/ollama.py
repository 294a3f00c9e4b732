"""Ollama's Modelfile (https://docs.ollama.com/modelfile): the model file, its prompt, and the settings of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.export.gguf.architecture import context_length
from keeptune.export.gguf.vocabulary import adds_begin_token
from keeptune.export.served_prompt import ollama_prompt
from keeptune.models.adapter_metadata import AdapterMetadata

_PROMPT_TOKENS = 2048
"""Room for a prompt in the context, besides the longest answer."""


def modelfile(model: Path, card: AdapterMetadata, config: Any, tokenizer: Any, end_tokens: Sequence[int]) -> str:
    """The Modelfile of a merged model with greedy answers.

    Ollama's own defaults sample, and penalize repeated tokens. Both change the answers of the run.

    Args:
        model: the GGUF file beside the Modelfile.
        card: the metadata of the adapter.
        config: the model's configuration.
        tokenizer: the model's tokenizer.
        end_tokens: the ids of the tokens that end an answer.

    Raises:
        ModelError: if the prompt cannot be written in Ollama's language.
    """
    begin = tokenizer.bos_token if adds_begin_token(tokenizer) else ""
    prompt = ollama_prompt(card.prompt, begin)
    parameters = {"temperature": 0, "top_k": 1, "repeat_penalty": 1, **_lengths(card, config)}
    stops = [tokenizer.convert_ids_to_tokens(token) for token in end_tokens]
    return "\n".join(
        [
            f"FROM ./{model.name}",
            f'TEMPLATE """{prompt.template}"""',
            *([f'SYSTEM """{prompt.system}"""'] if prompt.system else []),
            *(f"PARAMETER {name} {value}" for name, value in parameters.items()),
            *(f'PARAMETER stop "{text}"' for text in stops),
            "",
        ]
    )


def _lengths(card: AdapterMetadata, config: Any) -> dict[str, int]:
    """The longest answer and the context, in tokens."""
    if not card.budgets:
        return {}
    longest = max(card.budgets.values())
    return {"num_predict": longest, "num_ctx": min(context_length(config), longest + _PROMPT_TOKENS)}
