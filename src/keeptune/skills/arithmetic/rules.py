"""Short solutions in Chinese that state a rule and apply it.

A model that cannot learn a long calculation can still learn what determines the sign and which formula gives the
answer. Each function returns lines. Digits occur only in statements, never in sentences, and the statements contain
every number of the problem, so that `rule_check.py` can verify all of them. `result` is the last relation: `= 3.5`, or
`≈ 3.33` for a rounded number.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from keeptune.config.solution_format import Rounding
from keeptune.skills.rounding import format_rounded


def result(value: Fraction, rounding: Rounding) -> str:
    """Return the relation that follows an expression with this value, such as `= 3.5`."""
    text = format_rounded(value, rounding)
    return f"{'=' if Fraction(text) == value else '≈'} {text}"


def addition(left: Decimal, right: Decimal, result: str) -> list[str]:
    """The sign is that of both numbers, or that of the number with the larger absolute value."""
    formula, a, b = f"{left} + {right}", left.copy_abs(), right.copy_abs()
    if not left or not right:
        return ["一个数与零相加，仍得这个数。", f"{formula} {result}"]
    if (left < 0) == (right < 0):
        sum_of_sizes = f" = -({a} + {b})" if left < 0 else ""
        return [f"同号两数相加，和取相同的符号，是{_sign(left)}，再把绝对值相加。", f"{formula}{sum_of_sizes} {result}"]
    if a == b:
        return ["互为相反数的两个数相加，和为零。", f"{formula} {result}"]
    larger, smaller = (left, right) if a > b else (right, left)
    difference = f"{larger.copy_abs()} - {smaller.copy_abs()}"
    return [
        f"异号两数相加，和取绝对值较大的数的符号，是{_sign(larger)}，再用较大的绝对值减去较小的绝对值。",
        f"{formula} = {f'-({difference})' if larger < 0 else difference} {result}",
    ]


def subtraction(left: Decimal, right: Decimal, result: str) -> list[str]:
    """Subtracting a negative number adds its absolute value; the larger number determines the sign."""
    relation = "大于" if left > right else "小于" if left < right else "等于"
    sign = f"被减数{relation}减数，差为{_sign(left - right)}。"
    if right < 0:
        changed = f"{left} + {right.copy_abs()}"
        return [f"减去一个负数，等于加上它的相反数。{sign}", f"{left} - {right} = {changed} {result}"]
    return [sign, f"{left} - {right} {result}"]


def product(left: Decimal, right: Decimal, result: str) -> list[str]:
    """Equal signs give a positive product, different signs a negative one."""
    formula, a, b = f"{left} * {right}", left.copy_abs(), right.copy_abs()
    if not left or not right:
        return ["任何数与零相乘，积为零。", f"{formula} {result}"]
    signs = f"前一个因数是{_sign(left)}，后一个因数是{_sign(right)}，"
    if (left < 0) != (right < 0):
        return [f"{signs}异号两数相乘，积为负数。", f"{formula} = -({a} * {b}) {result}"]
    sizes = f" = {a} * {b}" if left < 0 else ""
    return [f"{signs}同号两数相乘，积为正数。", f"{formula}{sizes} {result}"]


def quotient(left: Decimal, right: Decimal, result: str) -> list[str]:
    """Equal signs give a positive quotient, different signs a negative one."""
    return [f"被除数是{_sign(left)}，除数是{_sign(right)}，{_quotient_sign(left, right)}", f"{left} / {right} {result}"]


def power(base: Decimal, exponent: int, result: str) -> list[str]:
    """The sign of the base and the parity of the exponent determine the sign."""
    formula = f"({base})^{exponent}" if base.is_signed() else f"{base}^{exponent}"
    if exponent == 0:
        rule = "任何非零的数的零次方都等于一。"
    elif not base:
        rule = "零的任何正整数次方都等于零。"
    elif exponent == 1:
        rule = "任何数的一次方都等于它本身。"
    elif base > 0:
        rule = "正数的任何次方都是正数。"
    else:
        rule = "负数的偶数次方是正数。" if exponent % 2 == 0 else "负数的奇数次方是负数。"
    return [rule, f"{formula} {result}"]


def square_root(number: Decimal, result: str) -> list[str]:
    """Definition of the square root."""
    return ["一个非负数的算术平方根，是平方等于这个数的非负数。", f"√{number} {result}"]


def function(x: Decimal, coefficient: int, exponent: int, result: str) -> list[str]:
    """The power is evaluated before the product."""
    return ["把 x 的值代入函数，先算乘方，再乘以系数。", f"y = {coefficient} * {x}^{exponent} {result}"]


def equation(slope: int, intercept: int, result: str) -> list[str]:
    """The constant moves to the other side with its sign changed; then both sides are divided."""
    line = f"{slope}x + {intercept} = 0"
    if intercept == 0:
        return [line, f"常数项为零，系数不为零，所以方程的解为零：x {result}"]
    return [
        line,
        f"移项，常数项变号：{slope}x = {-intercept}",
        f"两边同时除以系数，{_quotient_sign(-intercept, slope)}",
        f"x = {-intercept} / {slope} {result}",
    ]


def mean(values: Sequence[int], result: str) -> list[str]:
    """Sum divided by count."""
    total = sum(values)
    added = [f"求和：{' + '.join(map(str, values))} = {total}"] if len(values) > 1 else []
    return ["平均值等于所有数据的和除以数据的个数。", *added, f"求商：{total} / {len(values)} {result}"]


def area(length: int, width: int, result: str) -> list[str]:
    """The formula in words, then in numbers."""
    return [f"长方形的面积 = 长 * 宽 = {length} * {width} {result} 平方厘米"]


def mass(density: int, volume: int, result: str) -> list[str]:
    """The formula in words, then in numbers."""
    return [f"物体的质量 = 密度 * 体积 = {density} * {volume} {result} 克"]


def discount(before: int, after: int, result: str) -> list[str]:
    """The price reduction in percent."""
    if before == after:
        return ["价格没有变化，折扣比例为零。", f"{before} - {after} {result}"]
    sign = "价格下降，折扣比例为正数。" if before > after else "价格上涨，折扣比例为负数。"
    return [
        f"折扣比例是降低的价格占原价的百分比。{sign}",
        f"(原价 - 打折后的价格) / 原价 * 一百 = ({before} - {after}) / {before} * 100 {result}",
    ]


def sales(before: int, percent: int, result: str) -> list[str]:
    """Last year's sales plus the growth."""
    formula = f"{before} + {before} * {percent} / 100"
    return [f"今年的销售额 = 去年的销售额 + 增加的销售额 = {formula} {result} 万元"]


def fraction(numerator: int, denominator: int, common: int) -> list[str]:
    """Numerator and denominator are divided by their greatest common divisor."""
    if common == 1:
        return ["分子和分母互质，已经是最简分数。", f"{numerator} / {denominator} = {numerator} / {denominator}"]
    top, bottom = numerator // common, denominator // common
    return [
        "分子和分母同时除以它们的最大公约数。",
        f"{numerator} / {common} = {top}，{denominator} / {common} = {bottom}",
        f"{numerator} / {denominator} = {top} / {bottom}",
    ]


def _sign(number: Decimal | int) -> str:
    return "正数" if number > 0 else "负数" if number < 0 else "零"


def _quotient_sign(left: Decimal | int, right: Decimal | int) -> str:
    if not left:
        return "零除以任何非零的数，商为零。"
    same = (left < 0) == (right < 0)
    return "同号两数相除，商为正数。" if same else "异号两数相除，商为负数。"
