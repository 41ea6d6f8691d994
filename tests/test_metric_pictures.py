"""Pictures of an evaluation, drawn from a small corpus whose cosines, citations and classes are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from patentcl.evaluation.compare import compare_embeddings
from patentcl.evaluation.held_out import HeldOut
from patentcl.evaluation.report import Report
from patentcl.figures.metrics import (
    calibration,
    cosines_of_triplets,
    nearest_table,
    retrieval_by_section,
    triplet_accuracy_by_kind,
)

GROUPS, SIZE = 6, 10  # fields of technology, and patents of each; a patent cites the one before it in its field
HOSTILE = "<script>alert(1)</script> $x$"


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    n = GROUPS * SIZE
    group = np.arange(n) // SIZE
    symbols = np.array(["A01B", "A01C", "C02F", "C02G", "H04L", "H04M"])[group]
    texts = pd.DataFrame(
        {
            "patent_id": [f"p{row}" for row in range(n)],
            "title": [HOSTILE if row == 0 else f"word{row} field{group[row]}" for row in range(n)],
            "abstract": [f"term{row} topic{group[row]}" for row in range(n)],
            "section": [s[0] for s in symbols],
            "subclass": symbols,
            "subclasses": [[s] for s in symbols],
            "split": "test",
        }
    )
    citing = np.flatnonzero(np.arange(n) % SIZE)
    triplets = np.stack([citing, citing - 1, (citing + SIZE) % n], axis=1)
    kind = np.where(citing % 2, "sibling", "random")
    pairs = triplets[:, :2]
    parts = {part: np.ones(len(pairs), bool) for part in ("IN", "OUT", "known", "unseen")}
    return HeldOut(texts, triplets, kind, pairs, np.arange(n), np.ones(n, bool), parts)


@pytest.fixture(scope="module")
def embeddings(held_out: HeldOut) -> dict[str, np.ndarray]:
    """A model that knows the fields: cosine 0.8 within one, 0 between two; and one that knows nothing."""
    n, draw = len(held_out.texts), np.random.default_rng(0)
    fields = np.eye(GROUPS)[np.arange(n) // SIZE] * np.sqrt(0.8)
    return {"noise": draw.normal(size=(n, 90)), "knows": np.hstack([fields, np.eye(n) * np.sqrt(0.2)])}


@pytest.fixture(scope="module")
def report(embeddings: dict[str, np.ndarray], held_out: HeldOut) -> Report:
    return compare_embeddings(embeddings, held_out)


def dots(axes: Axes) -> dict[str, np.ndarray]:
    """Row of the report → values of its dots, from the top group to the lowest."""
    return {str(line.get_label()): np.asarray(line.get_xdata(), float) for line in axes.lines}


def test_a_dot_for_each_section_and_row_is_the_mean_of_its_queries(report: Report, held_out: HeldOut) -> None:
    figure = retrieval_by_section(report, held_out)

    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [label.get_text().split()[0] for label in axes.get_yticklabels()] == ["all", "A", "C", "H"]
    drawn, units = dots(axes), report.rows["knows"].units["nDCG@10"]
    assert list(drawn) == ["BM25", "noise", "knows"]
    sections = held_out.texts["section"].to_numpy()[held_out.queries]
    np.testing.assert_allclose(drawn["knows"], [units.mean(), *(units[sections == s].mean() for s in "ACH")])
    assert drawn["knows"][0] > drawn["noise"][0]


def test_triplet_accuracy_and_its_intervals_are_those_of_the_report(report: Report) -> None:
    (axes,) = triplet_accuracy_by_kind(report).axes

    groups = [label.get_text() for label in axes.get_yticklabels()]
    assert groups == ["all", "sibling", "random"]
    names = ["triplet accuracy", "triplet accuracy sibling", "triplet accuracy random"]
    np.testing.assert_allclose(dots(axes)["noise"], report.table.loc["noise", names].to_numpy(float))
    lines: Any = axes.collections[1].get_segments()  # type: ignore[attr-defined]
    ends = [report.table.loc["noise", [f"{name} low", f"{name} high"]].to_numpy(float) for name in names]
    np.testing.assert_allclose([segment[:, 0] for segment in lines], ends)


def test_cosines_of_positives_and_negatives(embeddings: dict[str, np.ndarray], held_out: HeldOut) -> None:
    figure = cosines_of_triplets(embeddings, held_out)

    figure.draw_without_rendering()
    noise, knows = figure.axes
    positive, *negatives = (line.get_xdata()[0] for line in knows.lines)  # type: ignore[index]
    assert positive == pytest.approx(0.8) and negatives == pytest.approx([0, 0])
    counts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert counts == ["positive (54)", "negative: random (24)", "negative: sibling (30)"]
    assert noise.get_xlim() == knows.get_xlim()


def test_calibration_is_the_share_of_pairs_at_a_cosine(embeddings: dict[str, np.ndarray], held_out: HeldOut) -> None:
    figure = calibration(embeddings, held_out)

    figure.draw_without_rendering()
    cites, shares = figure.axes[1].lines
    at, share = (np.asarray(values, float) for values in shares.get_data())
    assert share[-1] == 1 and at[-1] == pytest.approx(0.8, abs=0.03)  # all pairs of a field share its subclass
    citing = 54  # each cites one of the 9 others of its field
    assert np.asarray(cites.get_ydata(), float)[-1] == pytest.approx(citing / (citing * 9))


def test_the_nearest_table_marks_citations_and_escapes_titles(
    embeddings: dict[str, np.ndarray], held_out: HeldOut
) -> None:
    page = nearest_table(embeddings, held_out, ["p1"], count=9).to_html()

    assert "<script" not in page and "&lt;script&gt;" in page and "mathjax_ignore" in page
    assert page.count("★") >= 1 and page.count("field0") >= 9
    default = nearest_table(embeddings, held_out)
    assert default.to_html(table_uuid="1") == nearest_table(embeddings, held_out).to_html(table_uuid="1")
    frame: pd.DataFrame = default.data  # type: ignore[attr-defined]
    assert len(frame) == 25 and list(frame.columns) == ["noise", "knows"]
    assert frame["knows"].str.startswith("0.80").all()


def test_a_corpus_without_classes_has_its_pictures(embeddings: dict[str, np.ndarray], held_out: HeldOut) -> None:
    texts = held_out.texts.assign(section="", subclass="", subclasses=pd.Series([[]] * len(held_out.texts)))
    plain = replace(held_out, texts=texts)
    report = compare_embeddings(embeddings, plain)

    assert [label.get_text()[:3] for label in retrieval_by_section(report, plain).axes[0].get_yticklabels()] == ["all"]
    assert [text.get_text() for text in calibration(embeddings, plain).legends[0].get_texts()] == ["cites"]
