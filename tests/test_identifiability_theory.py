"""The identifiability paper's hierarchy, decided examples and drawings."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color

from neumix.closure import sources
from neumix.papers.identifiability import theory
from neumix.rendering import save_figure, save_table, style
from neumix.results import Results


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path, "identifiability", [])


def test_the_hierarchy_grows_from_row_to_row(results):
    table = theory.table1(results)
    assert table.shape == (4, 6)
    assert list(table["Theorems"].str.extract(r"^(3\.\d\([a-d]\))")[0]) == ["3.2(a)", "3.2(c)", "3.2(b)", "3.3(c)"]
    assert ["F2" in text for text in table["Decoder f, as printed"]] == [True, False, False, False]
    assert all("F2" in text for text in table["Decoder f, as proved"])
    for assumption, first in (("(P1)", 0), ("(P2)", 2), ("(P3)", 3)):
        named = [assumption in text for text in table["Prior"]]
        assert named.index(True) == first
    assert ["f" in text.split("; ")[1:] for text in table["The law of x determines"]] == [False, True, True, True]


def test_the_examples_are_decided_as_the_paper_says(results):
    table = theory.table_examples(results).set_index("Function")
    decided = table.filter(like="njective").apply(lambda row: "".join(text[0] for text in row), axis=1)
    assert decided.to_dict() == {
        "ReLU(x)": "yyn",
        "ReLU(-ReLU(x))": "nnn",
        "|x|": "nnn",
        "0": "nnn",
        "f": "ynn",
        "g": "ynn",
        "network up to h1": "yyy",
        "network up to h2": "yyy",
        "network, |x|/2": "nnn",
        "ReLU network 1-2-2-2, (|x|, 0)": "nnn",
    }
    assert list(table["Preimages, counted"]) == ["1", "–", "2", "–", "3", "3", "1", "1", "2", "2"]
    both = table[table["Preimages, by Lemma C.5"] != "–"]
    assert len(both) == 5
    assert (both["Preimages, by Lemma C.5"] == both["Preimages, counted"] + ".000000").all()


def test_equal_laws_are_told_from_equivalent_models(results):
    table = theory.table_laws(results).set_index("From")
    assert set(table["Largest difference of the CDFs of x"]) == {"below 1e-12"}
    assert table["Affine maps from prior to prior"].to_dict() == {
        "Remark 3.6": "none",
        "Example 4": "z; -z",
        "Remark 3.7": "2 z - 1; -2 z - 1",
    }
    assert list(table["One of them relates the decoders"]) == ["no", "no", "yes"]


def test_the_constants_are_the_papers_functions():
    assert theory.example_5(3) == theory.ABSOLUTE.transformed([[theory.EXAMPLE_5_LEAK]], [0])
    assert theory.folding_network() == theory.ABSOLUTE.transformed([[1], [0]], [0, 0])
    x = np.array([-9.0, -4, -3, -2, 0.5, 2, 3, 4, 9])
    np.testing.assert_allclose(theory.EXAMPLE_4_F(x)[:, 0], [-1, 0, 1, 2, -0.5, -2, -1, 0, 5], atol=1e-15)
    np.testing.assert_allclose(theory.EXAMPLE_4_G(x)[:, 0], [-1, 0, -1, -2, 0.5, 2, 1, 0, 5], atol=1e-15)


def stretches(axes, colour):
    """Return the drawn stretches of one colour as ((x, y), (x, y))."""
    lines = [line.get_xydata() for line in axes.lines if same_color(line.get_color(), colour)]
    return {tuple(map(tuple, np.round(line, 9).tolist())) for line in lines}


def test_figure_3_colours_what_the_functions_share(results):
    with style():
        (axes,) = theory.fig3(results).axes
    assert stretches(axes, theory._BLACK) == {((-7, -0.6), (-4, 0)), ((4, 0), (7, 3))}
    assert stretches(axes, theory._RED) == {((-4, 0), (-2, 2)), ((-2, 2), (2, -2)), ((2, -2), (4, 0))}
    assert stretches(axes, theory._BLUE) == {((-4, 0), (-2, -2)), ((-2, -2), (2, 2)), ((2, 2), (4, 0))}
    assert axes.get_aspect() == 1


def test_figure_4_draws_both_curves_with_their_parameter(results):
    with style():
        (axes,) = theory.fig4(results).axes
    x = np.arange(-3, 4)
    black, blue = (line.get_xydata() for line in axes.lines[:2])
    np.testing.assert_allclose(black, np.where(x[:, None] < 0, [[0.5, -1]], [[1, -0.5]]) * x[:, None])
    np.testing.assert_allclose(blue, np.stack([1.5 * x, 0.5 * np.abs(x)], 1))
    assert sorted(text.get_text() for text in axes.texts) == sorted(f"${k}$" for k in (*x[x != 0], *x[x != 0]))
    assert axes.get_aspect() == 1
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_items_are_saved_in_every_format(results, tmp_path):
    for name in ("fig3", "fig4"):
        with style():
            save_figure(
                getattr(theory, name)(results), "", {kind: tmp_path / f"{name}.{kind}" for kind in ("svg", "png")}
            )
        assert not plt.get_fignums()
    for name in ("table1", "table_examples", "table_laws"):
        outputs = {kind: tmp_path / f"{name}.{kind}" for kind in ("csv", "md", "tex", "html")}
        save_table(getattr(theory, name)(results), "", outputs)
        columns = {len(line.replace("\\|", "").split("|")) for line in outputs["md"].read_text().splitlines() if line}
        assert len(columns) == 1
    assert all(path.stat().st_size > 0 for path in tmp_path.iterdir())


def test_the_items_need_no_torch():
    texts = {path: path.read_text() for path in sources(theory.__name__)}
    assert len(texts) > 5
    assert not [path for path, text in texts.items() if "\nimport torch" in text or "\nfrom torch" in text]
