"""Checks of exercise 2. The references are scipy's geometric_slerp, code by code, and explicit loops."""

import math

import numpy as np
from scipy.spatial import geometric_slerp

from checking import Function, Special
from mistakes import advised

LOST_AXIS = "is an axis lost where it has length 1?"


# --- Inputs ----------------------------------------------------------------------------------------------------------


def codes(rng):
    n, z = rng.choice(np.arange(3, 9), 2, replace=False)
    # Of different lengths, so that a norm in the wrong place shows.
    return {name: rng.uniform(0.3, 2, (n, 1)) * rng.standard_normal((n, z)) for name in ("start", "end")}


def codes_and_time(rng):
    return codes(rng) | {"t": float(rng.uniform(0.1, 0.9))}


def arrays_and_time(rng):
    shape = [(6,), (4, 5), (1, 7), (3, 1, 2, 4)][rng.integers(4)]
    start, end = 2 * rng.standard_normal((2, *shape)) + 0.5
    return {"start": start, "end": end, "t": float(rng.uniform(0.1, 0.9))}


RNG = np.random.default_rng(0)
MANY = RNG.standard_normal((50, 6))  # for some of them, the cosine with themselves is rounded to more than 1
IMAGES = RNG.random((2, 3, 1, 4, 4))


def at_angles(*angles):
    """Pairs of codes with these angles between them."""
    start, end = RNG.standard_normal((2, len(angles), 5))
    a, angle = start / norm(start), np.array(angles)[:, None]
    across = end - (end * a).sum(1, keepdims=True) * a
    return {"start": start, "end": norm(end) * (np.cos(angle) * a + np.sin(angle) * across / norm(across))}


def with_another(start, end):
    """The same pairs and one more, at some ordinary angle."""
    return {"start": np.vstack([start, start[:1]]), "end": np.vstack([end, end[1:2] - end[0]])}


# --- References ------------------------------------------------------------------------------------------------------


def line(start, end, t):
    return np.array([a + t * (b - a) for a, b in zip(start.flat, end.flat, strict=True)]).reshape(start.shape)


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
            direction = geometric_slerp(a / norms[0], b / norms[1], t, tol=1e-9)
            found.append(direction * (norms[0] + t * (norms[1] - norms[0])))
    return np.array(found, dtype=start.dtype)


# --- What may be done instead ----------------------------------------------------------------------------------------


def size(z, axis=None):
    return np.sqrt((z * z).sum(axis))


def norm(z):
    return np.sqrt((z * z).sum(-1, keepdims=True))


def straight(start, end, t):
    return (1 - t) * start + t * end


STEPS = 4, 5, 8, 9, 10, 20, 100


def lerp_model(choose, start, end, t):
    t = choose(
        t,
        *advised(
            "your way begins and ends at the right places, but does not go at a constant pace in between.",
            ("t squared", t**2),
            ("t cubed", t**3),
            ("the root of t", np.sqrt(t)),
            ("a smooth step", t * t * (3 - 2 * t)),
            ("a smoother step", t**3 * (t * (6 * t - 15) + 10)),
            ("half a cosine", (1 - np.cos(np.pi * t)) / 2),
            ("a quarter of a sine", np.sin(np.pi / 2 * t)),
        ),
        *advised(
            "t goes in steps in yours. It may be any number from 0 to 1.",
            *((f"t rounded to 1/{k}", np.round(k * t) / k) for k in STEPS),
            *((f"t cut to 1/{k}", np.floor(k * t) / k) for k in STEPS),
        ),
        *advised(
            "t may be any number from 0 to 1: is it cut off?",
            *((f"t kept from {e:g} to {1 - e:g}", np.clip(t, e, 1 - e)) for e in (0.2, 0.25)),
        ),
        ("always the middle", 0.5, "t has no effect: this is the middle of the way, always."),
    )
    a, b = choose(
        (start, end),
        ("t the wrong way round", (end, start), "at t = 0 your way is at its end. Where should it be?"),
        *advised(
            "one of the two has no part in your way.",
            ("start for both", (start, start)),
            ("end for both", (end, end)),
        ),
    )
    ratio = np.arange(a.size).reshape(a.shape) / a.size
    of_a, of_b, cosine = norm(a), norm(b), (a * b).sum(-1, keepdims=True)
    angle = np.arccos(np.clip(cosine / (of_a * of_b), -1, 1))
    both, powers = straight(a, b, t), np.abs(a) ** (1 - t) * np.abs(b) ** t
    whole = [size(each) for each in (a, b, both)]
    return choose(
        both,
        ("the whole start kept", a + t * b,
         "at t = 1 there is still all of start in it. As one weight grows, what must the other one do?"),
        ("the whole end", (1 - t) * a + b,
         "at t = 0 there is already all of end in it. As one weight grows, what must the other one do?"),
        ("no start", t * (b - a),
         "at t = 0 your way is at zero. You have the step, but not the point from which it is taken."),
        ("a step backwards", a + t * (a - b),
         "your way begins at the right place and leads away from end. Which difference points towards it?"),
        ("a step beyond the end", b + t * (b - a),
         "your way begins at end and leads beyond it. Where should it be at t = 0?"),
        ("the end subtracted", (1 - t) * a - t * b, "at t = 1 your way is at the opposite of end."),
        ("the start subtracted", t * b - (1 - t) * a, "at t = 0 your way is at the opposite of start."),
        *advised(
            "your two weights do not add up to 1: a way from a code to itself would leave it.",
            ("the same weight for both", t * (a + b)),
            ("1 - t for both", (1 - t) * (a + b)),
            ("both kept whole", a + b),
            ("1 + t for start", (1 + t) * a + t * b),
            ("divided by the root of the weights' squares", both / np.hypot(1 - t, t)),
            ("weights with sum of squares 1", np.sqrt(1 - t) * a + np.sqrt(t) * b),
            ("cosine and sine as weights", np.cos(np.pi / 2 * t) * a + np.sin(np.pi / 2 * t) * b),
            ("both weights squared", (1 - t) ** 2 * a + t**2 * b),
            ("t squared for end only", (1 - t) * a + t**2 * b),
            ("1 - t squared for start", (1 - t**2) * a + t * b),
        ),
        *advised(
            "this is a mean of another kind. The formula is a sum of two products.",
            ("a product of powers", a ** (1 - t) * b**t),
            ("a product of powers of the sizes", powers),
            ("a product of powers with start's sign", np.sign(a) * powers),
            ("a product of powers with the line's sign", np.sign(both) * powers),
            ("a mean of the inverses", 1 / ((1 - t) / a + t / b)),
            ("a mean of the squares", np.sqrt((1 - t) * a**2 + t * b**2)),
            ("the product of both", (1 - t) * a * t * b),
        ),
        *advised(
            "the length of the result is changed. It is no part of a straight line.",
            ("made 1 long", both / norm(both)),
            ("made as long as a line between the lengths", both / norm(both) * straight(of_a, of_b, t)),
            ("made as long as start", both / norm(both) * of_a),
            ("made 1 long as a whole", both / whole[2]),
            ("made as long as a line between the whole lengths", both / whole[2] * straight(*whole[:2], t)),
            ("made as long as start as a whole", both / whole[2] * whole[0]),
            ("the directions mixed", straight(a / of_a, b / of_b, t)),
            ("an arc", (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)),
        ),
        *advised(
            "every value is taken from one of the two. They should be mixed.",
            ("a jump in the middle", a if t < 0.5 else b),
            ("one part from start, the rest from end", np.where(ratio < 1 - t, a, b)),
            ("one part from end, the rest from start", np.where(ratio < t, b, a)),
            ("the larger one", np.maximum(a, b)),
            ("the larger product", np.maximum((1 - t) * a, t * b)),
            ("the smaller one", np.minimum(a, b)),
        ),
        *advised(
            "the values have no limits: is something cut off, or rounded?",
            ("cut off at 0 and 1", np.clip(both, 0, 1)),
            ("cut off at -1 and 1", np.clip(both, -1, 1)),
            ("cut off at -3 and 3", np.clip(both, -3, 3)),
            ("rounded to tenths", np.round(both, 1)),
            ("cut to whole numbers", np.trunc(both)),
            ("both cut to whole numbers", straight(np.trunc(a), np.trunc(b), t)),
        ),
    )  # fmt: skip


def lerp_terms(start, end, t):
    parts = {"start": start, "end": end, "start end": start * end, "|start|": np.abs(start), "|end|": np.abs(end)}
    powers = {"": 1, "t ": t, "t^2 ": t**2, "t^3 ": t**3}
    terms = {power + name: factor * part for power, factor in powers.items() for name, part in parts.items()}
    return terms | {"1": 1.0, "t": t, "t^2": t**2}


def angle_model(choose, start, end):
    of_start, of_end = norm(start), norm(end)
    whole = size(start), size(end)
    mean = start.mean(1, keepdims=True), end.mean(1, keepdims=True)

    def per_code(length):
        return start / length(start), end / length(end)

    a, b = choose(
        (start / of_start, end / of_end),
        ("codes not normalised", (start, end),
         "the scalar product is the cosine only for vectors of length 1: for yours it is often beyond 1."),
        ("the norm of the whole batch", (start / whole[0], end / whole[1]),
         "without an axis, np.linalg.norm gives one length for the whole batch. Every code has its own."),
        ("the columns' norms", per_code(lambda z: size(z, 0)),
         "you normalise over the codes of the batch. Which axis holds the latents?"),
        *advised(
            "two codes have two lengths, and the scalar product grows with both.",
            ("start's length only", (start / of_start, end)),
            ("end's length only", (start, end / of_end)),
            ("start's length twice", (start / of_start, end / of_start)),
            ("end's length twice", (start / of_end, end / of_end)),
            ("multiplied by end's length", (start / of_start, end * of_end)),
            ("no length below 1", (start / np.maximum(of_start, 1), end / np.maximum(of_end, 1))),
            ("1 added to the lengths", (start / (of_start + 1), end / (of_end + 1))),
        ),
        *advised(
            "what you divide by is not the length of a code: its square, its root, or another norm?",
            ("the squares of the lengths", (start / of_start**2, end / of_end**2)),
            ("the roots of the lengths", (start / np.sqrt(of_start), end / np.sqrt(of_end))),
            ("the sums of the sizes", per_code(lambda z: np.abs(z).sum(1, keepdims=True))),
            ("the largest sizes", per_code(lambda z: np.abs(z).max(1, keepdims=True))),
            ("the standard deviations", per_code(lambda z: z.std(1, keepdims=True))),
        ),
        *advised(
            "you take off a mean first. An angle is one at the origin.",
            ("each code's mean taken off", [each / norm(each) for each in (start - mean[0], end - mean[1])]),
            ("the batch's mean taken off", [each / norm(each) for each in (start - start.mean(0), end - end.mean(0))]),
        ),
    )  # fmt: skip
    product, raw, lengths = a * b, (start * end).sum(1), (of_start * of_end)[:, 0]
    cosine = choose(
        product.sum(1),
        ("a mean over the latents", product.mean(1), "you average over the latents. A scalar product is a sum."),
        ("over the codes", product.sum(0), "you sum over the codes. Which axis holds the latents?"),
        ("over everything", product.sum(), "one number comes out for the whole batch. Keep the pairs apart."),
        ("every pair", a @ b.T, "you pair every start with every end. Only those in the same row belong together."),
        *advised(
            "not every latent counts in your sum.",
            ("without the last latent", product[:, :-1].sum(1)),
            ("without the first latent", product[:, 1:].sum(1)),
            ("the first two latents", product[:, :2].sum(1)),
            ("the first three latents", product[:, :3].sum(1)),
        ),
        *advised(
            "no angle is above 90 degrees in yours. The cosine has a sign.",
            ("folded back at 90 degrees", np.abs(product.sum(1))),
            ("cut off at 90 degrees", np.maximum(product.sum(1), 0)),
            ("the sizes of the products", np.abs(product).sum(1)),
            ("the cosine squared", product.sum(1) ** 2),
        ),
        *advised(
            "the scalar product grows with both lengths as a product of the two.",
            ("divided by the sum of the lengths", raw / (of_start + of_end)[:, 0]),
            ("right for codes of one length only", 2 * raw / (of_start**2 + of_end**2)[:, 0]),
            ("divided by the larger square", raw / np.maximum(of_start, of_end)[:, 0] ** 2),
            ("divided by 1 at least", raw / np.maximum(lengths, 1)),
        ),
        *advised(
            "the scalar product is kept in the range of a cosine before it is one.",
            ("cut off before the division", np.clip(raw, -1, 1) / lengths),
            ("cut off before the division by 1 at least", np.clip(raw, -1, 1) / np.maximum(lengths, 1)),
        ),
        *advised(
            "there is a factor too much or too little before the cosine.",
            ("twice the cosine", 2 * product.sum(1)),
            ("half the cosine", product.sum(1) / 2),
            ("(1 + cosine) / 2", (1 + product.sum(1)) / 2),
        ),
    )  # fmt: skip
    inside = choose(
        np.clip(cosine, -1, 1),
        ("no clip", cosine,
         "rounding may leave a cosine a little above 1, and the inverse of the cosine gives NaN there. Keep it in "
         "its range."),
        *advised(
            "the cosine is kept away from 1, which it may well be. What is the angle there?",
            *((f"cut off {e:g} before 1", np.clip(cosine, -1 + e, 1 - e)) for e in (0.01, 1e-3, 1e-6)),
        ),
        *advised(
            "the cosine is rounded before the angle is taken.",
            *((f"rounded to {n} digits", np.clip(np.round(cosine, n), -1, 1)) for n in (1, 2, 3, 4)),
        ),
        *advised(
            "a cosine may be rounded beyond its range on both sides.",
            ("cut off above 1 only", np.minimum(cosine, 1)),
            ("cut off below -1 only", np.maximum(cosine, -1)),
        ),
    )  # fmt: skip
    angle, chord = np.arccos(inside), norm(a - b)[:, 0]
    polar = np.subtract(*(np.arctan2(each[:, :2][:, -1], each[:, 0]) for each in (end, start)))
    found = choose(
        angle,
        ("the cosine", inside, "this is the cosine of the angle. One step is left."),
        ("degrees", np.degrees(angle), "these are degrees. np.sin, which will use the angle, wants radians."),
        ("radians taken for degrees", np.radians(angle), "the inverse of the cosine gives radians already."),
        *advised(
            "this is the inverse of another function, or none. The equation holds a cosine: how is it undone?",
            ("arcsin", np.arcsin(inside)),
            ("the size of arcsin", np.abs(np.arcsin(inside))),
            ("arctan", np.arctan(inside)),
            ("the cosine of the cosine", np.cos(inside)),
            ("the sine", np.sin(angle)),
            ("1 less the cosine", 1 - inside),
        ),
        ("arctan of sine over cosine", np.arctan(np.tan(angle)),
         "it is right up to 90 degrees only: what happens to a negative cosine?"),
        *advised(
            "this is the rest of the angle to a half or a full turn.",
            ("pi less the angle, or the other sign of the cosine", np.pi - angle),
            ("2 pi less the angle", 2 * np.pi - angle),
        ),
        *advised(
            "the angle is in another unit than radians.",
            ("in turns", angle / (2 * np.pi)),
            ("in half turns", angle / np.pi),
            ("in right angles", angle * 2 / np.pi),
        ),
        *advised(
            "this is a distance, or built on one that depends on the lengths.",
            ("the chord", chord),
            ("the distance of the codes", norm(start - end)[:, 0]),
            ("the half angle's sine of codes", 2 * np.arcsin(norm(start - end) / (of_start + of_end))[:, 0]),
        ),
        *advised(
            "your angle is built from a distance, and a factor is missing.",
            ("arcsin of the chord", np.arcsin(chord)),
            ("half of the half angle's tangent", np.arctan2(chord, norm(a + b)[:, 0]) / 2),
            ("twice the arctan of half the chord", 2 * np.arctan(chord / 2)),
        ),
        *advised(
            "this is an angle in the plane of the first two latents. There may be more.",
            ("the plane of two latents", polar),
            ("the size in the plane of two latents", np.abs(polar)),
            ("from 0 to 2 pi in the plane of two latents", polar % (2 * np.pi)),
        ),
    )  # fmt: skip
    return choose(
        found,
        ("a column", np.reshape(found, (-1, 1)),
         "the angles are right, their shape is (N, 1): one number for each pair makes (N,)."),
        *advised(
            "one number comes out for the whole batch. Keep the pairs apart.",
            ("the mean angle", np.mean(found)),
            ("the sum of the angles", np.sum(found)),
            ("the largest angle", np.max(found)),
            ("the angle of the whole batch", np.arccos(raw.sum() / (whole[0] * whole[1]))),
        ),
        ("of the columns", np.arccos((start * end).sum(0) / (size(start, 0) * size(end, 0))),
         "there is one angle per latent. There should be one per pair of codes: which axis holds the latents?"),
        ("once for each latent", np.tile(np.reshape(found, (-1, 1)), start.shape[1]),
         "the angle comes once for each latent. One number for each pair makes (N,)."),
    )  # fmt: skip


def angle_terms(start, end):
    angle = angles(start, end)
    cosine = np.cos(angle)
    return {"angle": angle, "cos": cosine, "sin": np.sin(angle), "|cos|": np.abs(cosine), "angle^2": angle**2, "1": 1.0}


def slerp_model(choose, start, end, t):
    of_start, of_end = norm(start), norm(end)
    whole = size(start), size(end)
    a, b = choose(
        (start / of_start, end / of_end),
        ("the norm of the whole batch", (start / whole[0], end / whole[1]),
         "without an axis, np.linalg.norm gives one length for the whole batch. Every code has its own."),
        ("the columns' norms", (start / size(start, 0), end / size(end, 0)),
         "you normalise over the codes of the batch. Which axis holds the latents?"),
        *advised(
            "what you turn should be directions of length 1, both of them.",
            ("codes not normalised", (start, end)),
            ("start not normalised", (start, end / of_end)),
            ("end not normalised", (start / of_start, end)),
            ("the squares of the lengths", (start / of_start**2, end / of_end**2)),
        ),
    )  # fmt: skip
    scalar = (start * end).sum(1, keepdims=True)
    cosine = np.clip(scalar / (of_start * of_end), -1, 1)
    right = np.arccos(cosine)
    degrees = np.degrees(right)
    angle = choose(
        right,
        ("the cosine used as the angle", cosine, "the sines are taken of the cosine. They want the angle itself."),
        *advised(
            "np.sin wants radians, and gets degrees here.",
            ("degrees used as the angle", degrees),
            ("degrees used as the angle, and to look for an arc", degrees.copy()),
        ),
        ("the angle of unnormalised codes", np.arccos(np.clip(scalar, -1, 1)),
         "your angle depends on how long the codes are. Only their directions should matter."),
        *advised(
            "the angle is one for the whole batch. Every pair has its own.",
            ("the mean angle", np.full_like(right, right.mean())),
            ("the first pair's angle", np.full_like(right, right[0, 0])),
            ("the angle of the whole batch", np.full_like(right, np.arccos(scalar.sum() / (whole[0] * whole[1])))),
            ("the angle of the mean cosine", np.full_like(right, np.arccos(cosine.mean()))),
            ("always a right angle", np.full_like(right, np.pi / 2)),
        ),
        ("the angle between lines", np.arccos(np.abs(cosine)),
         "your angle is never above 90 degrees. The cosine has a sign."),
        *advised(
            "this is another angle than that between the two.",
            ("arcsin", np.arcsin(cosine)),
            ("the rest to half a turn", np.pi - right),
            ("half the angle", right / 2),
            ("twice the angle", 2 * right),
            ("the chord", norm(start / of_start - end / of_end)),
        ),
    )  # fmt: skip
    sine = np.sin(angle)
    left, gone = (np.sin(share * angle) / sine for share in (1 - t, t))
    wrong = {
        "a straight line's weight": lambda share: share + 0 * sine,
        "a weight divided by the angle": lambda share: np.sin(share * angle) / angle,
        "the sine of the share alone": lambda share: np.sin(share) / sine,
        "the sine of the share times the angle": lambda share: np.sin(share) * angle / sine,
        "the weight of a quarter turn": lambda share: np.sin(np.pi / 2 * share) + 0 * sine,
        "a cosine for the sine": lambda share: np.cos(share * angle) / sine,
    }  # fmt: skip
    at_ends = "look at your two weights at t = 0 and at t = 1. What should they be there, and in the middle?"
    weights = choose(
        (left, gone),
        ("t the wrong way round", (gone, left),
         "at t = 0 your arc is at its end. Which of the two sines is zero there?"),
        ("not divided by the sine", (left * sine, gone * sine),
         "try t = 0: your arc does not begin at start, but at a multiple of it. Which one?"),
        *advised(
            at_ends,
            *((f"{words} for both", (weight(1 - t), weight(t))) for words, weight in wrong.items()),
            ("cosine and sine as weights", (np.cos(t * angle), np.sin(t * angle))),
            ("start's weight for both", (left, left)),
            ("end's weight for both", (gone, gone)),
            ("weights made to add up to 1", (left / (left + gone), gone / (left + gone))),
            ("end subtracted", (left, -gone)),
        ),
    )  # fmt: skip
    weights = choose(
        weights,
        *advised(
            at_ends,
            *((f"{words} for start", (weight(1 - t), weights[1])) for words, weight in wrong.items()),
            ("the angle less t in start's weight", (np.sin(angle - t) / sine, weights[1])),
            ("1 less a part of the angle in start's weight", (np.sin(1 - t * angle) / sine, weights[1])),
            ("1 less end's weight for start", (1 - weights[1], weights[1])),
            ("1 less end's sine for start", ((1 - gone * sine) / sine, weights[1])),
            ("start's weight not divided by the sine", (weights[0] * sine, weights[1])),
            ("end's weight only", (0 * left, weights[1])),
        ),
    )
    weights = choose(
        weights,
        *advised(
            at_ends,
            *((f"{words} for end", (weights[0], weight(t))) for words, weight in wrong.items()),
            ("end's weight not divided by the sine", (weights[0], weights[1] * sine)),
            ("start's weight only", (weights[0], 0 * gone)),
        ),
    )
    length = choose(
        straight(of_start, of_end, t),
        ("unit vectors returned", 1.0,
         "the directions are right, and every result has length 1. Give it a length on the way from one to the other."),
        ("the start's norm kept", of_start,
         "the directions are right, but at t = 1 you should be at end, and end has another norm."),
        ("the end's norm from the start", of_end,
         "the directions are right, but at t = 0 you should be at start, and start has another norm."),
        ("the norms the wrong way round", straight(of_end, of_start, t),
         "the directions are right, but the norm goes from end's to start's."),
        *advised(
            "the directions are right, but the norm does not go in a straight line from one to the other.",
            ("the mean of the norms", (of_start + of_end) / 2),
            ("a product of powers of the norms", of_start ** (1 - t) * of_end**t),
            ("the root of a line between the squares", np.sqrt(straight(of_start**2, of_end**2, t))),
            ("the sum of the norms", of_start + of_end),
            ("the product of the norms", of_start * of_end),
            ("start's norm kept whole", of_start + t * of_end),
            ("a step of the norm without its start", t * (of_end - of_start)),
            ("the norm of the line", norm(straight(start, end, t))),
            ("the root of the number of latents", np.sqrt(start.shape[1])),
        ),
        *advised(
            "the norm is one for the whole batch. Every code has its own.",
            ("a line between the batch's norms", straight(*whole, t)),
            ("a line between the mean norms", straight(of_start.mean(), of_end.mean(), t)),
        ),
    )  # fmt: skip
    line = choose(
        straight(start, end, t),
        *advised(
            "where there is no arc you give something else than the straight line between the two codes.",
            ("start where there is no arc", start),
            ("end where there is no arc", end),
            ("zero where there is no arc", 0 * start),
            ("the line the wrong way round where there is no arc", straight(end, start, t)),
            ("a line between the directions where there is no arc", straight(a, b, t)),
            ("a line between the directions, made longer, where there is no arc", length * straight(a, b, t)),
            ("an arc not divided where there is none", length * sine * (left * a + gone * b)),
        ),
    )
    is_flat = choose(
        lambda w: np.sin(w) < 1e-4,
        ("no line where there is no arc", lambda w: np.zeros_like(w, bool),
         "for codes that point the same or the opposite way you divide by a sine that is zero, or would be without "
         "rounding. What does the docstring want there?"),
        *advised(
            "one decision is made for the whole batch. Decide for each row.",
            ("a line for all as soon as one has no arc", lambda w: np.full(w.shape, (np.sin(w) < 1e-4).any())),
            ("a line only if none has an arc", lambda w: np.full(w.shape, (np.sin(w) < 1e-4).all())),
        ),
        *advised(
            "there are two cases without an arc, codes that point the same way and codes that point opposite ways.",
            ("no line for opposite codes", lambda w: (np.sin(w) < 1e-4) & (cosine > 0)),
            ("no line for codes that point the same way", lambda w: (np.sin(w) < 1e-4) & (cosine < 0)),
            ("no line for opposite codes, and a larger limit", lambda w: cosine > 0.9995),
        ),
        *advised(
            "the line begins at another limit than the docstring's.",
            ("a much larger limit", lambda w: np.sin(w) < 0.05),
            ("a larger limit", lambda w: np.sin(w) < 1e-3),
            ("a smaller limit", lambda w: np.sin(w) < 1e-6),
            ("a much smaller limit", lambda w: np.sin(w) < 1e-8),
        ),
        ("the line where there is an arc", lambda w: np.sin(w) >= 1e-4,
         "line and arc are exchanged: which one belongs to the small sine?"),
    )  # fmt: skip
    turned = weights[0] * a + weights[1] * b
    nearer = np.arccos(np.abs(cosine))
    short = (np.sin((1 - t) * nearer) * a + np.sign(cosine) * np.sin(t * nearer) * b) / np.sin(nearer)
    across = b - np.cos(angle) * a
    pulled = weights[0] * start + weights[1] * end
    mixed, itself = straight(a, b, t), straight(start, end, t)
    arc, where = choose(
        (length * turned, angle),
        ("lerp called slerp", (itself, right),
         "this is the straight line. Its norm sinks on the way; the arc's should not."),
        ("lengths and directions mixed", (pulled, angle),
         "you turn the codes themselves: with different norms, the longer one pulls the direction to its side. Turn "
         "directions of length 1, and treat the norm apart."),
        *advised(
            "norms and way are right, not the speed: a straight line seen from the origin turns fastest in its middle.",
            ("the line pushed out to the norm", (length * mixed / norm(mixed), right)),
            ("the line between the codes pushed out to the norm", (length * itself / norm(itself), right)),
        ),
        ("the codes turned, the length set afterwards", (length * pulled / norm(pulled), angle),
         "you turn the codes themselves: the longer one pulls the direction to its side. Setting the length "
         "afterwards does not undo that."),
        ("towards end or its opposite", (length * short, right),
         "where the angle is above 90 degrees your arc leads to the opposite of end. That is for turns, not for "
         "codes."),
        ("end's part across not made 1 long", (length * (np.cos(t * angle) * a + np.sin(t * angle) * across), angle),
         "what a cosine and a sine mix has to be right-angled, and both of length 1."),
    )  # fmt: skip
    return np.where(is_flat(right if where is degrees else where), line, arc)


def slerp_terms(start, end, t):
    of_start, of_end, right = norm(start), norm(end), arc(start, end, t)
    parts = {"start": start, "end": end, "start / its norm": start / of_start, "end / its norm": end / of_end}
    arcs = {"arc": right, "arc / its norm": right / norm(right), "1": 1.0}
    return parts | {f"t {name}": t * part for name, part in parts.items()} | arcs


SAME, OPPOSITE = with_another(MANY, 3 * MANY), {"start": MANY, "end": -0.7 * MANY}
NEARLY = at_angles(1e-3, np.pi - 1e-3, 0.01, np.pi - 0.01)
BELOW, ABOVE = at_angles(np.pi - 5e-5, 1.0, np.pi - 8e-5), at_angles(np.pi - 3e-4, 1.0, np.pi - 2e-3)
AT_RIGHT_ANGLES = {"start": np.array([[2.0, 0.0], [0.0, 3.0]]), "end": np.array([[0.0, 1.0], [-4.0, 0.0]])}
ONE_PAIR = {"start": MANY[:1], "end": MANY[1:2]}
LENGTHS = {"start": MANY[:4] * [[0.01], [300], [0.02], [100]], "end": MANY[4:8] * [[0.02], [0.01], [200], [500]]}
NO_ARC = "the sine is below 1e-4 there. Is the angle a number, and what does the docstring want for such a sine?"
PARALLEL = "their cosine is 1 or -1, or what rounding leaves of it. What does the inverse of the cosine say to that?"
ENDS = "where does the way begin, and where does it end?"

FUNCTIONS = [
    Function(
        "lerp",
        line,
        arrays_and_time,
        lerp_model,
        special=[
            Special("t = 0", {"start": MANY[:4], "end": MANY[4:8], "t": 0.0}, ENDS),
            Special("t = 1", {"start": MANY[:4], "end": MANY[4:8], "t": 1.0}, ENDS),
            Special("a start that is the end", {"start": MANY[:3], "end": MANY[:3], "t": 0.3},
             "that way has no length."),
            Special("images", {"start": IMAGES[0], "end": IMAGES[1], "t": 0.7},
             "their values are never negative, and they have more axes."),
            Special("zeros", {"start": np.zeros((2, 3)), "end": MANY[:2, :3], "t": 0.4},
             "is something divided by a length, or taken to a power?"),
            Special("large values", {"start": 1e4 * MANY[:2], "end": 1e4 * MANY[2:4], "t": 0.4},
             "the values have no limits: is something cut off?"),
        ],
        terms=lerp_terms,
        probe="Put t = 0 and t = 1 into it: which of the two goes wrong?",
    ),
    Function(
        "angle_between",
        angles,
        codes,
        angle_model,
        special=[
            Special("codes that point the same way", SAME, PARALLEL),
            Special("codes that point opposite ways", OPPOSITE, PARALLEL),
            Special("nearly the same and nearly opposite ways", NEARLY,
             "small angles need all digits of the cosine: is it rounded, or kept away from 1?"),
            Special("codes at a right angle", AT_RIGHT_ANGLES, "their cosine is 0."),
            Special("very short and very long codes", LENGTHS,
             "the lengths have no part in the angle: is something added to them, or kept above a limit?"),
            Special("a single pair", ONE_PAIR, LOST_AXIS),
        ],
        terms=angle_terms,
        probe="Try two equal codes, and two opposite ones: which angle should come out?",
        tolerance=1e-6,  # the arccos near 1 knows half the digits
    ),
    Function(
        "slerp",
        arc,
        codes_and_time,
        slerp_model,
        special=[
            Special("t = 0", {"start": MANY[:4], "end": MANY[4:8], "t": 0.0}, ENDS),
            Special("t = 1", {"start": MANY[:4], "end": MANY[4:8], "t": 1.0}, ENDS),
            Special("codes that point the same way", SAME | {"t": 0.3}, NO_ARC),
            Special("codes that point opposite ways", OPPOSITE | {"t": 0.3}, NO_ARC),
            Special("nearly opposite pairs with a sine below 1e-4", BELOW | {"t": 0.6}, NO_ARC),
            Special("nearly opposite pairs with a sine above 1e-4", ABOVE | {"t": 0.6},
             "the arc is asked for there. Which limit do you have, and how exact is the angle?"),
            Special("pairs that point nearly the same way", at_angles(0.01, 1.0, 0.02) | {"t": 0.4},
             "the arc is asked for there. Which limit do you have?"),
            Special("very short and very long codes", LENGTHS | {"t": 0.4},
             "the lengths have no part in the angle: is something added to them, or kept above a limit?"),
            Special("a single pair", ONE_PAIR | {"t": 0.4}, LOST_AXIS),
        ],
        terms=slerp_terms,
        probe="Put t = 0 and t = 1 into it: where should it begin and end?",
    ),
]  # fmt: skip
