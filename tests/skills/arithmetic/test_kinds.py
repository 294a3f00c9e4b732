"""Every real row is understood and reproduced byte for byte; whatever is spelled otherwise is not understood."""

import decimal
import json
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skills.arithmetic.kind import Kind
from keeptune.skills.arithmetic.kinds import KINDS, find_kind

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[3] / ".." / "shared" / "data"))
CONTEST = SHARED / "contest"
needs_contest = pytest.mark.skipif(not CONTEST.exists(), reason="the contest's public rows are not at hand")

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

ROWS = {
    "add": ("计算 5716.00 + -7500.10 等于多少？", "5716.00 + -7500.10 = -1784.10"),
    "sub": ("计算 6874.58 - -2728.62 等于多少？", "6874.58 - -2728.62 = 9603.20"),
    "mul": ("计算 3963.85 * -5055.68 等于多少？", "3963.85 * -5055.68 = -20039957.1680"),
    "div": ("计算 3008.48 / 3439.46 等于多少？", "3008.48 / 3439.46 = 0.8746954463782105330487925430"),
    "power": ("计算 183.94 的 5 次方？", "183.94^5 = 210562442992.2269624224"),
    "sqrt": ("计算 6145.00 的平方根？", "√6145.00 = 78.39005038906404479030928703"),
    "equation": ("解方程 -39x + 20 = 0", "方程的解为：0.5128205128205128"),
    "mean": ("求以下数据的平均值：[20, 12, 72, 21, 95, 39]", "平均值为 43.166666666666664"),
    "function": ("当 x = 0.39 时，求函数 y = 4x^69 的值", "函数的值为：2.429505441737821253692345254E-28"),
    "area": ("一个长方形的长为 87 厘米，宽为 4 厘米，请计算其面积。", "面积为 348 平方厘米"),
    "mass": ("某物体的密度为 10 克/立方厘米，体积为 3 立方厘米，请计算该物体的质量。", "30 克"),
    "discount": ("商品原价为 16 元，打折后的价格为 90 元，请计算打折的折扣比例。", "-462.5"),
    "sales": ("去年销售额为 12 万元，今年销售额增加了 77%，请计算今年的销售额。", "21.240000000000002"),
    "fraction": ("将分数 4/10 进行简化。", "最简化的形式为：2/5"),
}
"""One documented row of each kind."""

MORE_ROWS = [
    ("计算 4204.22 + -2369.17 等于多少？", "4204.22 + -2369.17 = 1835.05"),
    ("计算 -9991.13 + -796.39 等于多少？", "-9991.13 + -796.39 = -10787.52"),
    ("计算 -3828.45 - 756.08 等于多少？", "-3828.45 - 756.08 = -4584.53"),
    ("计算 9004.56 * 2958.89 等于多少？", "9004.56 * 2958.89 = 26643502.5384"),
    ("计算 5073.46 / -1586.04 等于多少？", "5073.46 / -1586.04 = -3.198822223903558548334216035"),
    ("计算 -791.33 的 0 次方？", "-791.33^0 = 1"),
    ("计算 772.76 的 1 次方？", "772.76^1 = 772.76"),
    ("计算 -833.12 的 2 次方？", "-833.12^2 = 694088.9344"),
    ("计算 5636.97 的平方根？", "√5636.97 = 75.07975759151064280958687335"),
    ("解方程 6x + 0 = 0", "方程的解为：0.0"),
    ("解方程 -6x + 0 = 0", "方程的解为：-0.0"),
    ("解方程 -1x + -17 = 0", "方程的解为：-17.0"),
    ("求以下数据的平均值：[74, 13, 94, 35, 97, 56, 37]", "平均值为 58.0"),
    ("当 x = 7.59 时，求函数 y = 68x^95 的值", "函数的值为：2.854155448324274205322988364E+85"),
    ("当 x = 1.36 时，求函数 y = 52x^40 的值", "函数的值为：11417201.82969908676020697334"),
    ("商品原价为 60 元，打折后的价格为 24 元，请计算打折的折扣比例。", "60.0"),
    ("商品原价为 29 元，打折后的价格为 27 元，请计算打折的折扣比例。", "6.896551724137931"),
    ("去年销售额为 50 万元，今年销售额增加了 99%，请计算今年的销售额。", "99.5"),
    ("将分数 5/6 进行简化。", "最简化的形式为：5/6"),
]


def row_of(kind: Kind[Any], seed: int) -> tuple[Any, str, str]:
    problem = kind.sample(random.Random(seed))
    return problem, kind.render_problem(problem), kind.render_raw(problem)


@pytest.mark.parametrize(("text", "solution"), [*ROWS.values(), *MORE_ROWS])
def test_documented_row_is_reproduced(text: str, solution: str) -> None:
    found = find_kind(text)
    assert found is not None
    kind, problem = found
    assert kind.render_problem(problem) == text
    assert kind.render_raw(problem) == solution


def test_each_kind_finds_its_own_row() -> None:
    assert list(ROWS) == [kind.name for kind in KINDS]
    for name, (text, _) in ROWS.items():
        found = find_kind(text)
        assert found is not None
        assert found[0].name == name


@needs_contest
def test_real_rows_are_reproduced_byte_for_byte() -> None:
    rows = [json.loads(line) for line in (CONTEST / "raw_sample.jsonl").read_text(encoding="utf-8").splitlines()]
    unknown = []
    for row in rows:
        found = find_kind(row["problem"])
        if found is None:
            unknown.append(row["problem"])
            continue
        kind, problem = found
        assert kind.render_problem(problem) == row["problem"]
        assert kind.render_raw(problem) == row["solution"]
        assert kind.extract_answer(row["solution"]) is not None
    assert len(rows) == 294
    assert len(unknown) == 6
    assert all(problem.isascii() for problem in unknown)


@needs_contest
def test_all_wrapped_real_problems_are_understood() -> None:
    conversations = json.loads((CONTEST / "conversations.json").read_text(encoding="utf-8"))
    prompts = [row["conversations"][0]["value"] for row in conversations]
    problems = [prompt.split("### Instruction:\n")[1].split("\n\n### Response:")[0] for prompt in prompts]
    assert len(problems) == 7500
    for problem in problems:
        found = find_kind(problem)
        assert found is not None, problem
        assert found[0].render_problem(found[1]) == problem


@given(st.sampled_from(KINDS), st.integers())
def test_generated_problems_parse_as_their_kind_only(kind: Kind[Any], seed: int) -> None:
    problem, text, solution = row_of(kind, seed)
    assert find_kind(text) == (kind, problem)
    assert [other.name for other in KINDS if other.parse(text) is not None] == [kind.name]
    assert kind.extract_answer(solution) is not None


@given(st.sampled_from(KINDS), st.integers())
def test_stated_answer_is_the_value_up_to_float_noise(kind: Kind[Any], seed: int) -> None:
    problem, _, solution = row_of(kind, seed)
    stated = kind.extract_answer(solution)
    assert stated is not None
    value = kind.value(problem)
    assert abs(Fraction(stated) - value) <= abs(value) * Fraction(1, 10**14)


@given(st.sampled_from(KINDS), st.integers(), st.data())
def test_one_changed_character_is_rejected_or_another_problem(kind: Kind[Any], seed: int, data: st.DataObject) -> None:
    _, text, _ = row_of(kind, seed)
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from(["", " ", "0", "7", "７", "٣", "-", "+", ".", "。", "?", "？", "x", "\n"]))
    changed = text[:position] + character + text[position + 1 :]
    found = find_kind(changed)
    assert found is None or found[0].render_problem(found[1]) == changed


@each_kind
@pytest.mark.parametrize(("before", "after"), [(" ", ""), ("", " "), ("", "\n"), ("\ufeff", ""), ("问：", "")])
def test_anything_around_a_problem_is_rejected(kind: Kind[Any], before: str, after: str) -> None:
    assert find_kind(before + ROWS[kind.name][0] + after) is None


@each_kind
@pytest.mark.parametrize(("full_width", "half_width"), ["？?", "，,", "：:", "。."])
def test_half_width_punctuation_is_rejected(kind: Kind[Any], full_width: str, half_width: str) -> None:
    text = ROWS[kind.name][0]
    if full_width in text:
        assert find_kind(text.replace(full_width, half_width)) is None


@each_kind
def test_other_digits_are_rejected(kind: Kind[Any]) -> None:
    text = ROWS[kind.name][0]
    for zero in "０٠०":
        others = {ord("0") + digit: ord(zero) + digit for digit in range(10)}
        assert find_kind(text.translate(others)) is None


@each_kind
def test_doubled_space_is_rejected(kind: Kind[Any]) -> None:
    assert find_kind(ROWS[kind.name][0].replace(" ", "  ")) is None


@each_kind
def test_a_solution_of_another_shape_states_nothing(kind: Kind[Any]) -> None:
    solution = ROWS[kind.name][1]
    for other in (f" {solution}", f"{solution} ", f"{solution}\n", f"{solution}。", f"答：{solution}", "", "nan"):
        assert kind.extract_answer(other) is None


@pytest.mark.parametrize("text", ["", "计", "计算", "What is 1 + 1?", "计算 1.00 ^ 2.00 等于多少？"])
def test_other_texts_are_of_no_kind(text: str) -> None:
    assert find_kind(text) is None


def test_the_global_decimal_context_is_neither_used_nor_changed() -> None:
    with decimal.localcontext() as context:
        context.prec = 5
        context.rounding = decimal.ROUND_UP
        context.capitals = 0
        context.clear_flags()
        for text, solution in ROWS.values():
            found = find_kind(text)
            assert found is not None
            assert found[0].render_raw(found[1]) == solution
        assert not any(context.flags.values())
