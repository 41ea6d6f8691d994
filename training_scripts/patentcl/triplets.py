"""Triplets on disk: chosen from what the graph answered, written, read again, reported.

`data/triplets/<name>/` holds `triplets.parquet` (anchor_id, positive_id, negative_id, negative_kind, cpc_subclass,
split), `texts.parquet` (one row a patent), `retrieval.parquet` (query_id, relevant_id, split: what held-out patents
cite) and `triplets.json`, the record.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from .files import NEVER, InputError, beside, fingerprint

KINDS = ("citation", "sibling", "random")
FAMILY_BUCKETS, SAMPLE_BUCKETS = 1_000_000, 999_983  # as in triplets.cypher
P, Q = 1_000_000_007, 998_244_353  # primes above any count of patents, so that draws visit all of a branch


@dataclass(frozen=True)
class Mining:
    """What to mine. Shares are of patents for `val` and `test`, and of triplets for `negatives`.

    At most `most_held_out` patents are held out for each of val and test, and at most `most_queries` triplets and
    retrieval queries are kept for each; `corpus` bounds the patents among which the cited ones must be found.
    """

    triplets: int | None = 10_000
    per_anchor: int = 3
    negatives: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 1 / 3))
    val: float = 0.1
    test: float = 0.2
    most_held_out: int = 20_000
    most_queries: int = 2_000
    corpus: int = 50_000
    draws: int = 4


def held_out(patents: int, mining: Mining) -> tuple[int, int]:
    """Bounds of the family number (mod 1000000): test lies below the first, val below the second."""
    if mining.per_anchor < 1:
        raise InputError(f"--per-anchor {mining.per_anchor} must be at least 1")
    if not 0 < mining.test < 1 or not 0 < mining.val < 1 or mining.val + mining.test >= 1:
        raise InputError(f"--val {mining.val} and --test {mining.test} are shares: both above 0, together below 1")
    test = min(mining.test, mining.most_held_out / patents)
    val = min(mining.val, mining.most_held_out / patents)
    return round(test * FAMILY_BUCKETS), round((test + val) * FAMILY_BUCKETS)


def write_triplets(
    folder: Path, graph: Path, source: dict[str, Any], mining: Mining, found: dict[str, pd.DataFrame]
) -> dict[str, Any]:
    """Choose the triplets, look their texts up, write the Parquet files; return the counts."""
    seed = source["asked"]["seed"]
    with duckdb.connect() as db:
        db.execute("SET enable_progress_bar = false")
        try:
            db.execute(_READ_PATENTS, {"path": str(graph / "patents.csv"), "never": NEVER})
        except duckdb.Error as problem:
            reason = str(problem).splitlines()[0]
            raise InputError(f"{graph / 'patents.csv'} cannot be read ({reason}): add --overwrite") from None
        test, held = held_out(source["counts"]["patents"], mining)
        db.execute(f"SET VARIABLE test = {test}; SET VARIABLE held = {held}")
        numbers = db.execute("SELECT rank, family, has_abstract FROM patent ORDER BY rank").df()
        split_of = _splits(numbers["family"].to_numpy(), test, held)
        pairs = _positives(found["cited"], mining.per_anchor, seed)
        pairs["split"] = split_of[pairs["anchor"].to_numpy()]
        triplets, negatives = _negatives(pairs, found, mining, seed)
        triplets["order"] = numbers["family"].to_numpy()[triplets["anchor"].to_numpy()] % SAMPLE_BUCKETS
        chosen = _choose(triplets, mining)
        if not (chosen["split"] == "train").any():
            raise InputError(
                f"{graph} gives no train triplet: none of its {source['counts']['citations']} citations joins two "
                "train patents of different families that share a subclass and have abstracts, with a negative "
                "besides; use larger tables, or lower --val and --test"
            )
        retrieval = _retrieval(found["cited"], split_of, mining, seed)
        corpus = _corpus(retrieval, numbers.loc[numbers["has_abstract"], "rank"].to_numpy(), mining, seed)
        for table, frame in {"chosen": chosen, "retrieval": retrieval, "corpus": corpus}.items():
            db.register(table, frame)
        for file, sql in _FILES.items():
            db.execute(f"COPY ({sql}) TO '{str(folder / file).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)")
    return {
        "found": _funnel(found["cited"], pairs, triplets, chosen),
        "triplets": chosen["split"].value_counts().reindex(["train", "val", "test"], fill_value=0).to_dict(),
        "negatives": negatives,
        "kinds": {
            s: g["kind"].value_counts().reindex(KINDS, fill_value=0).to_dict() for s, g in chosen.groupby("split")
        },
        "distinct negatives": int(chosen["negative"].nunique()),
        "held out": {s: int((split_of == s).sum()) for s in ("val", "test")},
        "queries": retrieval.groupby("split")["query"].nunique().reindex(["val", "test"], fill_value=0).to_dict(),
        "relevant": retrieval["split"].value_counts().reindex(["val", "test"], fill_value=0).to_dict(),
        "corpus": len(corpus),
    }


_READ_PATENTS = """
CREATE TABLE patent AS
SELECT "rank:ID(Patent){id-type:long}" AS rank, patent_id, title, abstract, date, subclass,
       string_split("subclasses:string[]", ';') AS subclasses, "family:long" AS family,
       "has_abstract:boolean" AS has_abstract
FROM read_csv($path, header = true, delim = ',', quote = '"', escape = '"', auto_detect = false,
    max_line_size = 33554432, nullstr = $never,
    columns = {'rank:ID(Patent){id-type:long}': 'BIGINT', 'patent_id': 'VARCHAR', 'title': 'VARCHAR',
    'abstract': 'VARCHAR', 'date': 'VARCHAR', 'type': 'VARCHAR', 'subclass': 'VARCHAR',
    'subclasses:string[]': 'VARCHAR',
    'family:long': 'BIGINT', 'has_abstract:boolean': 'BOOLEAN'})
"""

_FILES = {
    "triplets.parquet": """
        SELECT a.patent_id AS anchor_id, p.patent_id AS positive_id, n.patent_id AS negative_id, kind AS negative_kind,
               list_filter(a.subclasses, lambda s: list_contains(p.subclasses, s))[1] AS cpc_subclass, split
        FROM chosen JOIN patent a ON a.rank = anchor JOIN patent p ON p.rank = positive
        JOIN patent n ON n.rank = negative ORDER BY position""",
    "texts.parquet": """
        SELECT patent_id, title, abstract, date,
               CASE WHEN is_cpc THEN left(subclass, 1) ELSE subclass END AS section,
               CASE WHEN is_cpc THEN left(subclass, 3) ELSE subclass END AS class,
               subclass, CASE WHEN subclass = '' THEN [] ELSE subclasses END AS subclasses, family,
               CASE WHEN family % 1000000 < getvariable('test') THEN 'test'
                    WHEN family % 1000000 < getvariable('held') THEN 'val' ELSE 'train' END AS split,
               rank IN (SELECT rank FROM corpus) AS in_corpus
        FROM (SELECT * EXCLUDE (has_abstract), regexp_full_match(subclass, '[A-HY][0-9]{2}[A-Z]') AS is_cpc FROM patent)
        WHERE rank IN (SELECT anchor FROM chosen UNION SELECT positive FROM chosen UNION SELECT negative FROM chosen
                       UNION SELECT rank FROM corpus)
        ORDER BY rank""",
    "retrieval.parquet": """
        SELECT q.patent_id AS query_id, r.patent_id AS relevant_id, split FROM retrieval
        JOIN patent q ON q.rank = query JOIN patent r ON r.rank = relevant ORDER BY q.rank, r.rank""",
}


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """Seeded 64-bit hash of integers, (n,) → (n,) uint64.

    The finaliser of splitmix64 (Steele et al. 2014, doi 10.1145/2660193.2660195).
    """
    z = values.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _splits(families: np.ndarray, test: int, held: int) -> np.ndarray:
    """Split of each family number, (n,) → (n,) of "train", "val", "test"."""
    bucket = families % FAMILY_BUCKETS
    return np.where(bucket < test, "test", np.where(bucket < held, "val", "train")).astype(object)


def _positives(cited: pd.DataFrame, per_anchor: int, seed: int) -> pd.DataFrame:
    """At most `per_anchor` positives of each anchor, in seeded order; `nth` counts them from 0."""
    pairs = cited[["anchor", "positives"]].explode("positives").dropna()
    pairs = pairs.rename(columns={"positives": "positive"}).astype(np.int64)
    pairs["key"] = mix(pairs["positive"].to_numpy() * P + pairs["anchor"].to_numpy(), seed)
    pairs = pairs.sort_values(["anchor", "key"], ignore_index=True)
    pairs["nth"] = pairs.groupby("anchor").cumcount()
    return pairs[pairs["nth"] < per_anchor].drop(columns="key").reset_index(drop=True)


def _negatives(
    pairs: pd.DataFrame, found: dict[str, pd.DataFrame], mining: Mining, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give each pair a negative of a kind drawn by its share, else of the next kind; count wanted → got."""
    uniform = mix(pairs["anchor"].to_numpy() * 1009 + pairs["nth"].to_numpy(), seed + 1) / 2.0**64
    bounds = np.cumsum([mining.negatives[kind] for kind in KINDS])
    wanted = np.minimum(np.searchsorted(bounds, uniform, side="right"), len(KINDS) - 1)
    offered = np.stack(
        [found[kind].set_index("anchor")["negative"].reindex(pairs["anchor"]).to_numpy(float) for kind in KINDS],
        axis=1,
    )
    negative, kind = np.full(len(pairs), np.nan), np.full(len(pairs), -1)
    for step in range(len(KINDS)):
        candidate = (wanted + step) % len(KINDS)
        value = offered[np.arange(len(pairs)), candidate]
        take = np.isnan(negative) & ~np.isnan(value)
        negative[take], kind[take] = value[take], candidate[take]
    counts = {
        "wanted": {k: int((wanted == i).sum()) for i, k in enumerate(KINDS)},
        "got": {k: int((kind == i).sum()) for i, k in enumerate(KINDS)},
        "fell back": {
            f"{a} → {b}": int(((wanted == i) & (kind == j)).sum())
            for i, a in enumerate(KINDS)
            for j, b in enumerate(KINDS)
            if i != j
        },
        "none found": int((kind < 0).sum()),
    }
    triplets = pairs[kind >= 0].copy()
    triplets["negative"] = negative[kind >= 0].astype(np.int64)
    triplets["kind"] = np.array(KINDS)[kind[kind >= 0]]
    return triplets, counts


def _choose(triplets: pd.DataFrame, mining: Mining) -> pd.DataFrame:
    """The first triplets of each split in a seeded order: an anchor's second positive comes after all first ones.

    A smaller number is a prefix of a larger one, so sizes are nested.
    """
    most = {"train": mining.triplets, "val": mining.most_queries, "test": mining.most_queries}
    ordered = triplets.sort_values(["nth", "order", "anchor"])
    parts = [ordered[ordered["split"] == split].head(len(ordered) if n is None else n) for split, n in most.items()]
    chosen = pd.concat(parts, ignore_index=True)
    chosen["position"] = np.arange(len(chosen))
    return chosen


def _retrieval(cited: pd.DataFrame, split_of: np.ndarray, mining: Mining, seed: int) -> pd.DataFrame:
    """Held-out queries and the patents that they cite: columns query, relevant (ranks), split."""
    pairs = cited[["anchor", "relevant"]].explode("relevant").dropna().astype(np.int64)
    pairs = pairs.rename(columns={"anchor": "query"}).sort_values(["query", "relevant"], ignore_index=True)
    queries = pairs["query"].drop_duplicates().to_numpy()
    queries = queries[np.argsort(mix(queries, seed + 2), kind="stable")]
    kept = [queries[split_of[queries] == split][: mining.most_queries] for split in ("val", "test")]
    pairs = pairs[pairs["query"].isin(np.concatenate(kept))].reset_index(drop=True)
    pairs["split"] = split_of[pairs["query"].to_numpy()]
    return pairs


def _corpus(retrieval: pd.DataFrame, ranks: np.ndarray, mining: Mining, seed: int) -> pd.DataFrame:
    """The patents to search: all, or the queries with what they cite filled up to `corpus` with a seeded sample."""
    asked = pd.unique(retrieval[["query", "relevant"]].to_numpy().ravel())
    order = ranks[np.argsort(mix(ranks, seed + 3), kind="stable")]
    others = order[~np.isin(order, asked)][: max(0, mining.corpus - len(asked))]
    return pd.DataFrame({"rank": np.sort(np.concatenate([asked, others]).astype(np.int64))})


def _funnel(cited: pd.DataFrame, pairs: pd.DataFrame, triplets: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, int]:
    """How many citation pairs were found and what became of them."""
    return {
        "anchors looked at that cite inside the table": len(cited),
        "citation pairs of theirs inside the table": int(cited["cited"].sum()),
        "… both with an abstract": int(cited["with_abstract"].sum()),
        "… sharing a CPC subclass": int(cited["sharing"].sum()),
        "… of different families": int(cited["other_family"].sum()),
        "… not across splits": int(cited["positives"].str.len().sum()),
        "… within the limit per anchor": len(pairs),
        "… with a negative": len(triplets),
        "… chosen": len(chosen),
    }


def report(record: dict[str, Any]) -> str:
    """The record of a mining as lines for a reader."""
    lines = [f"{label:46} {count:>12,}" for label, count in record["found"].items()]
    got, asked = record["negatives"]["got"], record["negatives"]["wanted"]
    lines.append("of the pairs within the limit, those with a negative that is")
    lines += [f"{f'  {kind}':46} {got[kind]:>12,}  (wanted {asked[kind]:,})" for kind in KINDS]
    lines += [f"{f'    {way}':46} {count:>12,}" for way, count in record["negatives"]["fell back"].items() if count]
    lines.append("of the chosen triplets")
    for kind in KINDS:
        lines.append(f"{f'  {kind}':46} {sum(counts[kind] for counts in record['kinds'].values()):>12,}")
    lines.append(f"{'  distinct negatives':46} {record['distinct negatives']:>12,}")
    for split, count in record["triplets"].items():
        queries = record["queries"].get(split)
        more = f"  ({queries:,} queries that cite {record['relevant'][split]:,})" if queries is not None else ""
        lines.append(f"{f'triplets {split}':46} {count:>12,}{more}")
    lines.append(f"{'patents to search':46} {record['corpus']:>12,}")
    return "\n".join(lines)


def write_training_csv(folder: Path, path: Path) -> int:
    """Write `triplet_training.csv`, the train triplets of `folder` with their texts; return the number of rows."""
    try:
        with beside(path) as scratch, duckdb.connect() as db:
            db.execute("SET enable_progress_bar = false")
            triplets, texts, target = (
                str(p).replace("'", "''") for p in (folder / "triplets.parquet", folder / "texts.parquet", scratch)
            )
            row = db.execute(f"""
                COPY (SELECT anchor_id AS a_id, a.title AS a_title, a.abstract AS a_abstract,
                             positive_id AS p_id, p.title AS p_title, p.abstract AS p_abstract,
                             negative_id AS n_id, n.title AS n_title, n.abstract AS n_abstract, cpc_subclass AS cpc_id
                      FROM '{triplets}' t JOIN '{texts}' a ON a.patent_id = anchor_id
                      JOIN '{texts}' p ON p.patent_id = positive_id JOIN '{texts}' n ON n.patent_id = negative_id
                      WHERE t.split = 'train' ORDER BY t.file_row_number)
                TO '{target}' (HEADER, FORCE_QUOTE *)""").fetchone()  # noqa: S608
    except duckdb.Error as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(f"{folder} holds a damaged file ({reason}): mine again with --overwrite") from None
    return int(row[0]) if row else 0


@dataclass(frozen=True)
class Triplets:
    """Triplets read from disk: ids and splits, one text a patent, and what held-out patents cite.

    `triplets`: anchor_id, positive_id, negative_id, negative_kind, cpc_subclass, split.
    `texts`: patent_id, title, abstract, family, split, in_corpus, and date, section, class, subclass, subclasses.
    `retrieval`: query_id, relevant_id, split.
    """

    triplets: pd.DataFrame
    texts: pd.DataFrame
    retrieval: pd.DataFrame
    fingerprint: str


FILES_OF_FOLDER = ("triplets.parquet", "texts.parquet", "retrieval.parquet")
_CSV_COLUMNS = [f"{role}_{part}" for role in "apn" for part in ("id", "title", "abstract")] + ["cpc_id"]


def load_triplets(path: Path, seed: int = 42) -> Triplets:
    """Read a folder of mined triplets, or a CSV file in the columns of `triplet_training.csv`.

    A CSV has no splits: its families are split by a seeded hash, and triplets across splits are left out.
    Raises `InputError` when the path holds neither.
    """
    if path.suffix == ".csv":
        return _load_csv(path, seed)
    missing = next((name for name in FILES_OF_FOLDER if not (path / name).is_file()), None)
    if missing:
        raise InputError(f"{path} holds no {missing}: mine triplets first with patent_handler.py")
    try:
        triplets, texts, retrieval = (pd.read_parquet(path / name) for name in FILES_OF_FOLDER)
    except (OSError, ValueError) as problem:  # pyarrow's errors are of these kinds
        raise InputError(f"{path} holds a damaged file ({problem}): mine again with --overwrite") from None
    return Triplets(triplets, texts, retrieval, fingerprint(path / name for name in FILES_OF_FOLDER))


def _load_csv(path: Path, seed: int) -> Triplets:
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} cannot be read as CSV ({problem}): mend the file") from None
    for column in _CSV_COLUMNS:
        if column not in rows:
            raise InputError(f"{path}, line 1: there is no column {column}; wanted are {', '.join(_CSV_COLUMNS)}")
    if rows.empty:
        raise InputError(f"{path} holds no triplet, only a header")
    roles = [
        rows[[f"{role}_id", f"{role}_title", f"{role}_abstract"]].set_axis(["patent_id", "title", "abstract"], axis=1)
        for role in "apn"
    ]
    texts = pd.concat(roles).drop_duplicates("patent_id", ignore_index=True)
    normal = texts["abstract"].str.lower().str.replace(r"[ \t\n\r]+", "", regex=True)
    numbers = [int(hashlib.md5(f"{seed}:file:{text}".encode()).hexdigest()[:15], 16) for text in normal]  # noqa: S324
    texts["family"] = np.array(numbers, dtype=np.int64)
    texts["split"] = _splits(texts["family"].to_numpy(), *held_out(len(texts), Mining()))
    symbol = pd.concat([rows.set_index(f"{r}_id")["cpc_id"] for r in "ap"])  # the class that anchor and positive share
    texts["subclass"] = texts["patent_id"].map(symbol[~symbol.index.duplicated()]).fillna("")
    is_cpc = texts["subclass"].str.fullmatch("[A-HY][0-9]{2}[A-Z]")
    texts = texts.assign(section=texts["subclass"].where(~is_cpc, texts["subclass"].str[:1]), date="", in_corpus=True)
    texts["class"] = texts["subclass"].where(~is_cpc, texts["subclass"].str[:3])
    texts["subclasses"] = texts["subclass"].map(lambda symbol: [symbol] if symbol else [])
    split_of = texts.set_index("patent_id")["split"]
    triplets = rows[["a_id", "p_id", "n_id", "cpc_id"]].set_axis(
        ["anchor_id", "positive_id", "negative_id", "cpc_subclass"], axis=1
    )
    triplets["negative_kind"], triplets["split"] = "given", triplets["anchor_id"].map(split_of)
    level = {"train": 0, "val": 1, "test": 2}  # a role is played by a patent of the same split or a more public one
    levels = triplets[["anchor_id", "positive_id", "negative_id"]].apply(lambda ids: ids.map(split_of).map(level))
    allowed = levels.max(axis=1) <= levels["anchor_id"]
    triplets = triplets[allowed].reset_index(drop=True)
    retrieval = triplets.loc[triplets["split"] != "train", ["anchor_id", "positive_id", "split"]].drop_duplicates()
    retrieval = retrieval.set_axis(["query_id", "relevant_id", "split"], axis=1).reset_index(drop=True)
    return Triplets(triplets, texts, retrieval, fingerprint([path]))
