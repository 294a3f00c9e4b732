"""Golden hash of grading verdicts over several thousand outputs.

A changed hash means that some verdict changed, and that new scores are not comparable with stored ones.
"""

import hashlib
import itertools
from fractions import Fraction

from keeptune.grading.answers import Truth
from keeptune.grading.number import LOWEST_TERMS, POLICIES, grade

TRUTHS: tuple[Truth, ...] = (
    Fraction(1, 2),
    Fraction(20, 39),
    Fraction(-7),
    Fraction(0),
    Fraction(10**34),
    Fraction(1, 3000),
    Fraction(-123456789, 100),
    Fraction(60),
    "7\\sqrt{5}",
    "(1,2)",
)
FORMATS = (
    "{0}", "{1:.2f}", "{1:.4g}", "{1:.6e}", "{1:.1f}", "x = {1:.3f}", "约等于 {1:.2f} 元", "{1:.2f} cm^2", "{1:,.2f}",
    "{1:.2f}%", "{1:.3f} million", "{1:.3f}×10^0", "￥{1:.2f}", "{1:.2f}万元", "{1:.2f} 万", "{2}/{3}",
    "\\frac{{{2}}}{{{3}}}", "$\\dfrac{{{2}}}{{{3}}}$",
)  # fmt: skip
WRAPPERS = ("{}", "#### {}", "so \\boxed{{{}}} done", "1+2 = 3\nthe answer is {}.", "#### {}\nmore 12", "a: {}")


def outputs() -> list[str]:
    """Return all truths, and numbers close to them, in all formats."""
    texts = [truth for truth in TRUTHS if isinstance(truth, str)]
    numbers = [truth for truth in TRUTHS if isinstance(truth, Fraction)]
    factors = (Fraction(1), Fraction(10001, 10000), Fraction(1009, 1000), Fraction(2, 3))
    for number, factor in itertools.product(numbers, factors):
        value = number * factor
        parts = (value, float(value), 2 * value.numerator, 2 * value.denominator)
        texts += [template.format(*parts) for template in FORMATS]
    return [wrapper.format(text) for text in dict.fromkeys(texts) for wrapper in WRAPPERS]


def verdict_hash() -> str:
    """Return a hash of the answer, its source and its verdicts for all outputs and truths."""
    digest = hashlib.sha256()
    for output, truth in itertools.product(outputs(), TRUTHS):
        graded = grade(output, truth, LOWEST_TERMS if len(output) % 2 else None)
        verdicts = "".join(str(int(graded.verdicts[policy])) for policy in POLICIES)
        digest.update(f"{output}\0{truth}\0{graded.answer}\0{graded.value}\0{graded.source}\0{verdicts}\1".encode())
    return digest.hexdigest()


def test_verdicts_are_unchanged() -> None:
    assert len(outputs()) > 2000
    assert verdict_hash() == "53b18dd4e5a32e9184b56f7ee00133d3e261aaec2bebaf863ded8d38a3d8f569"


if __name__ == "__main__":
    print(len(outputs()), verdict_hash())
