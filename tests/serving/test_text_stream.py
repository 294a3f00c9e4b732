"""Streamed text: together it is the decoded text up to the first stop text, and no part is ever taken back."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.serving.text_stream import TextStream


def decode(tokens: Sequence[int]) -> str:
    """Tokens are bytes, as in a byte-level vocabulary without merges."""
    return bytes(tokens).decode("utf-8", errors="replace")


def released(text: bytes, stops: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(decode, stops)
    parts = []
    for token in text:
        parts.append(stream.push(token))
        if stream.is_stopped:
            break
    return [*parts, stream.finish()], stream


@given(st.text(st.sampled_from("ab 计算😀é"), max_size=30))
def test_the_parts_are_the_text_in_whole_characters(text: str) -> None:
    parts, stream = released(text.encode())
    assert "".join(parts) == text == stream.text
    assert all("\ufffd" not in part for part in parts)
    assert not stream.is_stopped


@given(
    st.text(st.sampled_from("ab计"), max_size=40), st.lists(st.text(st.sampled_from("ab计"), min_size=1, max_size=5))
)
def test_the_text_ends_before_the_first_stop_text(text: str, stops: list[str]) -> None:
    parts, stream = released(text.encode(), stops)
    # The first stop text to be complete ends the answer; of several that end there, the longest.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    end = min(ends, default=0)
    cut = min((end - len(stop) for stop in stops if text[:end].endswith(stop)), default=len(text))
    assert "".join(parts) == (text[:cut] if ends else text)
    assert stream.is_stopped == bool(ends)


def test_only_the_beginning_of_a_stop_text_is_held_back() -> None:
    stream = TextStream(decode, ["END."])
    assert [stream.push(token) for token in b"x E EN END"] == ["x", " ", "", "E ", "", "", "EN ", "", "", ""]
    assert stream.push(ord("!")) == "END!"
    assert stream.finish() == ""


def test_an_incomplete_character_at_the_end_is_shown() -> None:
    parts, _ = released("计".encode()[:2])
    assert parts == ["", "", "\ufffd"]


def test_a_token_may_change_the_text_of_the_one_before() -> None:
    """Llama 2's tokenizer removes the space of the first token of a text, and only of that."""
    words = [" a", " b", " c"]

    def first_without_space(tokens: Sequence[int]) -> str:
        return "".join(words[token] for token in tokens).removeprefix(" ")

    stream = TextStream(first_without_space)
    assert [stream.push(token) for token in (0, 1, 2)] == ["a", " b", " c"]
    assert (stream.finish(), stream.text) == ("", "a b c")


@pytest.mark.parametrize("stops", [["b"], ["ab", "b"], ["b", "ab"]])
def test_the_earliest_of_several_stop_texts_counts(stops: list[str]) -> None:
    _, stream = released(b"xxabyy", stops)
    assert stream.text == ("xx" if "ab" in stops else "xxa")
