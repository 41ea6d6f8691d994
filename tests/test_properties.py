"""Any texts and ids come through every step unchanged: tables, CSVs, both graphs, triplets, what a model reads."""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from local_server import LocalServer, available, local_server
from odd import SNIPPETS, examples, texts
from patentcl.common.cli import InputError
from patentcl.graph.base import Graph, open_graph
from patentcl.graph.options import Neo4jOptions
from patentcl.models.embed_corpus import embed_corpus
from patentcl.models.load import Model
from patentcl.models.tokens import join_texts, separator, tokenise
from patentcl.pipeline import tables_to_triplets
from patentcl.triplets.dataset import load_dataset
from patentcl.triplets.options import Mining
from patentcl.triplets.write import write_training_csv


class Corpus(NamedTuple):
    """Patents (id, title, abstract), each of which cites the three after it; five in a row are of one subclass."""

    patents: list[tuple[str, str, str]]
    symbols: tuple[str, ...]

    @property
    def classes(self) -> list[tuple[str, str]]:
        """Patent and subclass."""
        return [(row[0], self.symbols[place // 5 % len(self.symbols)]) for place, row in enumerate(self.patents)]

    @property
    def citations(self) -> list[tuple[str, str]]:
        """Citing and cited id."""
        ids = [name for name, _, _ in self.patents]
        return [(name, ids[(place + step) % len(ids)]) for place, name in enumerate(ids) for step in (1, 2, 3)]


NUMBERS = st.integers(0, 10**200).map(str) | st.sampled_from(
    ["0", "007", "7", "7.0", "1e5", "D0123456", "US 7,654/32 B2"]
)
IDS = (texts("\0\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029") | NUMBERS).filter(str.strip)


@st.composite
def corpora(draw: st.DrawFn, least: int = 12, most: int = 16) -> Corpus:
    """Corpora with one abstract a patent, so that each is a family of its own."""
    rows = draw(st.lists(st.tuples(IDS, texts(), texts()), min_size=least, max_size=most, unique_by=lambda row: row[0]))
    patents = [(name, title, f"{abstract} no {number}") for number, (name, title, abstract) in enumerate(rows)]
    return Corpus(patents, draw(st.sampled_from([("",), SUBCLASSES])))


SUBCLASSES = ("A01B", "Ünï \"7\", 'x'\\", "H04W")
SNIPPET_CORPUS = Corpus([(f"{n}", text, f"{text}{n}{text}") for n, text in enumerate(SNIPPETS)], SUBCLASSES)


def write_corpus(folder: Path, corpus: Corpus, layout: str) -> None:
    """Write a custom corpus as CSV, or PatentsView's tables as TSV in quotes, or as ZIPs of it."""
    folder.mkdir()
    abstracts = [(name, abstract) for name, _, abstract in corpus.patents]
    tables: dict[str, list[tuple[str, ...]]] = {
        "patents.csv": [("patent_id", "title", "abstract"), *corpus.patents],
        "citations.csv": [("citing", "cited"), *corpus.citations],
        "classes.csv": [("patent_id", "subclass"), *corpus.classes],
        "g_patent.tsv": [("patent_id", "patent_title"), *(row[:2] for row in corpus.patents)],
        "g_patent_abstract.tsv": [("patent_id", "patent_abstract"), *abstracts],
        "g_us_patent_citation.tsv": [("patent_id", "citation_patent_id"), *corpus.citations],
        "g_cpc_current.tsv": [("patent_id", "cpc_subclass"), *corpus.classes],
    }
    for name, rows in tables.items():
        if name.endswith(".csv") == (layout == "csv"):
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                if layout == "csv":
                    csv.writer(file).writerows(rows)
                else:
                    csv.writer(file, "excel-tab", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
            if layout == "zip":
                with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                    archive.write(folder / name, name)
                (folder / name).unlink()


def check(corpus: Corpus, data: Path, model: Model) -> None:
    """Everything in `data` says of each patent what the corpus says."""
    patents = {name: (title, abstract) for name, title, abstract in corpus.patents}
    folder = data / "triplets" / "FULL"
    dataset = load_dataset(folder)
    read = dataset.read_texts(np.arange(len(dataset.texts)))
    assert {row.patent_id: (row.title, row.abstract) for row in read.itertuples()} == patents
    assert {row.patent_id: row.subclass for row in read.itertuples()} == dict(corpus.classes)
    triplets = pq.read_table(folder / "triplets.parquet").to_pandas()
    assert len(triplets) and {(row.anchor_id, row.positive_id) for row in triplets.itertuples()} <= {*corpus.citations}
    held = "".join((folder / f"ids_{split}.txt").read_text(encoding="utf-8") for split in ("val", "test"))
    assert sorted(held.split("\n")[:-1]) == sorted(read["patent_id"][read["split"] != "train"])

    sep = separator(model.load())
    joined = [f"{patents[name][0].strip()}{sep}{patents[name][1].strip()}" for name in read["patent_id"]]
    assert join_texts(read, sep) == joined
    tokens = tokenise(model.load(), len(read), dataset.blocks, dataset.fingerprint, data / "tokens")
    stock = model.load().tokenizer(joined, truncation=True, max_length=model.load().max_seq_length)
    assert [row.tolist() for row in tokens] == stock["input_ids"]

    write_training_csv(folder, data / "t.csv")
    given = load_dataset(data / "t.csv").texts
    assert {row.patent_id: (row.title, row.abstract) for row in given.itertuples()}.items() <= patents.items()
    assert len(given) == dataset.used_in("train").sum()


def mined(tables: Path, data: Path, graph: Graph | None = None) -> None:
    """Mine all triplets; pass over the few corpora whose held-out families leave none to train on."""
    try:
        tables_to_triplets(tables, data, "FULL", Mining("FULL"), graph, overwrite=True)
    except InputError as problem:
        assert "train triplet" in str(problem)
        reject()


@given(corpora(), st.sampled_from(["tsv", "zip", "csv"]))
@example(SNIPPET_CORPUS, "tsv")
@example(SNIPPET_CORPUS, "csv")
@examples(3)
def test_texts_and_ids_come_through_the_embedded_graph(small_model: Model, corpus: Corpus, layout: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "tables", corpus, layout)

        mined(folder / "tables", folder / "data")

        check(corpus, folder / "data", small_model)
        embed_corpus(small_model, folder / "data" / "graph" / "patents.csv", folder / "vectors")
        ids = sorted(row[0] for row in corpus.patents)
        assert sorted((folder / "vectors" / "ids.txt").read_text(encoding="utf-8").split("\n")) == ["", *ids]
        graph = open_graph("embedded", folder / "data")
        assert sorted(graph.run("MATCH (p:Patent) RETURN p.patent_id AS id", {})["id"].to_pylist()) == ids
        graph.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("neo4j")) as local:
        yield local


@pytest.mark.skipif(not available(), reason="NEO4J_HOME names no Neo4j server, or there is no Java")
@given(corpora(60, 60), st.sampled_from(["offline", "online"]))
@example(SNIPPET_CORPUS, "offline")
@example(SNIPPET_CORPUS, "online")
@examples(1)
def test_texts_and_ids_come_through_neo4j(server: LocalServer, small_model: Model, corpus: Corpus, how: Any) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "tables", corpus, "tsv")
        engines = {"embedded": folder / "embedded", "neo4j": folder / "neo4j"}

        for engine, data in engines.items():
            graph = open_graph(engine, data, options=Neo4jOptions(import_=how, heap="1g"))
            mined(folder / "tables", data, graph)

        check(corpus, engines["neo4j"], small_model)
        assert len({(data / "triplets" / "FULL" / "triplets.parquet").read_bytes() for data in engines.values()}) == 1
        graph = open_graph("neo4j", folder)
        rows = graph.run("MATCH (p:Patent) RETURN p.patent_id, p.title, p.abstract", {}).to_pydict().values()
        assert sorted(zip(*rows, strict=True)) == sorted(corpus.patents)
        graph.close()
