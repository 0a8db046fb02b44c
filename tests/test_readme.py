import re
from pathlib import Path

from neumix.comparison import missing_deviations, read_comparison
from neumix.scoreboard import render_readme

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LAPTOP = "results/laptop/comparison.csv"


def test_the_scoreboard_is_what_the_committed_results_give():
    assert render_readme(README, read_comparison(ROOT / LAPTOP), LAPTOP) == README


def test_every_committed_number_that_is_not_reproduced_has_a_deviation():
    assert missing_deviations(read_comparison(ROOT / LAPTOP)) == ()


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = set(re.findall(r"(?:`|^    (?:\S+=\S+ )?)make ([a-z]+)\b", README, re.M))
    assert {"reproduce", "test", "report"} <= commands <= targets


def test_every_path_in_the_map_exists():
    block = README.partition("## Where things are")[2].partition("## ")[0]
    paths = re.findall(r"(?:config|src|workflow|tests)/[\w/.<>]+", block)
    assert len(paths) > 8
    for path in paths:
        folder = path.partition("<")[0]
        assert (ROOT / folder.rstrip("/")).exists() or list((ROOT / folder).parent.glob("*")), path


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
