"""The baseline of restructuring: PatentsView's tables → patents, citations and classifications as CSVs with pandas.

    python benchmarks/scale_pandas.py TABLES OUT

Today's names of the tables and columns, all in memory, in the obvious way: read, merge, sort, write. The rows are
those of `patentcl.tables.restructure`; the other import CSVs are left out, which is in favour of pandas.
"""

import hashlib
import sys
from pathlib import Path

import pandas as pd

SEED = 42
PLACES, BUCKETS = 1_000_000, 999_983


def read(tables: Path, name: str, *columns: str) -> pd.DataFrame:
    """The columns of a table as texts."""
    return pd.read_csv(
        tables / f"{name}.tsv", sep="\t", usecols=list(columns), dtype=str, keep_default_na=False
    )  # an empty field stays the empty text


def number_of(text: str) -> int:
    """A pseudo-random number below 2**60."""
    return int(hashlib.md5(text.encode()).hexdigest()[:15], 16)  # noqa: S324


def classes(tables: Path) -> pd.DataFrame:
    """Distinct subclasses of each patent, the primary one first."""
    rows = read(tables, "g_cpc_current", "patent_id", "cpc_sequence", "cpc_subclass")
    rows["cpc_subclass"] = rows["cpc_subclass"].str.strip()
    rows["cpc_sequence"] = pd.to_numeric(rows["cpc_sequence"], errors="coerce").fillna(0).astype(int)
    rows = rows[rows["cpc_subclass"] != ""].sort_values(["cpc_sequence", "cpc_subclass"])
    return rows.drop_duplicates(["patent_id", "cpc_subclass"])


def numbered(tables: Path, of_patents: pd.DataFrame) -> pd.DataFrame:
    """The patents with their texts and classes, in order of rank."""
    patents = read(
        tables, "g_patent", "patent_id", "patent_type", "patent_date", "patent_title", "withdrawn"
    ).sort_values("patent_title")
    patents = patents.drop_duplicates("patent_id")
    patents = patents[~patents["withdrawn"].isin(["1", "true"])].drop(columns="withdrawn")
    lists = of_patents.groupby("patent_id")["cpc_subclass"].agg(list).rename("subclasses")
    patents = patents.merge(lists, on="patent_id", how="left")
    patents["subclass"] = patents["subclasses"].str[0].fillna("")
    patents["last"] = patents["subclass"] == ""
    patents["section"], patents["class"] = patents["subclass"].str[:1], patents["subclass"].str[:3]
    patents["hash"] = [hashlib.md5(f"{SEED}:{i}".encode()).hexdigest() for i in patents["patent_id"]]  # noqa: S324
    order = ["last", "section", "class", "subclass", "hash"]
    patents = patents.sort_values(order, ignore_index=True).drop(columns=["last", "section", "class", "hash"])
    patents["rank"] = patents.index
    abstracts = read(tables, "g_patent_abstract", "patent_id", "patent_abstract").drop_duplicates("patent_id")
    patents = patents.merge(abstracts, on="patent_id", how="left")
    patents["abstract"] = patents.pop("patent_abstract").fillna("")
    return patents


def with_families(patents: pd.DataFrame) -> pd.DataFrame:
    """Families of equal abstracts, and their numbers."""
    letters = patents["abstract"].str.lower().str.replace(r"[\W_]+", "", regex=True)
    keys = (":text:" + letters).where(letters != "", ":id:" + patents["patent_id"])
    patents["family"] = [number_of(f"{SEED}{key}") for key in keys]
    newest = patents.groupby("family")["patent_date"].agg(["max", "size"])
    of_days = newest.groupby("max")["size"].sum().sort_index(ascending=False)
    newer = of_days.cumsum() - of_days
    patents["place"] = patents["family"] % PLACES
    patents["time_place"] = patents["family"].map(newest["max"]).map(newer) * PLACES // len(patents)
    patents["bucket"] = patents["family"] % BUCKETS
    return patents


def citations(tables: Path, rank: pd.DataFrame) -> pd.DataFrame:
    """Distinct citations between patents of the table."""
    rows = read(tables, "g_us_patent_citation", "patent_id", "citation_patent_id", "citation_category")
    rows = rows.merge(rank.rename(columns={"rank": "start"}), on="patent_id")
    ends = rank.set_axis(["citation_patent_id", "end"], axis=1)
    rows = rows.merge(ends, on="citation_patent_id")
    rows["examiner"] = rows["citation_category"] == "cited by examiner"
    rows = rows[rows["start"] != rows["end"]]
    return rows.groupby(["start", "end"], as_index=False).agg({"examiner": "any"})


def restructure(tables: Path, out: Path) -> None:
    """Write the CSVs of `tables` to the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    of_patents = classes(tables)
    patents = with_families(numbered(tables, of_patents))
    rank = patents[["patent_id", "rank"]]
    cites = citations(tables, rank)
    cites.to_csv(out / "citations.csv", index=False)
    patents["cites"] = patents["rank"].map(cites["start"].value_counts()).fillna(0).astype(int)
    patents["cited_by"] = patents["rank"].map(cites["end"].value_counts()).fillna(0).astype(int)
    patents["has_abstract"] = patents["abstract"].str.strip() != ""
    patents["subclasses"] = patents["subclasses"].str.join(";").fillna("")
    patents = patents.rename(columns={f"patent_{name}": name for name in ("title", "date", "type")})
    first = ["rank", "patent_id", "title", "abstract", "date", "type", "subclass", "subclasses"]
    numbers = ["family", "place", "time_place", "bucket", "cites", "cited_by", "has_abstract"]
    patents[first + numbers].to_csv(out / "patents.csv", index=False)
    links = of_patents.merge(rank, on="patent_id").sort_values(["cpc_subclass", "rank"])
    links[["cpc_subclass", "rank"]].to_csv(out / "classifications.csv", index=False)


if __name__ == "__main__":
    restructure(*map(Path, sys.argv[1:]))
