"""Another corpus than the models' own, to evaluate on: no training saw it, so all its citing patents are queries.

Citations are read from its graph, because its triplets hold those of held-out patents only. Where no patent cites
another of the corpus, the relevant patents are those that share citations with the query (bibliographic coupling,
Kessler 1963, doi 10.1002/asi.5090140103).
"""

from collections.abc import Iterable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from ..common.cli import InputError
from ..common.duck import connect, literal, readable_errors, scalar, sql_sections
from ..common.files import read_json, unchanged
from ..common.progress import ticking
from ..common.resources import Resources
from ..tables.import_csvs import PARQUET, rows_of
from ..triplets.dataset import ENDS, ROLES, Dataset
from ..triplets.options import HUB, Mining
from ..triplets.select import corpus_to_search
from ..triplets.write import texts_of

SQL = sql_sections(Path(__file__).with_suffix(".sql"))
About = dict[str, str | int]


def other_corpus(folder: Path, trained: Iterable[str], scratch: Path, seed: int = 42) -> tuple[Dataset, About]:
    """The corpus of a folder of triplets, or of the data folder above it, all of it as test split; and what was done.

    The families of the patents `trained` (ids) are left out. There are at most as many queries and documents as mining
    there allowed (--max-queries, --corpus). Temporary files go beside `scratch`. Raises `InputError` if the folder
    holds no graph, or one in which nothing can be evaluated.
    """
    graph, mining = graph_of(folder)
    resources = Resources()
    with (
        resources.scratch(scratch) as temporary,
        readable_errors(f"{graph} cannot be read", "Restructure its tables again with --overwrite."),
        connect(temporary / "other.duckdb", resources) as db,
    ):
        with tqdm(desc=f"citations of {graph}", bar_format="{desc} [{elapsed}]") as progress, ticking(progress):
            pairs, usable, about = _pairs(db, graph, trained, mining, seed)
        corpus = corpus_to_search(pairs, usable, mining, seed)
        number = scalar(db, "SELECT count(*) FROM patents")
        texts = pa.concat_tables(texts_of(graph, np.isin(np.arange(number), corpus), resources)).to_pandas()
    if not len(pairs) and not (texts["subclass"] != "").any():
        raise InputError(
            f"{folder}: no patent cites another or shares {mining.coupled} citations with it, and none has a class. "
            "There is nothing to evaluate: choose other tables."
        )
    retrieval = pd.DataFrame(pd.Index(texts.pop("rank")).get_indexer(pairs.ravel()).reshape(-1, 2), columns=list(ENDS))
    none = pd.DataFrame({role: np.empty(0, int) for role in ROLES} | {"negative_kind": "", "split": ""})
    texts = texts.assign(split="test", in_corpus=True)
    return Dataset(none, texts, retrieval.assign(split="test"), f"{graph} {seed}"), about


def graph_of(folder: Path) -> tuple[Path, Mining]:
    """The graph of a data folder or of a folder of triplets in it, and the options of their mining.

    Raises `InputError` if there is none, one that is damaged, or another one than the triplets are from.
    """
    tops = (folder, *folder.resolve().parents[1:2])
    graph = next((top / "graph" for top in tops if (top / "graph" / "graph.json").is_file()), None)
    if graph is None:
        raise InputError(f"--against {folder}: no graph/ here or two folders above. Run patent_handler.py first.")
    source, record = unchanged(graph / "graph.json"), folder / "triplets.json"
    params = read_json(record)["params"] if record.exists() else {}
    if params.get("graph", source["fingerprint"]) != source["fingerprint"]:
        raise InputError(f"{folder} was mined from another graph than {graph} holds now. Mine there again.")
    known = ("positives", "coupled", "corpus", "max_queries")
    return graph, Mining(**{name: params[name] for name in known if name in params})


def _pairs(
    db: duckdb.DuckDBPyConnection, graph: Path, trained: Iterable[str], mining: Mining, seed: int
) -> tuple[np.ndarray, np.ndarray, About]:
    """Queries and what is relevant to them, (n, 2) ranks; ranks of the patents that may be searched; what was done."""
    db.execute(f"CREATE VIEW patents AS FROM read_parquet({literal(graph / PARQUET)})")
    for name in ("citations", "outside_citations", "outside_patents"):
        db.execute(f"CREATE VIEW {name} AS {rows_of(graph, f'{name}.csv')}")
    db.register("trained", pa.table({"patent_id": pa.array(list(trained), pa.string())}))
    db.execute(SQL["usable"])
    relevant = "patents that the query cites"
    db.execute(SQL["cited"])
    if not scalar(db, "SELECT count(*) FROM pairs"):
        relevant = f"patents that share at least {mining.coupled} citations with the query"
        db.execute(SQL["coupled"], {"coupled": mining.coupled, "hub": HUB})
    chosen = db.execute(SQL["chosen"], {"seed": seed, "most": mining.max_queries}).fetchnumpy()
    usable = np.asarray(db.execute("SELECT rank FROM usable ORDER BY rank").fetchnumpy()["rank"])
    removed = scalar(db, "SELECT count(*) FROM patents WHERE has_abstract") - len(usable)
    about: About = {"split": "all", "relevant": relevant, "documents of a training, removed": removed}
    return np.stack([np.asarray(chosen[end]) for end in ENDS], axis=1), usable, about
