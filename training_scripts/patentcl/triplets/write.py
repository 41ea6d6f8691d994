"""Triplets written to disk: chosen from the graph's answers, joined with their texts, counted.

`data/triplets/<name>/` holds `triplets.parquet` (anchor_id, positive_id, negative_id, negative_kind, positive_kind,
cpc_subclass, split), `texts.parquet` (one row per patent), `retrieval.parquet` (query_id, relevant_id, split: what
held-out patents cite), the ids of each split as `ids_train.txt` (patents in train triplets), `ids_val.txt` and
`ids_test.txt` (all patents held out), so that others can compare, and `triplets.json`, the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import duckdb
import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.duck import connect, literal, readable_errors, sql_sections
from ..common.files import beside
from ..common.resources import Resources
from ..tables.cpc import MACROS, Sections, sections
from ..tables.import_csvs import rows_of
from .dataset import TABLES
from .options import KINDS, SPLITS, Mining, Positives
from .select import Keep, choose, corpus_to_search, held_out, negatives, positives, retrieval_pairs, split_names

if TYPE_CHECKING:
    from ..models.load import Model

FILES = (*TABLES, *(f"ids_{split}.txt" for split in SPLITS))


@dataclass(frozen=True)
class Chosen:
    """What becomes of the answers, all in ranks: tables of pairs, triplets, chosen triplets, retrieval and corpus."""

    pairs: pd.DataFrame
    triplets: pd.DataFrame
    chosen: pd.DataFrame
    retrieval: pd.DataFrame
    corpus: pd.DataFrame
    negatives: dict[str, Any]


def write_triplets(
    folder: Path,
    data: Path,
    source: dict[str, Any],
    mining: Mining,
    answers: dict[str, pd.DataFrame],
    model: "Model | None" = None,
    resources: Resources = Resources(),
) -> dict[str, Any]:
    """Choose triplets from the `answers` of the query, write their files to `folder` and return the counts.

    `source` is the record of the import CSVs in the folder `data`. Train triplets whose negative `model` finds closer
    than the positive are dropped. Raises `InputError` when no train triplet is left.
    """
    graph = data / "graph"
    with resources.scratch(folder) as spill, connect(resources=resources, spill=spill) as db:
        patents, where = _read_patents(db, graph, source["counts"]["patents"], mining), sections(graph)
        keep = partial(_keep, db, model, data / "embeddings") if model else None
        result = _choose(patents, where, source["params"]["seed"], mining, answers, keep)
        if not (result.chosen["split"] == "train").any():
            raise InputError(
                f"{graph} gives no train triplet: none of its {source['counts']['citations']} citations joins two "
                "train patents of different families that share a subclass and have abstracts, with a negative. "
                "Use larger tables, lower --val and --test, or pass --positives coupled"
            )
        _write_files(db, folder, result)
    return {**_counts(result, answers["cited"], patents, where), **_dates(patents)}


def _read_patents(db: duckdb.DuckDBPyConnection, graph: Path, number: int, mining: Mining) -> pd.DataFrame:
    """Read and split the `number` patents: rank, family, bucket, has_abstract, date, split, in order of rank.

    Makes the tables `patent`, as in the import CSV, and `splits` (rank, split).
    """
    place = "time_place" if mining.split == "time" else "place"
    with readable_errors(f"{graph / 'patents.csv'} cannot be read", "Restructure again with --overwrite."):
        db.execute(f"{MACROS}; CREATE TABLE patent AS {rows_of(graph, 'patents.csv')}")
        patents = db.execute(
            f"SELECT rank, family, bucket, has_abstract, date, {place} AS place FROM patent ORDER BY rank"  # noqa: S608
        ).df()
    if len(patents) != number:
        difference = f"{len(patents):,} patents instead of {number:,}"
        raise InputError(f"{graph / 'patents.csv'} has {difference}: restructure again with --overwrite")
    if mining.split == "time" and patents["date"].nunique() < 2:
        raise InputError(f"{graph} has no two dates to split by: pass --split random, or add dates to the tables")
    patents["split"] = split_names(patents.pop("place").to_numpy(), *held_out(number, mining))
    db.register("splits", patents[["rank", "split"]])
    return patents


def _choose(
    patents: pd.DataFrame,
    where: Sections,
    seed: int,
    mining: Mining,
    answers: dict[str, pd.DataFrame],
    keep: Keep | None,
) -> Chosen:
    """The triplets, and what an evaluation searches, from the answers of the query."""
    split_of, buckets = patents["split"].to_numpy(), patents["bucket"].to_numpy()
    pairs = positives(answers, mining, seed)
    pairs["split"] = split_of[pairs["anchor"].to_numpy()]
    triplets, counts = negatives(pairs, answers, mining, patents["family"].to_numpy(), seed)
    triplets["order"] = buckets[triplets["anchor"].to_numpy()]
    chosen, dropped = choose(triplets, mining, where, keep)
    retrieval = retrieval_pairs(answers["cited"], split_of, mining, seed)
    corpus = corpus_to_search(retrieval, patents.loc[patents["has_abstract"], "rank"].to_numpy(), mining, seed)
    return Chosen(pairs, triplets, chosen, retrieval, corpus, {**counts, "false negatives dropped": dropped})


def _keep(db: duckdb.DuckDBPyConnection, model: "Model", cache: Path, rows: pd.DataFrame) -> np.ndarray:
    """Whether `model` finds the positive of each row at least as close to the anchor as the negative, (n,)."""
    from ..models.embed import embed  # torch takes seconds to import; mining rarely needs it
    from ..models.vectors import unit_rows

    ranks = rows[["anchor", "positive", "negative"]].to_numpy()
    distinct, where = np.unique(ranks, return_inverse=True)
    db.register("wanted", pd.DataFrame({"rank": distinct}))
    texts = db.execute("SELECT title, abstract FROM patent JOIN wanted USING (rank) ORDER BY rank").df()
    anchor, positive, negative = unit_rows(embed(model, texts, cache))[where.reshape(ranks.shape)].swapaxes(0, 1)
    return (anchor * negative).sum(axis=1) <= (anchor * positive).sum(axis=1)


def _write_files(db: duckdb.DuckDBPyConnection, folder: Path, result: Chosen) -> None:
    """Write the rows of each part of write.sql to the file of its name."""
    for table in ("chosen", "retrieval", "corpus"):
        db.register(table, getattr(result, table))
    for file, sql in sql_sections(Path(__file__).with_suffix(".sql")).items():
        form = "FORMAT parquet" if file.endswith(".parquet") else "FORMAT csv, HEADER false, QUOTE '', ESCAPE ''"
        with readable_errors(f"{folder / file} cannot be written", "Free disk space."):
            db.execute(f"COPY ({sql}) TO {literal(folder / file)} ({form})")


def _counts(result: Chosen, cited: pd.DataFrame, patents: pd.DataFrame, where: Sections) -> dict[str, Any]:
    """What the record says of the triplets."""
    chosen, retrieval, held = result.chosen, result.retrieval, SPLITS[1:]
    return {
        "counts": {
            "anchors that cite inside the table": len(cited),
            "citation pairs inside the table": int(cited["cited"].sum()),
            "… both with an abstract": int(cited["with_abstract"].sum()),
            "… sharing a CPC subclass": int(cited["sharing"].sum()),
            "… of different families": int(cited["other_family"].sum()),
            "… not across splits": int(cited["positives"].str.len().sum()),
            "positives up to --per-anchor, with coupled ones": len(result.pairs),
            "… with a negative": len(result.triplets),
            "… chosen": len(chosen),
        },
        "triplets": _tally(chosen["split"], SPLITS),
        "positives": _tally(chosen["positive_kind"], get_args(Positives)),
        "sections": _by_section(chosen, where),
        "negatives": result.negatives,
        "kinds": {split: _tally(rows["kind"], KINDS) for split, rows in chosen.groupby("split")},
        "distinct negatives": int(chosen["negative"].nunique()),
        "held out": _tally(patents["split"], held),
        "examiner's citations": int(cited["examiner"].str.len().sum()),
        "queries": _tally(retrieval.drop_duplicates("query")["split"], held),
        "relevant": _tally(retrieval["split"], held),
        "corpus": len(result.corpus),
    }


def _tally(values: pd.Series, names: Sequence[str]) -> dict[str, int]:
    """How many of `values` are each of `names`."""
    return {name: int((values == name).sum()) for name in names}


def _by_section(chosen: pd.DataFrame, where: Sections) -> dict[str, list[Any]]:
    """Names of the sections, and their shares of the classified patents and of the train triplets' anchors."""
    train = where.of(chosen.loc[chosen["split"] == "train", "anchor"].to_numpy())
    reached = np.bincount(train, minlength=len(where.first)) / max(len(train), 1)
    shares = {"corpus": where.share.round(4).tolist(), "train": reached.round(4).tolist()}
    return {"names": where.names.tolist(), **shares}


def _dates(patents: pd.DataFrame) -> dict[str, Any]:
    """First and last date of the families of each split; and how many held-out patents are older than train's last.

    A family is as new as its newest patent, by which it is held out.
    """
    day, dates = pd.factorize(patents["date"], sort=True)  # numbers, as the maximum of texts is slow
    newest = pd.Series(day).groupby(patents["family"]).transform("max").to_numpy()
    split = patents["split"].to_numpy()
    of_split = {name: newest[(split == name) & (dates[newest] != "")] for name in SPLITS}
    return {
        "dates of families": {name: [dates[d.min()], dates[d.max()]] for name, d in of_split.items() if len(d)},
        "older": int(((split != "train") & (day < newest[split == "train"].max(initial=0))).sum()),
        "undated": int((patents["date"] == "").sum()),
    }


def write_training_csv(folder: Path, path: Path) -> int:
    """Write `triplet_training.csv`, the train triplets of `folder` with their texts; return the number of rows."""
    triplets, texts = literal(folder / "triplets.parquet"), literal(folder / "texts.parquet")
    sql = f"""
        SELECT anchor_id AS a_id, a.title AS a_title, a.abstract AS a_abstract,
               positive_id AS p_id, p.title AS p_title, p.abstract AS p_abstract,
               negative_id AS n_id, n.title AS n_title, n.abstract AS n_abstract, cpc_subclass AS cpc_id
        FROM {triplets} t JOIN {texts} a ON a.patent_id = anchor_id
        JOIN {texts} p ON p.patent_id = positive_id JOIN {texts} n ON n.patent_id = negative_id
        WHERE t.split = 'train' ORDER BY t.file_row_number"""  # noqa: S608
    corrupt = readable_errors(f"{folder} holds a corrupt file", "Mine again with --overwrite.")
    with corrupt, beside(path) as scratch, connect() as db:
        rows = db.execute(f"COPY ({sql}) TO {literal(scratch)} (HEADER, FORCE_QUOTE *)").fetchall()
    return int(rows[0][0])
