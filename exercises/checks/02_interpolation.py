"""Checks of exercise 2. The references are scipy's geometric_slerp, code by code, and explicit loops."""

import math

import numpy as np
from scipy.spatial import geometric_slerp

from checking import Function, Misconception


def codes(rng):
    shape = rng.integers(2, 6), rng.integers(4, 8)
    # Of different lengths, so that a norm in the wrong place shows.
    return {name: rng.uniform(0.5, 2, (shape[0], 1)) * rng.standard_normal(shape) for name in ("start", "end")}


def codes_and_time(rng):
    return codes(rng) | {"t": float(rng.uniform(0.1, 0.9))}


def arrays_and_time(rng):
    case = codes_and_time(rng)
    if rng.integers(2):
        case |= {name: rng.random((len(case["start"]), 1, 3, 3)) for name in ("start", "end")}  # images
    return case


RNG = np.random.default_rng(0)
MANY = RNG.standard_normal((50, 6))  # for some of them, the cosine with themselves is rounded to more than 1
MIXED = RNG.standard_normal((2, 4, 6))
MIXED[1, 0], MIXED[1, 2] = 2.5 * MIXED[0, 0], MIXED[0, 2]


# --- References ------------------------------------------------------------------------------------------------------


def line(start, end, t):
    mixed = [a + t * (b - a) for a, b in zip(start.flat, end.flat, strict=True)]
    return np.array(mixed, dtype=start.dtype).reshape(start.shape)


def angles(start, end):
    """By the half angle, which is exact for small angles too."""
    found = []
    for a, b in zip(start, end, strict=True):
        a, b = a / math.hypot(*a), b / math.hypot(*b)
        found.append(2 * math.atan2(math.hypot(*(a - b)), math.hypot(*(a + b))))
    return np.array(found, dtype=start.dtype)


def arc(start, end, t):
    found = []
    for a, b, angle in zip(start.astype(np.float64), end.astype(np.float64), angles(start, end), strict=True):
        norms = math.hypot(*a), math.hypot(*b)
        if math.sin(angle) < 1e-4:
            found.append(a + t * (b - a))
        else:
            found.append(geometric_slerp(a / norms[0], b / norms[1], t) * (norms[0] + t * (norms[1] - norms[0])))
    return np.array(found, dtype=start.dtype)


# --- Wrong answers ---------------------------------------------------------------------------------------------------


def norm(z):
    return np.linalg.norm(z, axis=-1, keepdims=True)


def cosine(start, end):
    return np.sum(start * end, axis=-1, keepdims=True) / (norm(start) * norm(end))


def angle(start, end):
    return np.arccos(np.clip(cosine(start, end), -1, 1))


def straight(start, end, t):
    return (1 - t) * start + t * end


def way(start, end, t, w=None, length=None, a=None, b=None, sine=np.sin):
    """The right arc unless told otherwise: w the angle (N, 1), length of the result, a and b what is turned."""
    right = angle(start, end)
    w = right if w is None else w
    a, b = start / norm(start) if a is None else a, end / norm(end) if b is None else b
    length = straight(norm(start), norm(end), t) if length is None else length
    turned = length * (np.sin((1 - t) * w) * a + np.sin(t * w) * b) / sine(w)
    return np.where(np.sin(right) < 1e-4, straight(start, end, t), turned)


def without_line(start, end, t):
    a, b, w = start / norm(start), end / norm(end), angle(start, end)
    return straight(norm(start), norm(end), t) * (np.sin((1 - t) * w) * a + np.sin(t * w) * b) / np.sin(w)


def one_decision(start, end, t):
    if np.any(np.sin(angle(start, end)) < 1e-4):
        return straight(start, end, t)
    return way(start, end, t)


def bent_line(start, end, t):
    between = straight(start / norm(start), end / norm(end), t)
    arc = straight(norm(start), norm(end), t) * between / norm(between)
    return np.where(np.sin(angle(start, end)) < 1e-4, straight(start, end, t), arc)


FUNCTIONS = [
    Function(
        "lerp",
        line,
        arrays_and_time,
        [
            Misconception(
                "t the wrong way round",
                lambda start, end, t: t * start + (1 - t) * end,
                "at t = 0 your way is at its end. Where should it be?",
            ),
            Misconception(
                "the whole start kept",
                lambda start, end, t: start + t * end,
                "at t = 1 there is still all of start in it. As one weight grows, what must the other one do?",
            ),
            Misconception(
                "no start",
                lambda start, end, t: t * (end - start),
                "at t = 0 your way is at zero. You have the step, but not the point from which it is taken.",
            ),
            Misconception(
                "a step backwards",
                lambda start, end, t: start + t * (start - end),
                "your way begins at the right place and leads away from end. Which difference points towards it?",
            ),
            Misconception(
                "the middle only",
                lambda start, end, t: (start + end) / 2,
                "t has no effect: this is the middle of the way, always.",
            ),
            Misconception(
                "the mean of the weighted two",
                lambda start, end, t: ((1 - t) * start + t * end) / 2,
                "every value is half of what it should be: the two weights add up to 1 already.",
            ),
            Misconception(
                "weights with sum of squares 1",
                lambda start, end, t: np.sqrt(1 - t) * start + np.sqrt(t) * end,
                "your two weights do not add up to 1: a way from a code to itself would leave it.",
            ),
        ],
        special=[
            ("t = 0", {"start": MIXED[0], "end": MIXED[1], "t": 0.0}),
            ("t = 1", {"start": MIXED[0], "end": MIXED[1], "t": 1.0}),
        ],
    ),
    Function(
        "angle_between",
        angles,
        codes,
        [
            Misconception(
                "the cosine",
                lambda start, end: cosine(start, end)[:, 0],
                "this is the cosine of the angle. One step is left.",
            ),
            Misconception(
                "degrees",
                lambda start, end: np.degrees(angle(start, end))[:, 0],
                "these are degrees. np.sin, which will use the angle, wants radians.",
            ),
            Misconception(
                "codes not normalised",
                lambda start, end: np.arccos(np.sum(start * end, axis=1)),
                "the scalar product is the cosine only for vectors of length 1: for yours it is often beyond 1.",
            ),
            Misconception(
                "clipped in place of normalised",
                lambda start, end: np.arccos(np.clip(np.sum(start * end, axis=1), -1, 1)),
                "the clip hides that your cosines are far too large: make the codes twice as long, and look again.",
            ),
            Misconception(
                "the norm of the whole batch",
                lambda start, end: np.arccos(
                    np.clip(np.sum(start * end, axis=1) / (np.linalg.norm(start) * np.linalg.norm(end)), -1, 1)
                ),
                "without an axis, np.linalg.norm gives one length for the whole batch. Every code has its own.",
            ),
            Misconception(
                "divided by one length only",
                lambda start, end: np.arccos(np.clip(np.sum(start * end, axis=1) / norm(start)[:, 0] ** 2, -1, 1)),
                "you divide by the same length twice. Two codes have two lengths.",
            ),
            Misconception(
                "the angle between lines",
                lambda start, end: np.arccos(np.clip(np.abs(cosine(start, end)), -1, 1))[:, 0],
                "your angle is never above 90 degrees: opposite codes come out as the same. The cosine has a sign.",
            ),
            Misconception(
                "arcsin",
                lambda start, end: np.arcsin(np.clip(cosine(start, end), -1, 1))[:, 0],
                "for codes at a right angle you get zero. Of which function did you take the inverse?",
            ),
            Misconception(
                "a column",
                angle,
                "the angles are right, their shape is (N, 1): one number for each pair makes (N,).",
            ),
            Misconception(
                "no clip",
                lambda start, end: np.arccos(cosine(start, end))[:, 0],
                "for codes that point the same way, rounding may leave the cosine a little above 1, and the inverse of "
                "the cosine gives NaN there. Keep it in its range.",
            ),
        ],
        special=[
            ("codes that point the same way", {"start": MANY, "end": 3 * MANY}),
            ("codes that point opposite ways", {"start": MANY, "end": -MANY}),
        ],
        tolerance=1e-6,  # the arccos near 1 knows half the digits
    ),
    Function(
        "slerp",
        arc,
        codes_and_time,
        [
            Misconception(
                "lerp called slerp",
                straight,
                "this is the straight line. Its norm sinks on the way; the arc's should not.",
            ),
            Misconception(
                "t the wrong way round",
                lambda start, end, t: way(start, end, 1 - t),
                "at t = 0 your arc is at its end. Which of the two sines is zero there?",
            ),
            Misconception(
                "the cosine used as the angle",
                lambda start, end, t: way(start, end, t, w=cosine(start, end)),
                "the sines are taken of the cosine. They want the angle itself.",
            ),
            Misconception(
                "degrees used as the angle",
                lambda start, end, t: way(start, end, t, w=np.degrees(angle(start, end))),
                "np.sin wants radians, and gets degrees here.",
            ),
            Misconception(
                "the angle of unnormalised codes",
                lambda start, end, t: way(
                    start, end, t, w=np.arccos(np.clip(np.sum(start * end, axis=1, keepdims=True), -1, 1))
                ),
                "your angle depends on how long the codes are. Only their directions should matter.",
            ),
            Misconception(
                "the norm of the whole batch",
                lambda start, end, t: way(
                    start,
                    end,
                    t,
                    length=straight(np.linalg.norm(start), np.linalg.norm(end), t),
                    a=start / np.linalg.norm(start),
                    b=end / np.linalg.norm(end),
                ),
                "without an axis, np.linalg.norm gives one length for the whole batch. Every code has its own.",
            ),
            Misconception(
                "not divided by the sine",
                lambda start, end, t: way(start, end, t, sine=np.ones_like),
                "try t = 0: your arc does not begin at start, but at a multiple of it. Which one?",
            ),
            Misconception(
                "unit vectors returned",
                lambda start, end, t: way(start, end, t, length=1.0),
                "the directions are right, and every result has length 1. Give it a length on the way from one to the "
                "other.",
            ),
            Misconception(
                "the start's norm kept",
                lambda start, end, t: way(start, end, t, length=norm(start)),
                "the directions are right, but at t = 1 you should be at end, and end has another norm.",
            ),
            Misconception(
                "lengths and directions mixed",
                lambda start, end, t: way(start, end, t, length=1.0, a=start, b=end),
                "you turn the codes themselves: with different norms, the longer one pulls the direction to its side. "
                "Turn directions of length 1, and treat the norm apart.",
            ),
            Misconception(
                "the line pushed out to the norm",
                bent_line,
                "the norms are right and the way too, but not the speed: a straight line seen from the origin turns "
                "fastest in its middle.",
            ),
            Misconception(
                "no line where there is no arc",
                without_line,
                "for codes that point the same or the opposite way you divide by a sine that is zero, or would be "
                "without rounding. What does the docstring want there?",
            ),
            Misconception(
                "one decision for the whole batch",
                one_decision,
                "as soon as one pair points the same way, you give all the pairs a straight line. Decide for each row.",
            ),
        ],
        special=[
            ("codes that point the same way", {"start": MANY, "end": 3 * MANY, "t": 0.3}),
            ("codes that point opposite ways", {"start": MANY, "end": -MANY, "t": 0.3}),
            ("a batch in which some pairs point the same way", {"start": MIXED[0], "end": MIXED[1], "t": 0.7}),
        ],
    ),
]
