"""Triplets on disk: written, exported.

`data/triplets/<name>/` holds `triplets.parquet` (anchor_id, positive_id, negative_id, negative_kind, positive_kind,
cpc_subclass, split), `texts.parquet` (one row a patent), `retrieval.parquet` (query_id, relevant_id, split: what
held-out patents cite), the ids of each split as `ids_train.txt` (patents in train triplets), `ids_val.txt` and
`ids_test.txt` (all patents held out), so that others can compare, and `triplets.json`, the record.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..common.duck import connect, literal, readable_errors
from ..common.files import beside
from ..tables.cpc import MACROS, sections
from ..tables.import_csvs import rows_of
from .options import KINDS, POSITIVES, SAMPLE_BUCKETS, SPLITS, Keep, Mining, over
from .select import choose, corpus_to_search, held_out, negatives, positives, retrieval_pairs, split_names


def write_triplets(
    folder: Path,
    graph: Path,
    source: dict[str, Any],
    mining: Mining,
    found: dict[str, pd.DataFrame],
    closer: Callable[[pd.DataFrame, np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Choose the triplets, look their texts up, write the files; return the counts.

    `closer(texts, triplets)` says for rows (n, 3) of `texts` whether the negative is closer than the positive, (n,);
    such train triplets are dropped.
    """
    seed, patents = source["params"]["seed"], source["counts"]["patents"]
    test, held = held_out(patents, mining)
    with connect() as db:
        db.execute(MACROS)
        db.execute(f"SET VARIABLE test = {test}; SET VARIABLE held = {held}; SET VARIABLE over = {over(mining)}")
        with readable_errors(f"{graph / 'patents.csv'} cannot be read", "Restructure again with --overwrite."):
            db.execute(f"CREATE TABLE patent AS {rows_of(graph, 'patents.csv')}")
        numbers = db.execute(
            """SELECT rank, family, split // getvariable('over') % 1000000 AS place, has_abstract, date
            FROM patent ORDER BY rank"""
        ).df()
        if len(numbers) != patents:
            difference = f"{len(numbers):,} patents instead of {patents:,}"
            raise InputError(f"{graph / 'patents.csv'} holds {difference}: restructure again with --overwrite")
        undated = int((numbers["date"] == "").sum())
        if mining.split == "time" and numbers["date"].nunique() < 2:
            raise InputError(f"{graph} has no two dates to split by: take --split random, or tables with dates")
        split_of = split_names(numbers["place"].to_numpy(), test, held)
        pairs = positives(found, mining, patents, seed)
        pairs["split"] = split_of[pairs["anchor"].to_numpy()]
        triplets, got = negatives(pairs, found, mining, numbers["family"].to_numpy(), seed)
        triplets["order"] = numbers["family"].to_numpy()[triplets["anchor"].to_numpy()] % SAMPLE_BUCKETS
        chosen, dropped = choose(triplets, mining, sections(graph), _keep(db, closer) if closer else None)
        if not (chosen["split"] == "train").any():
            raise InputError(
                f"{graph} gives no train triplet: none of its {source['counts']['citations']} citations joins two "
                "train patents of different families that share a subclass and have abstracts, with a negative "
                "besides; use larger tables, lower --val and --test, or take --positives coupled"
            )
        retrieval = retrieval_pairs(found["cited"], split_of, mining, seed)
        corpus = corpus_to_search(retrieval, numbers.loc[numbers["has_abstract"], "rank"].to_numpy(), mining, seed)
        for table, frame in {"chosen": chosen, "retrieval": retrieval, "corpus": corpus}.items():
            db.register(table, frame)
        for file, sql in _FILES.items():
            form = "FORMAT parquet" if file.endswith(".parquet") else "FORMAT csv, HEADER false, QUOTE '', ESCAPE ''"
            with readable_errors(f"{folder / file} cannot be written", "Is there room on the disk?"):
                db.execute(f"COPY ({sql}) TO {literal(folder / file)} ({form})")
        dates = _dates(db)
    return {
        "found": _funnel(found["cited"], pairs, triplets, chosen),
        "triplets": chosen["split"].value_counts().reindex(SPLITS, fill_value=0).to_dict(),
        "positives": chosen["positive_kind"].value_counts().reindex(POSITIVES, fill_value=0).to_dict(),
        "sections": _by_section(chosen, graph),
        "negatives": {**got, "false negatives dropped": dropped},
        "kinds": {
            s: g["kind"].value_counts().reindex(KINDS, fill_value=0).to_dict() for s, g in chosen.groupby("split")
        },
        "undated": undated,
        "distinct negatives": int(chosen["negative"].nunique()),
        "held out": {s: int((split_of == s).sum()) for s in ("val", "test")},
        **dates,
        "examiner's citations": int(found["cited"]["examiner"].str.len().sum()),
        "queries": retrieval.groupby("split")["query"].nunique().reindex(["val", "test"], fill_value=0).to_dict(),
        "relevant": retrieval["split"].value_counts().reindex(["val", "test"], fill_value=0).to_dict(),
        "corpus": len(corpus),
    }


def _dates(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """First and last date of the families of each split, a family being as new as its newest patent, by which it is
    held out; and how many held-out patents are older than the last one of train.
    """
    db.execute("""
        CREATE TABLE dated AS
        SELECT date, max(date) OVER (PARTITION BY family) AS newest,
               CASE WHEN place < getvariable('test') THEN 'test' WHEN place < getvariable('held') THEN 'val'
                    ELSE 'train' END AS split
        FROM (SELECT date, family, split // getvariable('over') % 1000000 AS place FROM patent)""")
    rows = db.execute("SELECT split, min(newest), max(newest) FROM dated WHERE newest <> '' GROUP BY split").fetchall()
    rows.sort(key=lambda row: SPLITS.index(row[0]))
    older = db.execute("""
        SELECT count(*) FROM dated
        WHERE split <> 'train' AND date < (SELECT max(newest) FROM dated WHERE split = 'train')""").fetchone()
    return {"dates of families": {split: dates for split, *dates in rows}, "older": older[0] if older else 0}


def _keep(db: duckdb.DuckDBPyConnection, closer: Callable[[pd.DataFrame, np.ndarray], np.ndarray]) -> Keep:
    """Look the texts of some triplets up, and keep those whose negative is not closer than the positive."""

    def keep(rows: pd.DataFrame) -> np.ndarray:
        ranks = rows[["anchor", "positive", "negative"]].to_numpy()
        asked, where = np.unique(ranks, return_inverse=True)
        db.register("asked", pd.DataFrame({"rank": asked}))
        texts = db.execute("SELECT title, abstract FROM patent JOIN asked USING (rank) ORDER BY rank").df()
        return ~closer(texts, where.reshape(ranks.shape))

    return keep


def _by_section(chosen: pd.DataFrame, graph: Path) -> dict[str, list[Any]]:
    """Share of the classified patents and of the train triplets' anchors, by the first rank of a section."""
    where = sections(graph)
    train = where.of(chosen.loc[chosen["split"] == "train", "anchor"].to_numpy())
    reached = np.bincount(train, minlength=len(where.first)) / max(len(train), 1)
    return {
        "names": where.names.tolist(),
        "corpus": [round(float(share), 4) for share in where.share],
        "train": [round(float(share), 4) for share in reached],
    }


_FILES = {
    "triplets.parquet": """
        SELECT a.patent_id AS anchor_id, p.patent_id AS positive_id, n.patent_id AS negative_id, kind AS negative_kind,
               positive_kind,
               list_filter(a.subclasses, lambda s: list_contains(p.subclasses, s))[1] AS cpc_subclass,
               chosen.split AS split
        FROM chosen JOIN patent a ON a.rank = anchor JOIN patent p ON p.rank = positive
        JOIN patent n ON n.rank = negative ORDER BY position""",
    "texts.parquet": """
        SELECT patent_id, title, abstract, date,
               section_of(subclass) AS section, class_of(subclass) AS class,
               subclass, subclasses, family,
               CASE WHEN place < getvariable('test') THEN 'test' WHEN place < getvariable('held') THEN 'val'
                    ELSE 'train' END AS split,
               rank IN (SELECT rank FROM corpus) AS in_corpus
        FROM (SELECT * EXCLUDE (has_abstract, split), split // getvariable('over') % 1000000 AS place FROM patent)
        WHERE rank IN (SELECT anchor FROM chosen UNION SELECT positive FROM chosen UNION SELECT negative FROM chosen
                       UNION SELECT rank FROM corpus)
        ORDER BY rank""",
    "retrieval.parquet": """
        SELECT q.patent_id AS query_id, r.patent_id AS relevant_id, retrieval.split AS split FROM retrieval
        JOIN patent q ON q.rank = query JOIN patent r ON r.rank = relevant ORDER BY q.rank, r.rank""",
    "ids_train.txt": """
        SELECT patent_id FROM patent WHERE rank IN (SELECT unnest([anchor, positive, negative]) FROM chosen
                                                    WHERE split = 'train') ORDER BY rank""",
    "ids_val.txt": """
        SELECT patent_id FROM patent WHERE split // getvariable('over') % 1000000 >= getvariable('test')
        AND split // getvariable('over') % 1000000 < getvariable('held') ORDER BY rank""",
    "ids_test.txt": """
        SELECT patent_id FROM patent WHERE split // getvariable('over') % 1000000 < getvariable('test')
        ORDER BY rank""",
}

FILES_OF_FOLDER = tuple(_FILES)


def _funnel(cited: pd.DataFrame, pairs: pd.DataFrame, triplets: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, int]:
    """How many citation pairs were found and what became of them."""
    return {
        "anchors looked at that cite inside the table": len(cited),
        "citation pairs of theirs inside the table": int(cited["cited"].sum()),
        "… both with an abstract": int(cited["with_abstract"].sum()),
        "… sharing a CPC subclass": int(cited["sharing"].sum()),
        "… of different families": int(cited["other_family"].sum()),
        "… not across splits": int(cited["positives"].str.len().sum()),
        "positives up to --per-anchor, coupled ones too": len(pairs),
        "… with a negative": len(triplets),
        "… chosen": len(chosen),
    }


def write_training_csv(folder: Path, path: Path) -> int:
    """Write `triplet_training.csv`, the train triplets of `folder` with their texts; return the number of rows."""
    damaged = readable_errors(f"{folder} holds a corrupt file", "Mine again with --overwrite.")
    with damaged, beside(path) as scratch, connect() as db:
        triplets, texts = literal(folder / "triplets.parquet"), literal(folder / "texts.parquet")
        row = db.execute(f"""
            COPY (SELECT anchor_id AS a_id, a.title AS a_title, a.abstract AS a_abstract,
                         positive_id AS p_id, p.title AS p_title, p.abstract AS p_abstract,
                         negative_id AS n_id, n.title AS n_title, n.abstract AS n_abstract, cpc_subclass AS cpc_id
                  FROM {triplets} t JOIN {texts} a ON a.patent_id = anchor_id
                  JOIN {texts} p ON p.patent_id = positive_id JOIN {texts} n ON n.patent_id = negative_id
                  WHERE t.split = 'train' ORDER BY t.file_row_number)
            TO {literal(scratch)} (HEADER, FORCE_QUOTE *)""").fetchone()  # noqa: S608
    return int(row[0]) if row else 0
