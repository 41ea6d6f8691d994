"""Benchmarks that keep finished runs: the comparison of recipes, and the steps at growing sizes, with their tables."""

import csv
import hashlib
import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from patentcl.common.cli import InputError
from patentcl.sample.patents import BLOCK

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def recipes() -> ModuleType:
    return benchmark("recipes")


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return benchmark("scale")


def test_a_finished_run_is_reused(recipes: ModuleType, tmp_path: Path) -> None:
    file, rows = tmp_path / "run.json", [{"docstrings": 0.5} | {name: [[0.1], [0.2]] for name in recipes.METRICS}]
    assert recipes.finished(file) == []

    file.write_text(json.dumps({"params": {"seed": 0}, "rows": rows}))

    assert recipes.finished(file) == rows


def test_the_table_has_the_mean_over_queries_its_interval_and_the_deviation_over_seeds(recipes: ModuleType) -> None:
    labels: dict[str, Any] = {"trained on": "water", "recipe": "best", "evaluated on": "week", "documents": 9}
    base, models = [0.1, 0.2, 0.3], ([0.2, 0.3, 0.4], [0.4, 0.5, 0.6])  # +0.1 and +0.3 for each query
    runs = [
        labels | {"seed": seed, "docstrings": 0.0, "seconds": 1.0, "nDCG@10": [base, model], "fused": [base, base]}
        for seed, model in enumerate(models)
    ]
    more = [{"over BM25": [[0.25] * 3, model], "CPC F1": [[], []]} for model in models]
    row = recipes.table([run | others for run, others in zip(runs, more, strict=True)]).splitlines()[-1]

    assert "+0.200 [+0.200, +0.200] ± 0.141" in row
    assert "+0.150" in row  # over BM25
    assert re.search(r"2 +3 +9 +0\.250 +0\.200", row)  # seeds, queries, documents, BM25, base


def test_pooled_tables_take_a_patent_from_the_first_that_has_it(recipes: ModuleType, tmp_path: Path) -> None:
    for name, ids in (("a", [1, 2]), ("b", [2, 3])):
        (tmp_path / name).mkdir()
        for file in recipes.POOLED:
            rows = pd.DataFrame({"patent_id": ids, "from": name})
            rows.to_csv(tmp_path / name / file, sep="\t", index=False)

    recipes.pool([tmp_path / "a", tmp_path / "b"], tmp_path / "pooled")

    for file in recipes.POOLED:
        rows = pd.read_csv(tmp_path / "pooled" / file, sep="\t")
        assert dict(zip(rows["patent_id"], rows["from"], strict=True)) == {1: "a", 2: "a", 3: "b"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"rows": []}',
        '{"params": {"seed": 0}}',
        '{"rows": [7]}',
        '{"rows": [{"docstrings": 0.5}]}',
    ],
)
def test_a_corrupt_run_is_refused_with_its_file(recipes: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)

    with pytest.raises(InputError, match=r"run\.json"):
        recipes.finished(tmp_path / "run.json")


def test_each_step_has_a_row_and_a_step_that_failed_is_repeated(
    scale: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--tables-dir", str(tmp_path / "tables"), "--work", str(tmp_path / "work")]

    def rows(*steps: str) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["scale.py", "--patents", "300", *where, "--steps", *steps])
        scale.main()
        return {row["step"]: row for row in json.loads((tmp_path / "work" / "scale.json").read_text())["rows"]}

    first = rows("import", "restructure")
    assert first["import"]["error"]  # there is nothing to import yet
    assert not first["restructure"]["error"]
    measured = rows("restructure", "import", "FULL")

    assert measured["restructure"] == first["restructure"]
    assert [*measured] == ["restructure", "import", "FULL", "FULL: after the queries"]
    assert not any(row["error"] for row in measured.values())
    full, after = measured["FULL"], measured["FULL: after the queries"]
    assert full["seconds"] > after["seconds"] > 0 and full["memory"] >= after["memory"] > 10_000_000
    triplets = tmp_path / "work" / "300" / "triplets" / "FULL" / "triplets.parquet"
    assert full["sha256"] == hashlib.sha256(triplets.read_bytes()).hexdigest()
    assert full["disk"] > triplets.stat().st_size
    assert rows("all")["all"]["sha256"] == full["sha256"]


def test_growth_is_the_time_per_patent_against_the_next_smaller_size(scale: ModuleType) -> None:
    def row(patents: int, step: str, seconds: float, error: str = "") -> dict[str, Any]:
        sizes = {"cpu": 12, "memory": 2e9, "disk": 5e8, "sha256": "0123456789abcdef0123"}
        return {"patents": patents, "of": step, "step": step, "seconds": seconds, "error": error, **sizes}

    rows = [
        row(100, "restructure", 10),
        row(100, "pandas", 50),
        row(300, "restructure", 60),
        row(300, "import", 1, "E"),
    ]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in scale.to_markdown(rows, rows).splitlines()]

    assert cells[2] == ["100", "restructure", "10", "12", "2.0", "0.50", "5.0", "", "0123456789abcdef"]
    assert cells[4] == ["300", "restructure", "60", "12", "2.0", "0.50", "", "2.00", "0123456789abcdef"]
    assert cells[5][-1] == "E"


@pytest.fixture(scope="module")
def scale_tables() -> ModuleType:
    return benchmark("scale_tables")


@pytest.fixture(scope="module")
def real(scale_tables: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand patents with the proportions of the real tables."""
    folder = tmp_path_factory.mktemp("real") / "tables"
    scale_tables.write_scale_tables(folder, patents=2_000)
    return folder


def rows_of(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", strict=True))


def test_real_proportions_give_real_texts_and_classes(real: Path) -> None:
    texts = [row["patent_abstract"] for row in rows_of(real, "g_patent_abstract")]
    words = sorted(len(text.split()) for text in texts if len(text) > 200)
    assert len(words) > 1_800 and 120 < sum(words) / len(words) < 140
    assert words[len(words) // 100] > 95 and words[-len(words) // 100] < 165
    assert all(any(mark in text for text in texts) for mark in ('"', "ä", "中文", "\n"))
    families = Counter(" ".join(text.lower().split()) for text in texts if len(text) > 200)
    assert 0 < sum(n > 1 for n in families.values()) < len(texts) / 20  # others are distinct
    rows = Counter(row["patent_id"] for row in rows_of(real, "g_cpc_current"))
    assert 5 < sum(rows.values()) / 2_000 < 6
    known = {row["id"] for row in rows_of(real, "cpc_group")}
    assert len(known) == 650 and all(re.fullmatch("[A-HY][0-9]{2}[A-Z]", symbol) for symbol in known)
    sizes = Counter(row["cpc_subclass"] for row in rows_of(real, "g_cpc_current"))
    assert sizes.keys() <= known and max(sizes.values()) > 10 * sum(sizes.values()) / len(known)


def test_real_proportions_give_real_citations(scale_tables: ModuleType, real: Path) -> None:
    dates = {row["patent_id"]: row["patent_date"] for row in rows_of(real, "g_patent")}
    rows = [(row["patent_id"], row["citation_patent_id"]) for row in rows_of(real, "g_us_patent_citation")]
    inside = [pair for pair in rows if pair[1] in dates]
    assert 0.23 < 1 - len(inside) / len(rows) < 0.27
    later = sum(dates[citing] < dates[cited] for citing, cited in inside)
    assert 0 < later < len(inside) / 50
    plan, draw_pairs = scale_tables.Proportions.draw(400_000, seed=1), scale_tables.draw_pairs
    pairs = np.concatenate([draw_pairs(plan, np.arange(n, n + BLOCK), np.random.default_rng(n)) for n in (0, 350_000)])
    cites, cited = np.bincount(pairs[:, 0]), np.bincount(pairs[:, 1])
    assert 9 < len(pairs) / (2 * BLOCK) < 12 and (pairs[:, 1] < pairs[:, 0]).all()
    assert cites.max() > 500 and cited.max() > 300  # heavy tails
    age = (pairs[:, 0] - pairs[:, 1])[pairs[:, 0] >= 350_000]
    assert np.median(age) < 0.4 * 350_000  # more recent than any earlier patent


def test_real_proportions_name_what_a_family_continues(real: Path) -> None:
    texts = {row["patent_id"]: row["patent_abstract"] for row in rows_of(real, "g_patent_abstract")}
    rows = rows_of(real, "g_us_rel_doc")
    pairs = [(row["patent_id"], row["related_doc_number"]) for row in rows if "grant" in row["related_doc_kind"]]
    assert 20 < len(pairs) < 100 < len(rows)
    assert all(" ".join(texts[a].lower().split()) == " ".join(texts[b].lower().split()) for a, b in pairs)


def test_real_proportions_give_the_same_bytes_into_a_new_folder(
    scale_tables: ModuleType, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scale_tables.py", "--patents", "2000", "--out", str(tmp_path / "again")])
    scale_tables.main()

    assert {path.name for path in real.iterdir()} == {path.name for path in (tmp_path / "again").iterdir()}
    for path in real.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match="again"):
        scale_tables.main()


def test_the_pandas_baseline_writes_the_same_rows(tables: Path, mined_data: Path, tmp_path: Path) -> None:
    baseline = benchmark("scale_pandas")
    baseline.restructure(tables, tmp_path)

    for name in ("citations.csv", "classifications.csv", "patents.csv"):
        ours, theirs = (
            pd.read_csv(folder / name, dtype=str, keep_default_na=False) for folder in (mined_data / "graph", tmp_path)
        )
        ours.columns = theirs.columns
        if name == "patents.csv":
            ours = ours.sort_values("rank", key=pd.to_numeric, ignore_index=True)
        pd.testing.assert_frame_equal(ours, theirs.replace({"True": "true", "False": "false"}))


def test_the_gpu_benchmark_runs_on_a_cpu_and_a_part_that_fails_leaves_the_others(
    mined_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu, output = benchmark("gpu"), tmp_path / "gpu.json"
    where = ["--triplets", str(mined_data / "triplets" / "200"), "--output", str(output), "--smoke", "--minutes", "60"]

    gpu.main([*where, "--parts", "side:nobody+equal fp32+side:rows+encode+memory"])

    results = json.loads(output.read_text())
    assert "KeyError" in results["side:nobody"]["4"]["error"]
    equal = [value for name, value in results["equal fp32"].items() if ", " in name]
    assert len(equal) == 4 and all(value["gradient differs by"] < 1e-5 for value in equal)
    assert results["side:rows"]["4"]["triplets/s"] > 0 and not [
        line for line in results["side:rows"]["4"]["said"] if "without CUDA graphs" in line
    ]
    assert results["encode"]["lowest cosine to stock"] > 0.9999 and results["memory"]["triplets/s"] > 0
    assert "| side:rows | 4 |" in capsys.readouterr().out


def test_a_part_that_is_too_slow_or_fails_keeps_what_it_told(tmp_path: Path) -> None:
    gpu = benchmark("gpu")
    (tmp_path / "slow.py").write_text("import time\nprint('{\"16\": 1}', flush=True)\ntime.sleep(60)")
    part = gpu.Options(tmp_path, part="card", work=tmp_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "__file__", str(tmp_path / "slow.py"))
        patch.setattr(gpu, "LEAST", 0)
        result = gpu.in_a_process(part, 1, {})

    assert result["16"] == 1 and "1 s" in result["error"]
    assert gpu.in_a_process(part, 1, {})["error"]
