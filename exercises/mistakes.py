"""A grammar of mistakes: a right answer in which each step names the ways to get it wrong.

A check writes its function once more, and names at every step what else might be done there:

    def kl_divergence(choose, mu, logvar):
        variance = choose(
            np.exp(logvar),
            ("sigma instead of its square", np.exp(logvar / 2), "one term holds sigma where the variance belongs."),
        )
        half = choose(0.5, ("the missing half", 1.0, "every value is twice too large."))
        return half * (mu**2 + variance - 1 - logvar).sum(1)

`choose` hands on its first argument, or the value of the slip (name, value, advice) that is to be made there. Each slip
alone, and each two of them at different steps, is a candidate for what a learner did. A candidate explains an answer
if it gives the same values on every input, on those where they are right by chance too.
"""

import itertools

import numpy as np

import changes
from differences import ENOUGH, close, same

MOST_PAIRS = 5000  # of a slip and a changed argument: more take longer than a learner waits


class Choose:
    """Hands on the right value, or that of a slip to be made; notes which slips there are."""

    def __init__(self, slips=()):
        self.slips, self.offered, self.places = frozenset(slips), {}, 0

    def __call__(self, right, *slips):
        chosen = right
        for name, value, advice in slips:
            if name in self.offered:
                raise ValueError(f"two slips have the name {name!r}")
            self.offered[name] = (self.places, advice)
            if name in self.slips:
                chosen = value
        self.places += 1
        return chosen

    def slip(self, name, advice):
        """Whether this slip is to be made: for what is no value but a different way."""
        return self(False, (name, True, advice))


def advised(advice, *slips):
    """Slips (name, value, advice) that share their advice, from pairs (name, value) or dictionaries of them."""
    pairs = itertools.chain(*(each.items() if isinstance(each, dict) else [each] for each in slips))
    return [(name, value, advice) for name, value in pairs]


def total(choose, parts, what="latents", axis=1):
    """The sum of one image's parts (N, ...) over `axis`, with the ways to reduce them wrongly."""
    everything = parts.reshape(len(parts), -1) if parts.ndim > 2 else parts
    return choose(
        parts.sum(axis),
        (
            "mean instead of sum",
            parts.mean(axis),
            f"you average over the {what}. The nats of independent {what} add up.",
        ),
        (
            "the wrong axis",
            parts.sum(0),
            f"you sum over the images. The result is one number per image: which axis holds the {what}?",
        ),
        (
            "summed over the batch",
            parts.sum(),
            "one number comes out for the whole batch. Keep the images apart.",
        ),
        (
            "averaged over the batch",
            parts.sum() / len(parts),
            "one number comes out, the mean over the images. Keep them apart.",
        ),
        (
            "not summed",
            parts,
            f"there is still one number for each of the {what}. What does the whole image cost?",
        ),
        (
            "kept as a column",
            parts.sum(axis, keepdims=True),
            "the sums are right, their shape is not: one number per image makes (N,).",
        ),
        (
            "without the first",
            everything[:, 1:].sum(1),
            f"the first of the {what} does not count in your sum.",
        ),
        (
            "without the last",
            everything[:, :-1].sum(1),
            f"the last of the {what} does not count in your sum: where does the range end?",
        ),
        (
            "the largest instead of the sum",
            everything.max(1),
            f"you keep only the largest of the {what}. Each one has its price.",
        ),
    )


def read_logvar(choose, logvar, *more):
    """The log of the variance of a Gaussian whose `logvar` is given, with the ways to take it for something else."""
    return choose(
        logvar,
        ("logvar taken for log sigma", 2 * logvar,
         "you treat logvar as the log of sigma; it is that of sigma squared."),
        ("logvar taken for sigma", 2 * np.log(np.abs(logvar)), "you take logvar for sigma itself. It is a logarithm."),
        ("logvar taken for the variance", np.log(np.abs(logvar)),
         "you take logvar for the variance. It is its logarithm."),
        ("logvar cut off", np.clip(logvar, -1, 1), "logvar has no limits: why cut it?"),
        *more,
    )  # fmt: skip


def variance_in_kl(choose, log_variance, *more):
    """The variance, where it stands in KL(q || N(0, I)), with what may stand there instead."""
    return choose(
        np.exp(log_variance),
        ("sigma instead of its square", np.exp(log_variance / 2), "one term holds sigma where the variance belongs."),
        ("the variance squared", np.exp(2 * log_variance), "one term squares what is a square already."),
        ("one over the variance", np.exp(-log_variance), "one term divides by the variance. What is the mean of z^2?"),
        ("logvar where the variance belongs", log_variance, "one term holds logvar where the variance belongs."),
        ("no variance", 0 * log_variance, "a term is missing: how large is the mean of z^2 when mu is 0?"),
        *more,
    )


class Candidate:
    """What may have been done: an argument changed, slips made, the result changed; what that gives for each case.

    names, advice: in this order, one for each. base: the candidate with these slips alone, itself if that is all.
    """

    def __init__(self, model, run, slips=(), advice=(), argument=None, result=None, base=None):
        self.model, self.run, self.slips, self.argument, self.result = model, run, slips, argument, result
        self.base = base or self
        self.names = ((argument[0],) if argument else ()) + slips + ((result[0],) if result else ())
        self.advice = ((argument[1],) if argument else ()) + advice + ((result[2],) if result else ())
        self.kept = {}

    def __eq__(self, other):
        return self.names == other.names

    def __hash__(self):
        return hash(self.names)

    def outputs(self, case):
        """A tuple of arrays, or None where it stops. A change that means nothing for an array leaves it as it is."""
        if id(case) not in self.kept:
            self.kept[id(case)] = self.computed(case)
        return self.kept[id(case)]

    def computed(self, case):
        if self.result:
            outputs = self.base.outputs(case)
            return outputs and tuple(self.changed(each) for each in outputs)
        mistaken = (self.argument[2](case) if self.argument else None) or case
        return self.run(lambda *given: self.model(Choose(self.slips), *given), mistaken, case)

    def changed(self, array):
        try:
            with np.errstate(all="ignore"):
                new = self.result[1](array)
        except TypeError:  # a truth value has no sign
            new = None
        return array if new is None else new


def offered(model, case):
    """{name of a slip: (its step, advice)}, in the order of the grammar."""
    choose = Choose()
    with np.errstate(all="ignore"):
        model(choose, *case)
    return choose.offered


def levels(model, run, names, case, results=True, arguments=True):
    """Lists of candidates: what is likelier, and takes fewer mistakes, comes first."""
    slips = offered(model, case)
    right = Candidate(model, run)
    singles = [Candidate(model, run, (name,), (advice,)) for name, (_, advice) in slips.items()]
    of_arguments = list(changes.of_arguments(names, case)) if arguments else []
    of_a_result = changes.OF_A_RESULT if results else []
    yield singles
    yield [Candidate(model, run, result=each, base=right) for each in of_a_result]
    yield [Candidate(model, run, argument=each, base=right) for each in of_arguments]
    yield [
        Candidate(model, run, (a, b), (slips[a][1], slips[b][1]))
        for a, b in itertools.combinations(slips, 2)
        if slips[a][0] != slips[b][0]
    ]
    yield [
        Candidate(model, run, base.slips, base.advice, result=each, base=base)
        for base in singles
        for each in of_a_result
    ]
    if len(singles) * len(of_arguments) <= MOST_PAIRS:
        yield [
            Candidate(model, run, base.slips, base.advice, argument=each, base=base)
            for base in singles
            for each in of_arguments
        ]


def explain(model, run, names, cases, got, right, wrong, enough=ENOUGH, tolerance=1e-7, **changed):
    """{place of an output: the candidates that explain it}, of the first level that has any; [] where none does.

    The slips of a candidate leave the outputs as they are that are not wrong. run(function, arguments, case): what a
    function gives for arguments, a tuple of arrays or None. names: of the arguments. got, right: for each case such a
    tuple. wrong: the places of the outputs to explain. enough: different wrong values that a candidate must explain, or
    inputs with wrong values. tolerance: relative. changed: results=False, arguments=False where those are not to be
    changed as a whole.
    """
    found = {place: [] for place in wrong}
    nothing = (None,) * len(right[0])  # what it gives where it stops
    kept = [place for place in range(len(right[0])) if place not in wrong]

    def goes_wrong(number):
        return got[number] is None or not all(same(got[number][i], right[number][i], tolerance) for i in wrong)

    order = sorted(range(len(cases)), key=goes_wrong, reverse=True)  # where most candidates can be told apart
    for level in levels(model, run, names, cases[0], **changed):
        left = [place for place in wrong if not found[place]]
        for candidate in level if left else ():
            told = {place: Told(enough, tolerance) for place in left}
            for number in order:
                ours, theirs = (
                    nothing if each is None or len(each) != len(nothing) else each
                    for each in (candidate.outputs(cases[number]), got[number])
                )
                told = {i: each for i, each in told.items() if each.agree(ours[i], theirs[i], right[number][i])}
                if told and kept:
                    others = candidate.base.outputs(cases[number]) or nothing
                    told = told if all(agree(others[i], theirs[i], tolerance) for i in kept) else {}
                if not told:
                    break
            for place, each in told.items():
                if each.is_enough():
                    found[place].append(candidate)
        if all(found.values()):
            break
    return found


def agree(ours, theirs, tolerance):
    """Whether both do the same to one input, be it to stop."""
    return ours is theirs is None if ours is None or theirs is None else same(ours, theirs, tolerance)


class Told:
    """What the agreement of a candidate with an answer tells: the different wrong values that they share."""

    def __init__(self, enough, tolerance):
        self.enough, self.tolerance, self.values, self.inputs = enough, tolerance, set(), 0

    def agree(self, ours, theirs, right):
        """Whether both do the same to one input, be it to stop. Counts what that tells."""
        if not agree(ours, theirs, self.tolerance):
            return False
        if ours is None:
            return True
        every = theirs.shape != right.shape
        wrong = theirs.ravel() if every else theirs[~close(theirs, right, self.tolerance)]
        numbers = wrong[np.isfinite(wrong)].astype(float)
        self.values |= set(np.round(numbers, 9).tolist())
        # Many ways lead to NaN: it tells something only where it is all that there is to tell.
        self.inputs += bool(numbers.size or (wrong.size and self.enough == 1))
        return True

    def is_enough(self):
        """That many different wrong values, or as many inputs with some (truth values do not differ much)."""
        return max(len(self.values), self.inputs) >= self.enough
