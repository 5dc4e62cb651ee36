"""What a wrong answer did: the mistakes that explain it, its own formula, or else where it goes wrong and how.

`Diagnosis(judgement)` gives (message, what was recognised or None). Tried in this order for each wrong output: noise of
its own, one mistake of the grammar (`mistakes.py`), the formula read back (`formulas.py`), two mistakes (their effects
may cancel: a formula says more), the right values but for one number (`differences.py`), and inputs that are all that
goes wrong.
"""

import functools
import itertools
import re
import warnings

import numpy as np
import torch

from differences import ENOUGH, compare, recognised, relation, where
from evaluating import Call, evaluate, values_of
from formulas import read_back
from mistakes import agree, explain
from smallest import smallest

IN_COMMON = "Have these inputs something in common? For the first of them: "
NUM_READ_BACK = 32  # ordinary inputs for a formula, which has many terms to tell apart, and for few values that agree
MOST_NAMED = 8  # outputs, if there are many
OFFERED = 3  # explanations, if several fit
TOLD = 3  # inputs that go wrong, if they are several


class Diagnosis:
    """Of one `Judgement` whose values or gradients are wrong."""

    def __init__(self, judgement):
        self.judgement, self.function = judgement, judgement.function
        self.cases, self.wanted = judgement.cases, judgement.wanted
        self.ordinary = len(self.cases) - len(self.function.special)  # how many come before the special inputs

    @property
    def changes(self):
        """Whether arguments and results may have been changed as a whole: not those of a question without inputs."""
        return self.function.changes and bool(self.judgement.names)

    # --- Values ------------------------------------------------------------------------------------------------------

    def of_values(self):
        """(message, what was recognised): the name or formula if every wrong output is explained, else None."""
        if self.draws():
            return (
                "two calls with the same inputs give two answers: it draws something itself, or remembers the call "
                "before. What it needs comes as an argument.",
                "own noise or memory",
            )
        every = [place for place in range(len(self.wanted[0])) if self.wrong_inputs(place)]
        wrong = [place for place in every if not self.wrong_specials(place)] or every
        late = [place for place in every if place not in wrong]  # wrong on a special input, beside outputs that are so
        if order := self.other_order(every):
            return (
                f"{order} are returned in another order than the docstring says.",
                "the wrong order",
            )
        found = self.chosen(wrong, self.candidates(wrong))
        named = {place: self.recognised(place, found[place]) for place in wrong}
        if not any(named.values()):
            return self.right_outputs(every) + self.named_output(wrong + late) + self.described(wrong[0]), None
        sentences = {}  # one sentence for all the outputs that it explains
        for place in wrong:
            sentence = named[place][0] if named[place] else self.described(place)
            sentences.setdefault(sentence, []).append(place)
        parts = []
        for sentence, places in sentences.items():
            everywhere = len(places) == len(self.wanted[0])
            parts.append(sentence if everywhere else f"{listed(map(self.output, places))}: {sentence}")
        message = self.right_outputs(every) + " ".join(parts) + self.besides(found, late)
        names = dict.fromkeys(each[1] for each in named.values() if each)
        return message, " and ".join(names) if all(named.values()) else None

    def recognised(self, place, candidates):
        """(a sentence, a name) for one output, or None."""
        if len(candidates) > 1 and (truth := self.constant(place)):
            return truth
        single = [each for each in candidates if len(each.names) == 1]
        if not single and (formula := self.formula(place)):
            return f"what you return is {formula}. {self.function.probe}", formula
        if candidates:
            return offered(candidates[:OFFERED])
        if not self.judgement.names:
            return None
        if found := recognised(self.pairs(place), self.judgement.tolerance):
            name, sentence = found
            return f"{name}: {sentence}", name
        specials = self.wrong_specials(place)
        if specials and all(special.advice for special in specials):
            some = list(dict.fromkeys(special.what for special in specials))
            some = some[:TOLD] + ["more"] * (len(some) > TOLD)
            advices = {special.advice for special in specials}
            verdict = self.judgement.verdicts[self.wrong_inputs(place)[0]][place]
            words = advices.pop() if len(advices) == 1 else IN_COMMON + verdict[0].lower() + verdict[1:]
            what = "the values are" if self.function.gradient else "it is"
            return f"{what} right but for {listed(some)}. {words}", f"wrong for {listed(some)}"
        return None

    def constant(self, place):
        """(a sentence, a name) if the output is a truth value that never changes, though it should; else None."""
        values = [got[place] for got in self.judgement.got[: self.ordinary] if got is not None]
        truths = set(np.concatenate(values, axis=None)) if values else set()
        if len(truths) != 1 or not all(value.dtype == bool for value in values):
            return None
        word = str(truths.pop())
        return f"always {word}: to every ordinary input you say {word}, right or not.", f"always {word}"

    def draws(self):
        """Whether other global seeds give other values."""
        again = [self.judgement.run(Call(case, seed=1)).values for case in self.cases[:2]]
        first = [outcome.values for outcome in self.judgement.outcomes[:2]]
        return any(
            len(a) == len(b) and not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))
            for a, b in zip(again, first, strict=True)
        )

    def other_order(self, wrong):
        """Which outputs are right but for their order, in words; "" if that is not all that is wrong."""
        if any(self.function.expected.keys):  # each has its name
            return ""
        for order in itertools.permutations(wrong) if 2 <= len(wrong) <= 4 else ():
            moved = dict(zip(wrong, order, strict=True))
            if all(
                got is not None and not compare(got[place], want[moved[place]], self.judgement.tolerance)
                for got, want in zip(self.judgement.got, self.wanted, strict=True)
                for place in wrong
            ):
                return listed(map(self.output, wrong))
        return ""

    def wrong_inputs(self, place):
        return [number for number, verdict in enumerate(self.judgement.verdicts) if verdict[place]]

    def wrong_specials(self, place):
        """The special inputs that go wrong, if no ordinary one does."""
        numbers = self.wrong_inputs(place)
        return [] if numbers[0] < self.ordinary else [self.function.special[i - self.ordinary] for i in numbers]

    def pairs(self, place):
        """(arguments, got, wanted) of each ordinary input; none where the answer stops on one of them."""
        every = list(
            zip(
                self.cases[: self.ordinary],
                self.judgement.got,
                self.wanted,
                strict=False,
            )
        )
        if any(got is None for _, got, _ in every) or self.wrong_specials(place):
            return []
        return [(case, got[place], want[place]) for case, got, want in every]

    # --- The grammar of mistakes -------------------------------------------------------------------------------------

    def candidates(self, wrong):
        """{place: candidates}: those that explain the special inputs too, or else the ordinary ones alone."""
        if self.function.model is None:
            return {place: [] for place in wrong}
        special = [place for place in wrong if self.wrong_specials(place)]
        found = self.explained(special, 1)  # one such input goes wrong for one reason
        found |= self.explained([place for place in wrong if place not in special], ENOUGH, self.ordinary)
        for place, some in found.items():
            strange = [len(self.strangers(place, [each])) for each in some]
            found[place] = [each for each, number in zip(some, strange, strict=True) if number == min(strange)]
        return found

    @functools.cached_property
    def more(self):
        """(arguments, got, wanted) of more ordinary inputs: of truth values, say, few may agree by chance."""
        found = []
        for number in range(self.ordinary, NUM_READ_BACK):
            case = self.function.case(number)
            wanted = self.function.right(case)
            found.append((case, self.judgement.answer(case, wanted), wanted))
        return found

    def explained(self, places, enough, count=None):
        if not places:
            return {}
        more = [each for each in self.more if each[1] is not None]
        parts = [
            [*part[:count], *(each[i] for each in more)]
            for i, part in enumerate((self.cases, self.judgement.got, self.wanted))
        ]
        tolerance = self.judgement.tolerance
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return explain(
                self.function.model, mistaken, self.judgement.names, *parts, places, enough, tolerance,
                results=self.changes, arguments=self.changes,
            )  # fmt: skip

    def chosen(self, wrong, found):
        """Of the candidates for each output, those that tell most about the others and least that is untrue of them."""
        return {place: self.best(some, wrong, found) for place, some in found.items()}

    def best(self, candidates, wrong, found):
        """Those that spoil the fewest outputs in another way than the answer does, and of these explain the most."""

        def merit(candidate):
            names = set(candidate.names)
            explained = {place for place in wrong if any(names <= set(each.names) for each in found[place])}
            explained |= {place for place in wrong if self.gives(candidate, place, self.judgement.got)}
            spoilt = [each for each in wrong if each not in explained and not self.gives(candidate, each, self.wanted)]
            return len(spoilt), -len(explained)

        merits = {candidate: merit(candidate) for candidate in candidates} if len(candidates) > 1 else {}
        return [each for each in candidates if not merits or merits[each] == min(merits.values())]

    def gives(self, candidate, place, values):
        """Whether an output has these values after this mistake, on all inputs that the mistake has to explain."""
        count = None if self.wrong_specials(place) else self.ordinary
        return all(
            agree(outputs and outputs[place], value and value[place], self.judgement.tolerance)
            for case, value in zip(self.cases[:count], values, strict=False)
            for outputs in [candidate.outputs(case)]
        )

    def strangers(self, place, candidates):
        """The numbers of the special inputs for which none of the candidates gives what the answer gives."""
        found = []
        for number in range(self.ordinary, len(self.cases)):
            mine = self.judgement.got[number]
            theirs = [candidate.outputs(self.cases[number]) for candidate in candidates]
            if not any(agree(each and each[place], mine and mine[place], self.judgement.tolerance) for each in theirs):
                found.append(number)
        return found

    def besides(self, found, late):
        """A sentence on a special input that goes wrong and that no explanation covers."""
        specials = [self.wrong_specials(place)[0] for place in late]
        for place, candidates in found.items():
            numbers = self.strangers(place, candidates) if candidates else []
            numbers = [number for number in numbers if self.judgement.verdicts[number][place]]
            specials += [self.function.special[number - self.ordinary] for number in numbers]
        return f" For {specials[0].what} this may not be all: mend it first, then check again." if specials else ""

    # --- The formula -------------------------------------------------------------------------------------------------

    def formula(self, place):
        """The answer's formula in words, or None."""
        if self.function.terms is None or self.wrong_specials(place):
            return None
        got, terms = [], []
        few = zip(self.cases[: self.ordinary], self.judgement.got, self.wanted, strict=False)
        for case, values, wanted in itertools.chain(few, self.more):
            if values is None or values[place].shape != wanted[place].shape:
                return None
            with np.errstate(all="ignore"):
                each = self.function.terms(*case)
            got.append(values[place])
            terms.append(each[place] if isinstance(each, tuple) else each)
        return read_back(terms, got)

    # --- Gradients ---------------------------------------------------------------------------------------------------

    def of_gradients(self, places, outcomes, got, right, tolerance):
        """(message, what was recognised) where the values are right and the gradients are not."""
        for outcome in outcomes:
            if outcome.problem:
                return f"The values are right, but no gradient can pass. {outcome.problem}", "no gradient"
        start = "The values are right, but not the gradients. "
        if some := self.candidates_for_gradients(places, got, right, tolerance):
            sentence, name = offered(some)
            return start + sentence, name
        if all(outcome.gradients is None for outcome in outcomes):
            return start + "None comes back: is something detached, or done in NumPy?", "no gradient"
        for a, b in zip(got, right, strict=True):
            for name, x, y in zip(self.function.gradient, a, b, strict=True):
                if verdict := compare(x, y, tolerance):
                    return f"The values are right, but not the gradient with respect to {name}. {verdict}", None
        raise AssertionError("called for gradients that are right")

    def candidates_for_gradients(self, places, got, right, tolerance):
        """Those whose values are right and whose gradients, all in one array, are those that were got."""
        if self.function.model is None:
            return []
        wanted = {id(case): want for case, want in zip(self.cases, self.wanted, strict=True)}

        def gradients(function, arguments, case):
            outcome = evaluate(function, Call(arguments, places))
            pairs = zip(outcome.values, wanted[id(case)], strict=False)
            if outcome.problem or any(compare(value, want, tolerance) for value, want in pairs):
                return None
            return (together(outcome.gradients or [np.zeros(tuple(case[place].shape)) for place in places]),)

        merged = [[(together(each),) for each in every] for every in (got, right)]
        parts = (self.function.model, gradients, self.judgement.names, self.cases[: self.ordinary], *merged)
        return explain(*parts, [0], tolerance=tolerance, results=False)[0][:OFFERED]

    # --- Where nothing is recognised ---------------------------------------------------------------------------------

    def described(self, place):
        """Which inputs go wrong, how the result differs, and the smallest input that shows it."""
        if not self.judgement.names:  # the right value is the answer
            return "this is not right."
        number = self.wrong_inputs(place)[0]
        words = [
            self.which_inputs(place, number),
            self.judgement.verdicts[number][place],
        ]
        pairs, tolerance = self.pairs(place), self.judgement.tolerance
        words.append(relation(pairs, tolerance) or where(pairs, self.judgement.names, tolerance))
        if self.function.reference is not None:
            words.append(smallest(self.judgement, place))
        return " ".join(filter(None, words))

    def which_inputs(self, place, number):
        if number >= self.ordinary:
            return f"It is right for ordinary inputs, but not for {self.function.special[number - self.ordinary].what}."
        right = [i for i in range(self.ordinary) if not self.judgement.verdicts[i][place]]
        sizes = [self.sizes(each) for each in (*right[:1], number)]
        return "It is right for {} and wrong for {}.".format(*sizes) if len(set(sizes)) == 2 else ""

    def sizes(self, number):
        """The arguments of an ordinary input in few words: shapes and numbers."""
        return ", ".join(
            f"{name} {tuple(value.shape)}" if getattr(value, "ndim", 0) else f"{name} {float(value):.6g}"
            for name, value in zip(self.judgement.names, self.cases[number], strict=False)
            if hasattr(value, "shape") or isinstance(value, (int, float))
        )

    # --- Words -------------------------------------------------------------------------------------------------------

    def output(self, place):
        return self.function.outputs[place] if self.function.outputs else f"value {place + 1}"

    def named_output(self, wrong):
        """Which output the words that follow are about, and which others are wrong, where there are several."""
        if len(self.wanted[0]) == 1:
            return ""
        first, *others = map(self.output, wrong)
        words = listed(others) if len(others) < MOST_NAMED else f"{len(others)} more"
        return f"{first} (as wrong: {words}): " if others else f"{first}: "

    def right_outputs(self, wrong):
        right = [self.output(place) for place in range(len(self.wanted[0])) if place not in wrong]
        if len(right) > MOST_NAMED and len(wrong) < len(right):
            return f"All but {listed(map(self.output, wrong))} are right. "
        many = len(right) > 1 or (right and re.fullmatch("(the )?[a-z ]+[^s]s", right[0]))
        return f"{listed(right)} {'are' if many else 'is'} right. " if right else ""


def listed(words):
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def offered(candidates):
    """(a sentence, a name) for explanations that fit as well as each other; those with one advice share it."""
    names = {}
    for each in candidates:
        names.setdefault(each.advice, []).append(each.names)
    sentences = [
        " Besides, ".join(
            f"{' or '.join(dict.fromkeys(alike))}: {words}"
            for alike, words in zip(zip(*some, strict=True), advice, strict=True)
        )
        for advice, some in names.items()
    ]
    return " Or: ".join(sentences), " or ".join(" and ".join(each.names) for each in candidates)


def mistaken(function, arguments, case):
    """What a wrong function gives: a tuple of arrays, None where it stops."""
    try:
        with np.errstate(all="ignore"), torch.no_grad():
            returned = function(*arguments)
            return values_of(returned)
    except Exception:  # two mistakes may not go together: such a pair explains nothing
        return None


def together(arrays):
    return np.concatenate([array.ravel() for array in arrays])
