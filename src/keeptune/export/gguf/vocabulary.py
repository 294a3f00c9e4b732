"""The tokenizer in a GGUF file: tokens, merges, special tokens and the rule that splits a text before the merges.

Byte-level tokenizers (GPT-2, Llama 3, Qwen) split a text before they merge. llama.cpp has one implementation per
splitting rule, and a file names it (`tokenizer.ggml.pre`). A wrong name changes the tokens of some texts silently, so
the name follows from the tokenizer's own rule, and an unknown rule is an error. Tokenizers of the SentencePiece kind
(Llama 2) merge the whole text by scores of tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gguf import GGUFWriter, TokenType

from keeptune.errors import ModelError
from keeptune.export.gguf.merge_scores import merge_scores
from keeptune.prompts.template import encode_text

_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


_BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A token of one byte, for characters that have no token."""


class _Rule(NamedTuple):
    """A splitting rule: its steps, and whether a piece that is a token is never divided into merges."""

    steps: tuple[str, ...]
    ignores_merges: bool = False


_RULES: dict[_Rule, str] = {
    _Rule(("words",)): "gpt-2",
    _Rule(("digits", "words")): "smollm",
    _Rule((rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_TAIL}", "bytes"), True): "llama-bpe",
    _Rule((rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_TAIL}", "bytes")): "qwen2",
    _Rule(
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            "bytes",
        ),
        True,
    ): "tekken",
}
"""llama.cpp's names of the known rules. They are those of GPT-2, SmolLM, Llama 3, Qwen 2 and 3, and Mistral Nemo."""


def splitting_rule(tree: Mapping[str, Any]) -> str:
    """llama.cpp's name of the rule in the JSON of a tokenizer (`tokenizer.json`).

    Raises:
        ModelError: if the tokenizer has no byte-level merges, or llama.cpp's name of its rule is not known here.
    """
    model, splitter = tree["model"], tree["pre_tokenizer"] or {}
    steps = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
    rule = _Rule(tuple(map(_step, steps)), bool(model.get("ignore_merges")))
    normalizer = (tree["normalizer"] or {}).get("type")
    # NFC changes only texts that are not normalized. llama.cpp ignores it.
    is_known = model["type"] == "BPE" and not model.get("byte_fallback") and normalizer in (None, "NFC")
    if not is_known or rule not in _RULES:
        raise ModelError(
            "the tokenizer splits texts by a rule that keeptune cannot name in a GGUF file; supported are the "
            f"byte-level tokenizers of the kinds {', '.join(_RULES.values())}, and those of Llama 2. Export with "
            "`--to merged` and convert that folder with llama.cpp's convert_hf_to_gguf.py"
        )
    return _RULES[rule]


def prepends_space(tree: Mapping[str, Any]) -> bool | None:
    """Whether a tokenizer of the SentencePiece kind puts a space before a text; None for tokenizers of other kinds."""
    if not tree["model"].get("byte_fallback"):
        return None
    match tree["normalizer"], tree["pre_tokenizer"]:
        case None, {"type": "Metaspace", "prepend_scheme": str(scheme), "split": False}:
            return scheme != "never"
        case {"type": "Sequence", "normalizers": [{"type": "Prepend"}, {"type": "Replace"}]}, None:
            return True
    return None


def _step(step: Mapping[str, Any]) -> str:
    """A step of a splitting rule: a regular expression, or a name."""
    match step:
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return pattern
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(splits)}:
            return "words" if splits else "bytes"
    return f"unknown: {step.get('type')}"


def adds_begin_token(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its BOS token before a text.

    Raises:
        ModelError: if it puts other tokens there.
    """
    plain, whole = (encode_text(tokenizer, "a", special_tokens=with_special) for with_special in (False, True))
    if whole[-1:] == [tokenizer.eos_token_id]:  # keeptune removes it from prompts
        whole = whole[:-1]
    if whole not in (plain, [tokenizer.bos_token_id, *plain]):
        raise ModelError(f"the tokenizer puts {whole} around the tokens {plain}; a GGUF file can only name a BOS token")
    return whole != plain


def add_vocabulary(writer: GGUFWriter, tokenizer: Any, size: int, end_tokens: Sequence[int]) -> None:
    """Adds a tokenizer.

    Args:
        writer: the file.
        tokenizer: a fast transformers tokenizer.
        size: the number of the model's embeddings. Ids without a token get an unused one.
        end_tokens: the ids of the tokens that end an answer.

    Raises:
        ModelError: if a GGUF file cannot represent the tokenizer.
    """
    if not tokenizer.is_fast:
        raise ModelError("the model has no tokenizer.json, from which the GGUF vocabulary is written; add the file")
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = tokenizer.get_vocab()
    tokens = {number: text for text, number in vocabulary.items()}
    added = tokenizer.added_tokens_decoder
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in tree["model"]["merges"]]
    space = prepends_space(tree)
    if space is None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(splitting_rule(tree))
        writer.add_token_merges([" ".join(merge) for merge in merges])
    else:
        writer.add_tokenizer_model("llama")
        scores = merge_scores(vocabulary, merges, {one.content for one in added.values()})
        writer.add_token_scores([scores.get(tokens.get(number, ""), 0.0) for number in range(size)])
    writer.add_token_list([tokens.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(
        [_token_type(number, tokens, added, tokenizer.unk_token_id, space is not None) for number in range(size)]
    )
    writer.add_add_bos_token(adds_begin_token(tokenizer))
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(bool(space))
    _add_special_tokens(writer, tokenizer, end_tokens)


def _token_type(
    number: int, tokens: Mapping[int, str], added: Mapping[int, Any], unknown: int | None, has_byte_tokens: bool
) -> TokenType:
    if number not in tokens:
        return TokenType.UNUSED
    if has_byte_tokens and _BYTE.fullmatch(tokens[number]):
        return TokenType.BYTE
    if has_byte_tokens and number == unknown:
        return TokenType.UNKNOWN
    if number in added:
        return TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED
    return TokenType.NORMAL


def _add_special_tokens(writer: GGUFWriter, tokenizer: Any, end_tokens: Sequence[int]) -> None:
    """Adds the ids of the special tokens. GGUF has three keys for tokens that end an answer.

    Raises:
        ModelError: if the model has more than three such tokens.
    """
    eos = tokenizer.eos_token_id
    others = [token for token in end_tokens if token != eos]
    adders = [writer.add_eot_token_id, writer.add_eom_token_id]
    if len(others) > len(adders):
        raise ModelError(f"the tokens {sorted(end_tokens)} end an answer; a GGUF file can name only three")
    known = [
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, eos),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        *zip(adders, others, strict=False),
    ]
    for add, token in known:
        if token is not None:
            add(token)
