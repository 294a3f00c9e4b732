"""Cases of the grader `function` with `share_of_words` of the test: options, then (score, truth, output)."""

SOURCE = '''
def share_of_words(output, truth):
    """The share of the words of the truth that the output has."""
    words = truth.lower().split()
    return sum(word in output.lower() for word in words) / len(words)


def is_same(output, truth):
    return output == truth
'''

SHARES = [
    (1, "red car", "a red car"),
    (1, "red car", "RED CAR"),
    (1, "red car", "car, red"),
    (1, "red car", "```\nred car\n```"),
    (1, "red car", "**red** car"),
    (1, "red car", "red car\nI hope this helps!"),
    (1, "red", "red or blue"),
    (1, "5 km", "5 km"),
    (1, "5", "$5"),
    (1, "5", "15"),
    (1, "１", "１２"),
    (1, "北京", "在北京"),
    (1, "1/2", "2 1/2"),
    (1, "yes", r"\text{yes}"),
    (1, "a b c", "a b c"),
    (1, "a b c", "cab"),
    (1 / 2, "red car", "red"),
    (1 / 2, "red car", "blue car"),
    (1 / 2, "5 km", "6 km"),
    (1 / 3, "a b c", "a"),
    (2 / 3, "a b c", "a b"),
    (2 / 3, "a b c", "ca"),
    (1 / 4, "w x y z", "x!"),
    (3 / 4, "w x y z", "zyx"),
    (0, "red car", "blue bus"),
    (0, "red car", ""),
    (0, "red car", " \n"),
    (0, "5", "five"),
    (0, "5", "５"),
    (0, "1/2", "0.5"),
    (0, "é", "e"),
    (0, "北京", "上海"),
]

SAME = [
    (1, "x", "x"),
    (1, "x", " x\n"),
    (1, "a b", "a b"),
    (1, "北京", "北京"),
    (1, "$5", "$5"),
    (0, "x", "X"),
    (0, "x", "x."),
    (0, "x", ""),
    (0, "x", "y"),
    (0, "a b", "a  b"),
    (0, "5", "５"),
    (0, "5", "5.0"),
    (0, "x", "```\nx\n```"),
    (0, "x", "**x**"),
    (0, "x", "x\nDone"),
    (0, "x", "x or y"),
    (0, "1/2", "½"),
    (0, "5 km", "5km"),
    (0, "yes", r"\text{yes}"),
]
