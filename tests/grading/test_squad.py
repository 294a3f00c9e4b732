import json
import os
import random
import re
import warnings
from pathlib import Path

import pytest

from keeptune.errors import DataError
from keeptune.grading.contest_reading import score_contest, select_contest_items
from keeptune.grading.squad import (
    ReadingItem,
    Scores,
    Summary,
    load_reading_items,
    load_squad,
    score_squad_v11,
    summarize_scores,
)

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))


# A second implementation of the official rules: word by word and pair by pair, without translate or Counter.


def words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if not (c.isascii() and c.isprintable() and not c.isalnum() and c != " "))
    parts = re.split(r"(\w+)", kept)
    return "".join(" " if part in ("a", "an", "the") else part for part in parts).split()


def word_f1(predicted: list[str], expected: list[str]) -> float:
    unmatched, shared = list(expected), 0
    for word in predicted:
        if word in unmatched:
            unmatched.remove(word)
            shared += 1
    return 2 * shared / (len(predicted) + len(expected)) if shared else 0.0


def second_opinion(prediction: str, references: list[str]) -> tuple[float, float]:
    f1 = em = 0.0
    for reference in references:
        f1 = max(f1, word_f1(words(prediction), words(reference)))
        em = max(em, float(" ".join(words(prediction)) == " ".join(words(reference))))
    return f1, em


def agree(prediction: str, references: list[str]) -> None:
    scores = score_squad_v11(prediction, references)
    assert (scores.f1, scores.em) == pytest.approx(second_opinion(prediction, references), abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "references", "f1", "em"),
    [
        ("The Normans!", ["normans"], 1, 1),
        ("in the 10th century", ["10th and 11th centuries", "in 10th century"], 1, 1),
        ("Denver Broncos won", ["Denver Broncos", "Broncos"], 0.8, 0),
        ("cat cat", ["cat"], 2 / 3, 0),
        ("U.S.A.", ["USA"], 1, 1),
        ("theme", ["the me"], 0, 0),
        ("", ["France"], 0, 0),
        ("", ["the"], 0, 1),
        ("“France”", ["France"], 0, 0),
        ("1,000", ["1000"], 1, 1),
        ("state-of-the-art", ["state of the art"], 0, 0),
    ],
)
def test_official_rules_by_hand(prediction: str, references: list[str], f1: float, em: float) -> None:
    scores = score_squad_v11(prediction, references)
    assert (scores.f1, scores.em) == pytest.approx((f1, em))
    agree(prediction, references)


def test_official_rules_agree_with_a_second_implementation_on_random_texts() -> None:
    generator = random.Random(0)
    pieces = [*"abcT.,!?'\"-_()$% \t\nſİ。’二\u00a0", "the", "The", "a", "an", "cat", "naïve", "10", "_the"]
    for _ in range(12_000):
        prediction, *references = (
            "".join(generator.choices(pieces, k=generator.randrange(12))) for _ in range(generator.randrange(2, 5))
        )
        agree(prediction, references)


@pytest.fixture(scope="module")
def sample() -> list[ReadingItem]:
    path = SHARED / "squad" / "dev_sample.json"
    if not path.exists():
        pytest.skip("needs the shared folder's squad/dev_sample.json")
    return load_squad(path).items


def test_official_rules_agree_on_the_whole_sample(sample: list[ReadingItem]) -> None:
    assert len(sample) == 705
    previous = ""
    for item in sample:
        references = list(item.answers)
        assert score_squad_v11(item.answers[-1].upper() + " .", references) == Scores(1, 1)
        for prediction in (item.answers[0], "the " + item.question, item.context[:60], previous):
            agree(prediction, references)
        previous = item.answers[0]


def test_contest_items_are_the_first_of_each_paragraph(sample: list[ReadingItem]) -> None:
    chosen = select_contest_items(sample)
    assert len(chosen) == len({item.context for item in sample}) == 173
    assert chosen[0].question == "In what country is Normandy located?"
    assert all(len(item.answers) == 1 for item in chosen)
    assert [item.paragraph for item in chosen] == list(range(173))


def test_contest_metric_agrees_with_a_second_implementation_on_the_sample(
    sample: list[ReadingItem], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba

        plain = jieba.Tokenizer()
        plain.tmp_dir = str(tmp_path)
        plain.initialize()

    def segments(text: str) -> list[str]:
        found, pending = [], ""
        for character in text.lower().strip():
            if character in "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』":
                continue
            if "\u4e00" <= character <= "\u9fa5":
                found += [*plain.cut(pending), character]
                pending = ""
            else:
                pending += character
        return [*found, *plain.cut(pending)]

    def longest_run(first: list[str], second: list[str]) -> int:
        ends = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
        for i, left in enumerate(first):
            for j, right in enumerate(second):
                ends[i + 1][j + 1] = ends[i][j] + 1 if left == right else 0
        return max(map(max, ends))

    previous = "法国 (France)"
    for item in select_contest_items(sample):
        for prediction in (item.context[:80], previous, item.answers[0] + "。", "那是" + item.question):
            left, right = segments(prediction.strip().split("\n")[0]), segments(item.answers[0])
            run = longest_run(left, right)
            assert score_contest(prediction, item.answers[0]).f1 == pytest.approx(2 * run / (len(left) + len(right)))
        previous = item.answers[0]


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "em"),
    [
        # The two examples of the metric's own docstring; together F1 75, EM 50.
        ("I love Beijing, because it's beautiful", "I love Beijing.", 2 * 5 / (14 + 6), 0),
        ("Hello world。", "Hello world", 1, 1),
        # The full stop stays, and is a segment.
        ("france.", "France", 2 / 3, 0),
        # Spaces are segments: new, space, york against york.
        ("New York", "York", 2 * 1 / (3 + 1), 0),
        # A contiguous run, no subsequence: of "red , blue" only one side counts.
        ("red green blue", "red blue", 2 * 2 / (5 + 3), 0),
        # Articles stay.
        ("the cat", "cat", 2 * 1 / (3 + 1), 0),
        # Symbols go before words are cut: the two halves become one word.
        ("twenty-one", "twentyone", 1, 1),
        # A space before a removed mark stays, for EM and F1 alike.
        ("Paris 。", "Paris", 2 * 1 / (2 + 1), 0),
        # Chinese characters stand alone, and their punctuation goes.
        ("《郑州》市。", "郑州市", 1, 1),
        ("郑州", "郑州市", 0.8, 0),
        # The list's …… is two characters and never matches; ‘ is not on it, ’ is.
        ("是……", "是", 2 * 1 / (3 + 1), 0),
        ("‘是’", "是", 2 * 1 / (2 + 1), 0),
        # Only the first line after stripping.
        ("\n France \nand so on", "france", 1, 1),
        ("", "France", 0, 0),
        ("\n", "France", 0, 0),
        # Texts of symbols alone are equal without sharing a segment.
        ("", "-", 0, 1),
    ],
)
def test_contest_metric_by_hand(prediction: str, reference: str, f1: float, em: float) -> None:
    scores = score_contest(prediction, reference)
    assert (scores.f1, scores.em) == pytest.approx((f1, em))


def test_summary_is_in_percent_and_counts_blank_predictions() -> None:
    scores = [Scores(1, 1), Scores(0.5, 0), Scores(0, 0), Scores(0, 0)]
    assert summarize_scores(scores, ["a", "b", " \n", ""]) == Summary(37.5, 25, 4, 2)
    with pytest.raises(DataError, match="2 predictions"):
        summarize_scores(scores, ["a", "b"])


# Loading


def question(**changes: object) -> dict[str, object]:
    return {"id": "q1", "question": "Where?", "answers": [{"text": "here", "answer_start": 0}], **changes}


def written(folder: Path, *questions: dict[str, object], context: object = "It is here.") -> Path:
    path = folder / "squad.json"
    content = {"version": "1.1", "data": [{"title": "Places", "paragraphs": [{"context": context, "qas": questions}]}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_loads_the_answerable_questions(tmp_path: Path) -> None:
    squad = load_squad(written(tmp_path, question(), question(id="q2", is_impossible=True, answers=[])))
    assert squad.items == [ReadingItem("Places", 0, "It is here.", "q1", "Where?", ("here",))]
    assert squad.skipped_unanswerable == 1


def test_unanswerable_questions_are_counted_and_named(tmp_path: Path) -> None:
    """Questions of SQuAD v2 were dropped without a word."""
    unanswerable = [question(id=f"u{number}", is_impossible=True, answers=[]) for number in range(5)]
    path, messages = written(tmp_path, question(), *unanswerable), list[str]()
    assert len(load_reading_items(str(path), inform=messages.append)) == 1
    (message,) = messages
    assert str(path) in message and "skipped 5 " in message and "u0, u1, u2, …" in message
    load_reading_items(str(written(tmp_path, question())), inform=messages.append)
    assert len(messages) == 1


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, question())
    expected = load_squad(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_squad(path) == expected


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """F11: a pipe waited for a writer."""
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json.*not a regular file"):
        load_squad(tmp_path / "pipe.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": []}, "article 'Places', paragraph 1, question 'q2': no answer"),
        ({"answers": [{"answer_start": 3}]}, "question 'q2', answer: 'text' must be a string"),
        ({"answers": ["here"]}, "question 'q2', answer: 'text' must be a string"),
        ({"answers": None}, "question 'q2': 'answers' must be a list"),
        ({"question": " "}, "question 'q2': 'question' is blank"),
        ({"question": "\ud800?"}, "question 'q2': 'question' contains a lone surrogate"),
        ({"id": 7}, "paragraph 1, question 2: 'id' must be a string"),
        ({"id": "q1"}, "paragraph 1, question 'q1': duplicate id"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = written(tmp_path, question(), question(**{"id": "q2", **changes}))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_squad(path)
    assert str(caught.value).startswith(f"{path}: article 'Places'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": "\xff"}', "byte 10 is not UTF-8"),
        (b'{"data": [', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "'data' must be a list"),
        (b'{"data": [3]}', "article 1: 'title' must be a string"),
        (b'{"data": [{"title": "T"}]}', "article 'T': 'paragraphs' must be a list"),
        (b'{"data": [{"title": "T", "paragraphs": [{"qas": []}]}]}', "paragraph 1: 'context' must be a string"),
        (b'{"data": [{"title": "T", "paragraphs": [{"context": "c"}]}]}', "paragraph 1: 'qas' must be a list"),
        (b'{"data": []}', "no answerable question"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "squad.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        load_squad(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        load_squad(tmp_path / "nowhere.json")
