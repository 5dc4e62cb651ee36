"""The page of results: damaged result files are named, words keep to their cells, and ours is that of its files."""

import json
import re
from pathlib import Path

import pytest

from reproduction import Claim
from reproductions import REPRODUCTIONS, find
from results_page import read_results, results_page
from script_runs import assert_is_a_picture
from tiny_reproduction import Tiny

PAGE = Path(__file__).resolve().parent.parent / "paper" / "RESULTS.md"
RESULTS = PAGE.parent / "results"


SOURCE = {"commit": ["abc1234"], "machine": ["cpu, one, 1 thread"], "versions": [{"python": "3.11.7"}]}


@pytest.fixture
def results(tmp_path):
    """A folder with a result file of two seeds."""
    runs = {
        label: {
            "command": run.command,
            **SOURCE,
            "seconds": [1.0] * len(run.seeds_of(range(2))),
            "measures": {"rate": [2.0, 3.0][: run.seeds], "distortion": [100.0, 101.0][: run.seeds]},
        }
        for label, run in Tiny().runs("quick").items()
    }
    content = {"quick": {"budget": "quick", "seeds": [0, 1]} | SOURCE | {"runs": runs}}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tiny.json").write_text(json.dumps(content))
    return tmp_path / "results"


# --- Result files ----------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_empty(results):
    assert read_results(results, "another") == {}
    assert read_results(results, "tiny").keys() == {"quick"}


def edited(change):
    def damage(text):
        content = json.loads(text)
        change(content["quick"])
        return json.dumps(content)

    return damage


DAMAGES = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "deep": lambda text: "[" * 100000,
    "no commit": edited(lambda content: content.pop("commit")),
    "no runs": edited(lambda content: content.pop("runs")),
    "no seconds": edited(lambda content: content["runs"]["beta=1"].pop("seconds")),
    "no command": edited(lambda content: content["runs"]["beta=1"].pop("command")),
    "no machine": edited(lambda content: content["runs"]["beta=1"].pop("machine")),
    "too few values": edited(lambda content: content["runs"]["beta=1"]["measures"]["rate"].pop()),
    "too many values": edited(lambda content: content["seeds"].pop()),
    "NaN": edited(lambda content: content["runs"]["beta=1"]["measures"].update(rate=[float("nan"), 1.0])),
    "a text": edited(lambda content: content["runs"]["beta=1"]["measures"].update(rate=["1", "2"])),
    "another budget": edited(lambda content: content.update(budget="full")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_file_is_named(results, damage):
    path = results / "tiny.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match="is damaged: put it back, or delete it and carry") as refused:
        read_results(results, "tiny")
    assert str(refused.value).startswith(f"{path} is damaged")
    assert "\n" not in str(refused.value)


# --- The page --------------------------------------------------------------------------------------------------------


def test_texts_do_not_break_tables(results):
    class Nasty(Tiny):
        """Words."""

        def claims(self, results):
            return [Claim("a | b\nc", "|x|", "1\n2", None, "it | is")]

        def table(self, results):
            return ["run", "p(x|z)"], [["a\n\nb", 3]]

    lines = results_page({"tiny": Nasty()}, results).splitlines()
    link = "[tiny](#tiny-quick-two-betas-on-a-few-digits)"
    assert f"| {link} | quick | a \\| b c | \\|x\\| | 1 2 | cannot be told: it \\| is |" in lines
    assert "| run | p(x\\|z) |" in lines
    assert "| a b | 3 |" in lines
    assert "## tiny, quick: two betas on a few digits" in lines


def test_a_section_names_its_paper(results):
    lines = results_page({"tiny": Tiny()}, results).splitlines()
    heading = lines.index("## tiny, quick: two betas on a few digits")
    assert lines[heading + 1 : heading + 5] == ["", "Source: nobody.", "", "Two runs that train and one that does not."]


def test_runs_of_two_machines_say_which_is_whose(results):
    assert not [line for line in results_page({"tiny": Tiny()}, results).splitlines() if "machine |" in line]
    content = json.loads((results / "tiny.json").read_text())
    content["quick"]["machine"] = [*SOURCE["machine"], "cuda, two, 1 thread"]
    content["quick"]["runs"]["beta=1"]["machine"] = ["cuda, two, 1 thread"]
    (results / "tiny.json").write_text(json.dumps(content))
    page = results_page({"tiny": Tiny()}, results)
    assert "; cpu, one, 1 thread and cuda, two, 1 thread; " in page
    lines = page[page.index("| run | command | minutes, each seed | machine |") :].splitlines()[2:]
    assert {line.split(" | ")[0]: line.split(" | ")[-1] for line in lines if line.startswith("| beta")} == {
        "| beta=1": "cuda, two, 1 thread |",
        "| beta=4": "cpu, one, 1 thread |",
    }


def test_what_was_not_carried_out_is_named_with_its_budgets(results, monkeypatch):
    monkeypatch.setattr(Tiny, "budgets", ("quick", "full"))
    page = results_page({"tiny": Tiny(), "other": Tiny()}, results)
    assert "Not carried out yet: tiny (full), other (quick, full)." in page


def test_the_references_are_those_of_the_papers_that_the_page_names(results, monkeypatch):
    monkeypatch.setattr(Tiny, "source", "Kim & Mnih 2018; van den Oord 2017's equation 3; Nobody 2018; Fu et al. 2019")
    monkeypatch.setattr("results_page.DEPARTURES", [["file", "as Sohn 2015", "no reason"]])
    lines = results_page({"tiny": Tiny()}, results).splitlines()
    found = lines[lines.index("## References") + 2 :]
    assert [line.partition(":")[0] for line in found] == [
        "- Fu 2019",
        "- Kim 2018",
        "- Sohn 2015",
        "- van den Oord 2017",
    ]
    link = "[arXiv:1802.05983](https://arxiv.org/abs/1802.05983)"
    assert found[1] == f"- Kim 2018: H. Kim, A. Mnih. *Disentangling by Factorising.* {link}"
    assert found[2].endswith("Generative Models.* NeurIPS 28")


@pytest.mark.skipif(not PAGE.exists(), reason="no experiment has been carried out yet")
def test_the_page_is_what_the_result_files_give():
    known = {name: find(name) for name in REPRODUCTIONS}
    page = PAGE.read_text(encoding="utf-8")
    assert results_page(known, RESULTS) == page
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert_is_a_picture(PAGE.parent / picture)
    assert {path.stem for path in RESULTS.glob("*.json")} <= set(REPRODUCTIONS)
