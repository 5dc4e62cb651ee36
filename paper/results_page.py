"""The page of results: every experiment's table, claims and figure, made from the result files.

`reproduce.py` writes a result file for each experiment, {budget: content}. RESULTS.md follows from these files and from
the experiments' words alone, so that it can be made again without training anything.
"""

import inspect
import re

from reproduction import SOURCE, Results, as_json, read_json
from reproductions import DEPARTURES, REFERENCES
from trainable import require


def read_results(folder, name):
    """A result file, {budget: content}, empty if there is none. Raises ValueError if it is damaged."""
    path = folder / f"{name}.json"
    try:
        if (content := read_json(path)) is None:
            return {}
        for budget, each in content.items():
            require(each["budget"] == budget and each["seeds"] and each["runs"], "its budgets do not fit")
            require(all(each[name] for name in SOURCE - {"command"}), "it does not say where it comes from")
            for run in each["runs"].values():
                lists = [run["seconds"], *as_json(run["measures"]).values()]
                require({len(values) for values in lists} == {min(len(each["seeds"]), len(run["seconds"]))}, "short")
                require(isinstance(run["command"], str) and sum(as_json(run["seconds"])) >= 0, "its runs are damaged")
                require(all(run[name] for name in SOURCE), "its runs do not say where they come from")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged: put it back, or delete it and carry the experiment out again") from None
    return content


def judged(reproduction, results):
    """The table, as header and rows, and the claims. Raises ValueError if what they ask for was not measured."""
    try:
        return reproduction.table(results), reproduction.claims(results)
    except KeyError as error:
        line = f"reproduce.py {reproduction.name} --budget {results.content['budget']} --remeasure"
        raise ValueError(
            f"the results of {reproduction.name} are an older version's, without {error}: measure again with {line}"
        ) from None


# --- The page --------------------------------------------------------------------------------------------------------


def results_page(known, results):
    """RESULTS.md: a function of the result files and of the experiments' words."""
    found = [
        (reproduction, Results(content))
        for name, reproduction in known.items()
        for content in read_results(results, name).values()
    ]
    lines = [
        "# Results: the papers' numbers and ours",
        "",
        f"Written by `python paper/reproduce.py` from the files in [`{results.name}/`]({results.name}), which hold",
        "every value of every seed. A budget called quick is minutes of training where the paper took hours or days:",
        "it shows directions, and its numbers are not the paper's. One called own has the paper's model on a schedule",
        "of ours, full is the paper's recipe. Values are means over seeds ± their standard deviation (n - 1). The last",
        "column judges the numbers of its row by the rule in the claim; where there is no ±, there was one seed, and a",
        "small difference may be chance. Papers are named by first author and year, as under",
        "[references](#references).",
        "",
        "| experiment | budget | claim | paper | ours | holds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for reproduction, each in found:
        link = f"[{reproduction.name}](#{anchor(reproduction, each)})"
        for claim in judged(reproduction, each)[1]:
            cells = (link, each.content["budget"], claim.text, claim.paper, claim.ours, verdict(claim))
            lines.append(table_row(cells))
    done = {(reproduction.name, each.content["budget"]) for reproduction, each in found}
    left = {name: [each for each in known[name].budgets if (name, each) not in done] for name in known}
    if missing := [f"{name} ({', '.join(budgets)})" for name, budgets in left.items() if budgets]:
        lines += ["", f"Not carried out yet: {', '.join(missing)}."]
    lines += ["", "## Where this code departs from the papers on purpose", ""]
    lines += as_table(["file", "departure", "reason"], DEPARTURES)
    for reproduction, each in found:
        lines += ["", *section(reproduction, each, results.name)]
    lines += ["", "## References", "", *map(reference, cited("\n".join(lines)))]
    return "\n".join(lines) + "\n"


def section(reproduction, results, figures):
    """One experiment's part of the page, as lines. figures: the folder of the figures, seen from the page."""
    content, budget = results.content, results.content["budget"]
    name, seeds = reproduction.name, results.num_seeds
    given = f" --seeds {seeds}" if seeds != reproduction.seeds(budget) else ""
    hours = in_hours(sum(sum(run["seconds"]) for run in results.runs.values()) / 60)
    differ = [source for source in ("machine", "commit") if len(content[source]) > 1]
    versions = "; ".join(", ".join(f"{key} {value}" for key, value in each.items()) for each in content["versions"])
    lines = [f"## {heading(reproduction, results)}", "", f"Source: {reproduction.source}.", ""]
    lines += [*inspect.getdoc(type(reproduction)).splitlines(), ""]
    lines += as_table(*judged(reproduction, results)[0])
    lines += ["", f"![{reproduction.title}]({figures}/{name}-{budget}.png)", ""]
    if words := reproduction.protocol(budget):
        lines += ["Otherwise than in the paper:", "", *(f"- {each}" for each in words.split("; ")), ""]
    lines += [
        f"`python paper/reproduce.py {name} --budget {budget}{given}`; {count(seeds, 'seed')}; {hours} of training and "
        f"measuring, all runs added up; {' and '.join(content['machine'])}; {versions}; "
        f"commit {', '.join(content['commit'])}",
        "",
        "<details><summary>the runs</summary>",
        "",
    ]
    lines += as_table(
        ["run", "command", "minutes, each seed", *differ],
        [
            [
                label,
                f"`{run['command']}`",
                f"{sum(run['seconds']) / len(run['seconds']) / 60:.1f}",
                *(", ".join(run[source]) for source in differ),
            ]
            for label, run in results.runs.items()
        ],
    )
    return [*lines, "", "</details>"]


def cited(text):
    """The references of the papers that a text names: "Kim & Mnih 2018" is "Kim 2018"."""
    names = re.findall(r"((?:van den )?[A-Z]\w+)(?: & [A-Z]\w+| et al\.)? (\d{4})\b", text)
    found = {f"{author} {year}" for author, year in names}
    return [name for name in REFERENCES if name in found]


def reference(name):
    authors, title, place = REFERENCES[name]
    number = place.removeprefix("arXiv:")
    link = place if number == place else f"[{place}](https://arxiv.org/abs/{number})"
    return f"- {name}: {authors}. *{title}.* {link}"


def heading(reproduction, results):
    return f"{reproduction.name}, {results.content['budget']}: {reproduction.title}"


def anchor(reproduction, results):
    """The heading's name in a link, as GitHub makes it."""
    text = heading(reproduction, results).lower().replace(" ", "-")
    return "".join(letter for letter in text if letter.isalnum() or letter in "-_")


def as_table(header, rows):
    return [table_row(header), table_row(["---"] * len(header)), *map(table_row, rows)]


def table_row(cells):
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


# --- In words --------------------------------------------------------------------------------------------------------


def verdict(claim):
    words = {True: "yes", False: "**no**", None: "cannot be told"}[claim.holds]
    return f"{words}: {claim.why}" if claim.why and not claim.holds else words


def in_hours(minutes):
    return f"{minutes / 60:.0f} h" if minutes >= 120 else f"{max(1, round(minutes))} min"


def count(number, noun):
    return f"{number} {noun}" + ("" if number == 1 else "s")
