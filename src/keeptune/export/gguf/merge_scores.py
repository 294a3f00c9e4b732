"""Scores of tokens from merge rules, for tokenizers of the SentencePiece kind.

llama.cpp merges the neighboring pair whose token has the highest score, for any pair that forms a token. tokenizer.json
has ranked merge rules instead. Both are the same if each pair that forms a token has a rule, and the rules of one token
have neighboring ranks. transformers writes such rules when it converts a SentencePiece model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from keeptune.errors import ModelError


def merge_scores(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], added: Collection[str]
) -> dict[str, float]:
    """The score of each token that merges form: minus its place among them.

    Args:
        vocabulary: all tokens.
        merges: the rules in the order of their ranks.
        added: tokens that are found before the merges, such as special tokens. They need no rules.

    Raises:
        ModelError: if no scores give the same merges.
    """
    scores: dict[str, float] = {}
    last = ""
    for left, right in merges:
        token = left + right
        if token != last and token in scores:
            raise ModelError(f"the merge rules of the token {token!r} are apart, which scores of tokens cannot express")
        scores.setdefault(token, -float(len(scores)))
        last = token
    rules = set(merges)
    for token in vocabulary:
        splits = ((token[:place], token[place:]) for place in range(1, len(token)))
        unruled = (pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary and pair not in rules)
        if token not in added and (pair := next(unruled, None)):
            raise ModelError(f"the tokenizer has no merge rule for {pair}, which llama.cpp would merge to {token!r}")
    return scores
