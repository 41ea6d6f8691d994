"""Triplets written to disk (docs/data.md lists the files): chosen from the answers, joined with their texts, counted.

Nothing here holds all texts, or all triplets with their ids: both pass in blocks.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..common.cli import InputError
from ..common.duck import connect, literal, readable_errors, sql_sections
from ..common.files import beside
from ..common.progress import ticking
from ..common.resources import Resources, require
from ..tables.cpc import MACROS
from ..tables.import_csvs import rows_of
from .dataset import ENDS, ROLES, TABLES, TEXTS
from .options import KINDS, SPLITS
from .patents import KEPT, Patents
from .select import POSITIVES, Candidates, choose, corpus_to_search, retrieval_pairs

if TYPE_CHECKING:
    from ..models.load import Model

FILES = (*TABLES, *(f"ids_{split}.txt" for split in SPLITS))
BASE = 300_000_000  # bytes of memory that Python and its libraries take
BLOCK = 122_880  # rows of a row group as DuckDB writes it
TEXT_COLUMNS = pa.schema(
    {
        **dict.fromkeys(("patent_id", "title", "abstract", "date", "section", "class", "subclass"), pa.string()),
        **{"subclasses": pa.list_(pa.string()), "family": pa.int64(), "split": pa.string(), "in_corpus": pa.bool_()},
    }
)
CODED = ["date", "section", "class", "subclass", "subclasses.list.element", "split"]  # columns of few distinct texts
SQL = sql_sections(Path(__file__).with_suffix(".sql"))
_ADVICE = {  # what is lacking → what adds it
    "with an abstract": "Add the abstracts of these patents",
    "anchors that cite inside the table": "Add the patents that they cite",
    "both with an abstract": "Add the abstracts of the cited patents",
    "sharing a CPC subclass": "Use larger tables, or leave out the classes",
    "with a negative": "Negatives share no subclass with the anchor: use tables of more subclasses, or leave them out",
    **dict.fromkeys(("not across splits", "train triplets"), "Use larger tables, or lower --val and --test"),
}


def write_triplets(
    folder: Path, data: Path, candidates: Candidates, model: "Model | None" = None, resources: Resources = Resources()
) -> dict[str, Any]:
    """Choose triplets from the `candidates`, write their files to `folder` and return the counts.

    `data` holds the import CSVs. Train triplets whose negative `model` finds closer than the positive are dropped.
    Raises `InputError` when no train triplet is left.
    """
    graph, patents, mining, seed = data / "graph", candidates.patents, candidates.mining, candidates.seed
    keep = partial(_keep, graph, patents, model, data / "embeddings", resources) if model else None
    with tqdm(desc="order of triplets", bar_format="{desc} [{elapsed}]") as progress, ticking(progress):
        chosen, dropped = choose(candidates.triplets(), mining, patents.where, keep)
    candidates.parts.clear()  # their memory is needed for what follows
    if not (chosen["split"] == SPLITS.index("train")).any():
        raise InputError(f"{graph} gives no train triplet: {_why_none(candidates)}")
    retrieval = retrieval_pairs(np.concatenate(candidates.cited), patents.split, mining, seed)
    corpus = corpus_to_search(retrieval, np.flatnonzero(patents.has_abstract), mining, seed)
    in_corpus, in_triplet = _mask(patents, corpus), _mask(patents, *(chosen[role] for role in ROLES))
    with resources.scratch(folder) as scratch:
        _write_triplets(folder / "triplets.parquet", chosen, patents, scratch, resources)
    ends = {f"{end}_id": patents.ids.take(pa.array(retrieval[:, i])).cast(pa.string()) for i, end in enumerate(ENDS)}
    ends["split"] = pa.array(SPLITS).take(pa.array(patents.split[retrieval[:, 0]]))
    pq.write_table(pa.table(ends), folder / "retrieval.parquet")
    _write_texts(folder / "texts.parquet", graph, in_corpus | in_triplet, in_corpus, patents, resources)
    _write_ids(folder, chosen, patents)
    return _counts(chosen, candidates, retrieval, dropped) | {"corpus": len(corpus), **_dates(patents)}


def _why_none(candidates: Candidates) -> str:
    """What the last patents, pairs or triplets lack that were counted on the way to train triplets, and what to do."""
    patents = candidates.patents
    counts = {"patents": len(patents.ids), "with an abstract": int(patents.has_abstract.sum()), **candidates.counts}
    labels = [label.removeprefix("… ") for label in (*counts, "train triplets")]
    last = max(place for place, count in enumerate(counts.values()) if count)  # coupled positives need no citation
    lacking = labels[last + 1]
    advice = _ADVICE.get(lacking, "Use larger tables")
    if lacking not in ("with an abstract", "with a negative") and candidates.mining.positives != "coupled":
        advice += ", or pass --positives coupled"
    return f"{[*counts.values()][last]:,} {labels[last]}, but 0 {lacking}. {advice}"


def _keep(
    graph: Path, patents: Patents, model: "Model", cache: Path, resources: Resources, rows: pd.DataFrame
) -> np.ndarray:
    """Whether `model` finds the positive of each row at least as close to the anchor as the negative, (n,)."""
    from ..models.embed import embed, unit_rows  # torch takes seconds to import; mining rarely needs it

    ranks = rows[list(ROLES)].to_numpy()
    distinct, where = np.unique(ranks, return_inverse=True)
    texts = pa.concat_tables(texts_of(graph, _mask(patents, distinct), resources)).sort_by("rank").to_pandas()
    anchor, positive, negative = unit_rows(embed(model, texts, cache))[where.reshape(ranks.shape)].swapaxes(0, 1)
    return (anchor * negative).sum(axis=1) <= (anchor * positive).sum(axis=1)


def _mask(patents: Patents, *ranks: Any) -> np.ndarray:
    """Mask (N,) of the patents with these ranks."""
    mask = np.zeros(len(patents.ids), bool)
    for some in ranks:
        mask[some] = True
    return mask


def texts_of(graph: Path, wanted: np.ndarray, resources: Resources) -> Iterator[pa.Table]:
    """The patents of the mask `wanted` (N,), in the order of the import CSV: the columns of write.sql, in blocks."""
    path = graph / "patents.csv"
    with (
        readable_errors(f"{path} cannot be read", "Restructure again with --overwrite."),
        connect(resources=resources) as db,
        tqdm(total=len(wanted), desc="texts", unit="patent") as progress,
    ):
        db.execute(f"{MACROS}; CREATE VIEW patent AS {rows_of(graph, path.name)}")
        reader = db.sql(SQL["texts"]).to_arrow_reader(TEXTS)
        waiting = reader.schema.empty_table()
        for batch in reader:
            rows = batch.filter(pa.array(wanted[batch["rank"].to_numpy()]))
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([rows])])
            progress.update(len(batch))
            if len(waiting) >= TEXTS:  # blocks are the same on any number of threads
                yield waiting.slice(0, TEXTS).combine_chunks()
                waiting = waiting.slice(TEXTS)
        if len(waiting):
            yield waiting.combine_chunks()


def _write_texts(
    path: Path, graph: Path, wanted: np.ndarray, in_corpus: np.ndarray, patents: Patents, resources: Resources
) -> None:
    """Write one row per patent of the mask `wanted` (N,)."""
    with pq.ParquetWriter(path, TEXT_COLUMNS, use_dictionary=CODED) as writer:
        for block in texts_of(graph, wanted, resources):
            rank = block["rank"].to_numpy()
            block = block.append_column("split", pa.array(SPLITS).take(pa.array(patents.split[rank])))
            block = block.append_column("in_corpus", pa.array(in_corpus[rank]))
            writer.write_table(block.select(TEXT_COLUMNS.names).cast(TEXT_COLUMNS), row_group_size=TEXTS)


def _write_triplets(path: Path, triplets: pd.DataFrame, patents: Patents, scratch: Path, resources: Resources) -> None:
    """Write the triplets, with the ids and the first subclass that anchor and positive share."""
    names = {"kind": KINDS, "positive_kind": POSITIVES, "split": SPLITS}
    outside = BASE + KEPT * len(patents.ids) + int(triplets.memory_usage().sum())
    with (
        readable_errors(f"{path} cannot be written", "Free disk space."),
        connect(scratch / "triplets.duckdb", resources, outside=outside) as db,
        tqdm(total=len(triplets), desc="triplets", unit="triplet") as progress,
    ):
        db.execute(SQL["chosen"])
        for start in range(0, len(triplets), 4 * BLOCK):
            rows = triplets.iloc[start : start + 4 * BLOCK]
            block = {f"{role}_id": patents.ids.take(pa.array(rows[role].to_numpy())) for role in ROLES}
            for end in ("anchor", "positive"):  # as texts, because DuckDB reads no lists of codes that are all empty
                block[f"{end}_classes"] = patents.subclasses.take(pa.array(rows[end])).cast(pa.list_(pa.string()))
            db.register("block", pa.table(block | {name: np.array(names[name])[rows[name]] for name in names}))
            db.execute(SQL["block"])
            progress.update(len(rows))
        with ticking(progress, lambda ended: f"writing {100 if ended else max(0, db.query_progress()):.0f} %"):
            db.execute(f"COPY ({SQL['triplets']}) TO {literal(path)} (FORMAT parquet)")


def _write_ids(folder: Path, chosen: pd.DataFrame, patents: Patents) -> None:
    """Write the ids of each split in order of rank, one a line: those of train triplets, and all that are held out."""
    train = chosen[chosen["split"] == SPLITS.index("train")]
    for number, split in enumerate(SPLITS):
        wanted = _mask(patents, *(train[role] for role in ROLES)) if split == "train" else patents.split == number
        ids = patents.ids.filter(pa.array(wanted))
        with (folder / f"ids_{split}.txt").open("w", encoding="utf-8", newline="\n") as file:
            for start in range(0, len(ids), BLOCK):
                file.writelines(f"{name}\n" for name in ids[start : start + BLOCK].to_pylist())


def _counts(chosen: pd.DataFrame, candidates: Candidates, retrieval: np.ndarray, dropped: int) -> dict[str, Any]:
    """What the record says of the triplets."""
    patents, counts, wanted = candidates.patents, candidates.counts, candidates.negatives
    where = patents.where
    by_split = {split: chosen.loc[chosen["split"] == number, "kind"] for number, split in enumerate(SPLITS)}
    train = chosen.loc[chosen["split"] == SPLITS.index("train"), "anchor"].to_numpy()
    reached = np.bincount(where.of(train), minlength=len(where.first)) / max(len(train), 1)
    pairs = [(i, j) for i in range(len(KINDS)) for j in range(len(KINDS)) if i != j]
    return {
        "examiner's citations": candidates.examiner,
        "counts": {**counts, "… chosen": len(chosen)},
        "triplets": _tally(chosen["split"], SPLITS),
        "positives": _tally(chosen["positive_kind"], POSITIVES),
        "sections": {
            "names": where.names.tolist(),
            "corpus": where.share.round(4).tolist(),  # of the classified patents
            "train": reached.round(4).tolist(),  # of the anchors
        },
        "negatives": {  # how many pairs wanted and got each kind, and what they took instead
            "wanted": dict(zip(KINDS, wanted.sum(axis=1).tolist(), strict=True)),
            "got": dict(zip(KINDS, wanted.sum(axis=0).tolist(), strict=False)),
            "fell back": {f"{KINDS[i]} → {KINDS[j]}": int(wanted[i, j]) for i, j in pairs},
            "none found": int(wanted[:, -1].sum()),
            "false negatives dropped": dropped,
        },
        "kinds": {split: _tally(kind, KINDS) for split, kind in by_split.items() if len(kind)},
        "distinct negatives": int(np.count_nonzero(_mask(patents, chosen["negative"]))),
        "patents": _tally(patents.split, SPLITS),
        "queries": _tally(patents.split[np.unique(retrieval[:, 0])], SPLITS),
        "relevant": _tally(patents.split[retrieval[:, 0]], SPLITS),
    }


def _tally(numbers: Any, names: tuple[str, ...]) -> dict[str, int]:
    """How many of the `numbers` stand for each of `names`."""
    return dict(zip(names, np.bincount(numbers, minlength=len(names)).tolist(), strict=True))


def _dates(patents: Patents) -> dict[str, Any]:
    """First and last date of the families of each split; and how many held-out patents are older than train's last.

    A family is as new as its newest patent, by which it is held out.
    """
    newest = pd.Series(patents.day).groupby(patents.family).transform("max").to_numpy()
    train, dated = patents.split == SPLITS.index("train"), patents.dates != ""
    of_split = {name: newest[(patents.split == i) & dated[newest]] for i, name in enumerate(SPLITS)}
    ends = {name: patents.dates[[days.min(), days.max()]].tolist() for name, days in of_split.items() if len(days)}
    older = int((~train & (patents.day < newest[train].max(initial=0))).sum())
    return {"dates of families": ends, "older": older, "undated": int((~dated[patents.day]).sum())}


def write_training_csv(folder: Path, path: Path, resources: Resources = Resources()) -> int:
    """Write `triplet_training.csv`, the train triplets of `folder` with their texts; return the number of rows.

    Raises `InputError` if it does not fit on the disk: each text is repeated for every triplet.
    """
    of_triplets, of_texts = (pq.read_metadata(folder / name) for name in TABLES[:2])
    size = sum(of_texts.row_group(i).total_byte_size for i in range(of_texts.num_row_groups))
    need = 3 * of_triplets.num_rows * size / max(of_texts.num_rows, 1)
    require(path.parent, need, 0, path.name, resources, temporary=need)  # sorted, then written
    triplets, texts = literal(folder / "triplets.parquet"), literal(folder / "texts.parquet")
    sql = f"""
        SELECT anchor_id AS a_id, a.title AS a_title, a.abstract AS a_abstract,
               positive_id AS p_id, p.title AS p_title, p.abstract AS p_abstract,
               negative_id AS n_id, n.title AS n_title, n.abstract AS n_abstract, cpc_subclass AS cpc_id
        FROM {triplets} t JOIN {texts} a ON a.patent_id = anchor_id
        JOIN {texts} p ON p.patent_id = positive_id JOIN {texts} n ON n.patent_id = negative_id
        WHERE t.split = 'train' ORDER BY t.file_row_number"""  # noqa: S608
    with (
        readable_errors(f"{path} cannot be written", "Free disk space, pass a larger --memory, or mine again."),
        beside(path) as scratch,
        resources.scratch(path) as spill,
        connect(spill / "texts.duckdb", resources) as db,
    ):
        rows = db.execute(f"COPY ({sql}) TO {literal(scratch)} (HEADER, FORCE_QUOTE *)").fetchall()
    return int(rows[0][0])
