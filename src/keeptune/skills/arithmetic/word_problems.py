r"""Templates of English word problems with worked solutions, for generated corpora.

They replace the competition problems of the original data set and have the same form: LaTeX with one `\boxed` answer,
which is often not the last number. All numbers are random.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

ProblemTemplate = Callable[[random.Random], tuple[str, str]]
"""Generates a problem and its solution."""

NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mira", "Nils")


def generate_word_problem(generator: random.Random) -> tuple[str, str]:
    """Return a problem and its solution from a uniformly sampled template."""
    return generator.choice(TEMPLATES)(generator)


def format_fraction(value: Fraction) -> str:
    r"""Format a number in lowest terms, as an integer or `\frac{n}{d}`."""
    sign = "-" if value < 0 else ""
    if value.denominator == 1:
        return str(value)
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def format_root(radicand: int) -> str:
    r"""Format the square root of a positive integer in simplest form: 75 becomes `5\sqrt{3}`."""
    outside = next(side for side in range(math.isqrt(radicand), 0, -1) if radicand % (side * side) == 0)
    inside = radicand // (outside * outside)
    if inside == 1:
        return str(outside)
    return rf"{outside if outside > 1 else ''}\sqrt{{{inside}}}"


def tickets(generator: random.Random) -> tuple[str, str]:
    adults, children = generator.randint(21, 400), generator.randint(21, 400)
    dear, cheap = generator.randint(11, 30), generator.randint(3, 10)
    problem = (
        f"A puppet theatre sold {adults} adult tickets at $\\${dear}$ each and {children} child tickets at "
        f"$\\${cheap}$ each for one evening. How many dollars did it take in?"
    )
    solution = (
        f"The adults paid ${adults} \\cdot {dear} = {adults * dear}$ dollars and the children paid "
        f"${children} \\cdot {cheap} = {children * cheap}$ dollars. Together that is "
        f"$\\boxed{{{adults * dear + children * cheap}}}$ dollars for the evening."
    )
    return problem, solution


def painters(generator: random.Random) -> tuple[str, str]:
    first, second = generator.sample(NAMES, 2)
    slow, fast = generator.randint(31, 180), generator.randint(5, 120)
    together = format_fraction(Fraction(slow * fast, slow + fast))
    problem = (
        f"{first} needs {slow} minutes to paint a garden gate, and {second} needs {fast} minutes. How many minutes "
        "do they need if they paint it together? Express your answer in lowest terms."
    )
    solution = (
        f"In one minute {first} paints $\\frac{{1}}{{{slow}}}$ of the gate and {second} paints "
        f"$\\frac{{1}}{{{fast}}}$ of it, so together they paint $\\frac{{{slow + fast}}}{{{slow * fast}}}$ of it. "
        f"The whole gate takes the reciprocal of that, $\\boxed{{{together}}}$ minutes, for the 1 gate."
    )
    return problem, solution


def diagonal(generator: random.Random) -> tuple[str, str]:
    name = generator.choice(NAMES)
    length, width = generator.randint(2, 300), generator.randint(2, 300)
    square = length * length + width * width
    problem = (
        f"{name} walks straight across a rectangular field of ${length}$ metres by ${width}$ metres, from one corner "
        "to the opposite one. How many metres is that? Give the exact answer in simplest radical form."
    )
    solution = (
        f"The path is the hypotenuse of a right triangle with legs ${length}$ and ${width}$. By the Pythagorean "
        f"theorem its length is $\\sqrt{{{length}^2 + {width}^2}} = \\sqrt{{{square}}}$, "
        f"which is $\\boxed{{{format_root(square)}}}$."
    )
    return problem, solution


def marbles(generator: random.Random) -> tuple[str, str]:
    name = generator.choice(NAMES)
    red, blue, green = (generator.randint(2, 60) for _ in range(3))
    total = red + blue + green
    chance = format_fraction(Fraction(red * (red - 1), total * (total - 1)))
    problem = (
        f"A bag holds {red} red, {blue} blue and {green} green marbles. {name} draws two at random without "
        "putting the first one back. What is the probability that both are red? Express your answer as a common "
        "fraction."
    )
    solution = (
        f"There are {total} marbles. The first is red with probability $\\frac{{{red}}}{{{total}}}$, and then the "
        f"second is red with probability $\\frac{{{red - 1}}}{{{total - 1}}}$. The product is "
        f"$\\boxed{{{chance}}}$."
    )
    return problem, solution


def rows_of_seats(generator: random.Random) -> tuple[str, str]:
    name = generator.choice(NAMES)
    first, step, rows = generator.randint(5, 60), generator.randint(2, 15), generator.randint(5, 60)
    last = first + (rows - 1) * step
    problem = (
        f"In front of the stage that {name} plans, the first row has {first} seats, and every later row has {step} "
        f"seats more than the row before it. There are {rows} rows. How many seats are there in all?"
    )
    solution = (
        f"The last row has ${first} + {rows - 1} \\cdot {step} = {last}$ seats. The seats form an arithmetic series, "
        f"so there are $\\frac{{{rows} \\cdot ({first} + {last})}}{{2}} = \\boxed{{{rows * (first + last) // 2}}}$ "
        f"seats in the {rows} rows."
    )
    return problem, solution


def ages(generator: random.Random) -> tuple[str, str]:
    elder, younger = generator.sample(NAMES, 2)
    age, gap, years = generator.randint(3, 50), generator.randint(2, 40), generator.randint(2, 30)
    total = 2 * age + gap + 2 * years
    problem = (
        f"{elder} is {gap} years older than {younger}. In {years} years the sum of their ages will be {total}. "
        f"How old is {younger} now?"
    )
    solution = (
        f"Let {younger} be $x$ years old. In {years} years the two ages add up to $(x + {years}) + (x + {gap} + "
        f"{years}) = {total}$, so $2x = {2 * age}$ and $\\boxed{{x = {age}}}$. "
        f"Then {elder} is ${age + gap}$, as it should be."
    )
    return problem, solution


def round_trip(generator: random.Random) -> tuple[str, str]:
    name = generator.choice(NAMES)
    out, back = generator.randint(8, 400), generator.randint(8, 400)
    average = format_fraction(Fraction(2 * out * back, out + back))
    problem = (
        f"{name} drives to the coast at ${out}$ kilometres per hour and returns along the same road at ${back}$ "
        "kilometres per hour. What is the average speed over the whole trip, in kilometres per hour, in lowest terms?"
    )
    solution = (
        f"If the road is $d$ kilometres long, the trip takes $\\frac{{d}}{{{out}}} + \\frac{{d}}{{{back}}} = "
        f"\\frac{{{out + back}d}}{{{out * back}}}$ hours for $2d$ kilometres. The average speed is "
        f"$\\boxed{{{average}\\text{{ km}}/\\text{{h}}}}$; the length $d$ cancels out."
    )
    return problem, solution


def temperature(generator: random.Random) -> tuple[str, str]:
    name = generator.choice(NAMES)
    start_tenths, rate, hours = generator.randint(-200, 250), generator.randint(1, 6), generator.randint(3, 24)
    start, end = f"{start_tenths / 10:.1f}", f"{(start_tenths - 10 * rate * hours) / 10:.1f}"
    problem = (
        f"A laboratory freezer is at ${start}^\\circ$ when {name} switches it on. From then on its temperature falls "
        f"by ${rate}^\\circ$ an hour. How many degrees does it show after {hours} hours?"
    )
    solution = (
        f"It falls by ${rate} \\cdot {hours} = {rate * hours}$ degrees, so it shows "
        f"${start} - {rate * hours} = \\boxed{{{end}^\\circ}}$ after {hours} hours."
    )
    return problem, solution


def herd(generator: random.Random) -> tuple[str, str]:
    name = generator.choice(NAMES)
    sheep, goats, unit = generator.randint(2, 30), generator.randint(2, 30), generator.randint(3, 250)
    total = (sheep + goats) * unit
    problem = (
        f"On {name}'s farm the ratio of sheep to goats is ${sheep} : {goats}$, and there are ${total}$ of these "
        "animals. How many of them are sheep?"
    )
    solution = (
        f"Of every ${sheep} + {goats} = {sheep + goats}$ animals, ${sheep}$ are sheep. So there are "
        f"$\\frac{{{sheep}}}{{{sheep + goats}}} \\cdot {total} = \\boxed{{{sheep * unit}}}$ sheep "
        f"and ${goats * unit}$ goats."
    )
    return problem, solution


def tiles(generator: random.Random) -> tuple[str, str]:
    name, unit = generator.choice(NAMES), generator.randint(2, 40)
    length, width = unit * generator.randint(5, 60), unit * generator.randint(5, 60)
    problem = (
        f"{name} covers a floor of ${length}$ cm by ${width}$ cm with equal square tiles and will cut none of them. "
        "What is the largest possible side of a tile, in centimetres?"
    )
    solution = (
        f"The side must divide both ${length}$ and ${width}$, so the largest one is their greatest common divisor, "
        f"$\\gcd({length}, {width}) = \\boxed{{{math.gcd(length, width)}\\text{{ cm}}}}$."
    )
    return problem, solution


def lighthouses(generator: random.Random) -> tuple[str, str]:
    first, second, third = (generator.randint(6, 90) for _ in range(3))
    again = math.lcm(first, second, third)
    problem = (
        f"Three lighthouses flash every {first}, {second} and {third} seconds. They have just flashed together. "
        "After how many seconds do they next flash together?"
    )
    shown = f"{again:,}".replace(",", "{,}")
    solution = (
        "They flash together whenever the time is a common multiple of the three periods. The least one is "
        f"$\\operatorname{{lcm}}({first}, {second}, {third}) = \\boxed{{{shown}}}$."
    )
    return problem, solution


def garden_bed(generator: random.Random) -> tuple[str, str]:
    name, width, longer = generator.choice(NAMES), generator.randint(3, 300), generator.randint(2, 200)
    area = width * (width + longer)
    problem = (
        f"{name} digs a rectangular bed that is ${longer}$ dm longer than it is wide. Its area is ${area}$ square "
        "dm. How many dm is it wide?"
    )
    solution = (
        f"Let the width be $w$. Then $w(w + {longer}) = {area}$, that is "
        f"$(w - {width})(w + {width + longer}) = 0$. A width is positive, so $w = \\boxed{{{width}}}$ "
        f"and not $-{width + longer}$."
    )
    return problem, solution


def triangle_height(generator: random.Random) -> tuple[str, str]:
    name, side = generator.choice(NAMES), generator.randint(3, 99_999)
    height = rf"{side // 2}\sqrt{{3}}" if side % 2 == 0 else rf"\frac{{{side}\sqrt{{3}}}}{{2}}"
    problem = (
        f"{name} cuts an equilateral triangle with sides of ${side}$ mm out of cardboard. How many millimetres is it "
        "high? Give the exact answer in simplest radical form."
    )
    solution = (
        f"The height halves the base, so it is a leg of a right triangle with hypotenuse ${side}$ and other leg "
        f"$\\frac{{{side}}}{{2}}$. It is $\\frac{{\\sqrt{{3}}}}{{2}}$ times the side, "
        f"$\\boxed{{{height}}}$ millimetres."
    )
    return problem, solution


def savings(generator: random.Random) -> tuple[str, str]:
    name, principal = generator.choice(NAMES), 10 * generator.randint(11, 900)
    rate, years = generator.randint(2, 9), generator.randint(2, 12)
    cents = principal * rate * years
    problem = (
        f"{name} lends $\\${principal}$ at simple interest of ${rate}\\%$ a year. How much interest, in dollars, "
        f"has {name} earned after {years} years?"
    )
    solution = (
        f"One year earns ${rate}\\%$ of $\\${principal}$, so {years} years earn "
        f"$\\frac{{{principal} \\cdot {rate} \\cdot {years}}}{{100}}$ dollars, "
        f"which is $\\boxed{{\\${cents / 100:.2f}}}$ on top of the $\\${principal}$."
    )
    return problem, solution


TEMPLATES: tuple[ProblemTemplate, ...] = (
    tickets,
    painters,
    diagonal,
    marbles,
    rows_of_seats,
    ages,
    round_trip,
    temperature,
    herd,
    tiles,
    lighthouses,
    garden_bed,
    triangle_height,
    savings,
)
