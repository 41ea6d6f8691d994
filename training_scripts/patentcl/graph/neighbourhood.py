"""The patents around one patent: those that it cites, those that cite it, and the citations among them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..common.cli import InputError
from ..common.duck import connect, readable_errors
from ..tables.import_csvs import rows_of
from .base import Graph

_PATENT = "x.rank AS rank, x.patent_id AS patent_id, x.subclass AS subclass"
_SIDES = {
    "anchor": f"MATCH (x:Patent) WHERE x.patent_id = $patent_id RETURN {_PATENT}",
    "cited": f"MATCH (a:Patent)-[:CITES]->(x:Patent) WHERE a.patent_id = $patent_id RETURN {_PATENT}",
    "citing": f"MATCH (a:Patent)<-[:CITES]-(x:Patent) WHERE a.patent_id = $patent_id RETURN {_PATENT}",
}
_AMONG = """
MATCH (x:Patent)-[:CITES]->(y:Patent) WHERE x.rank IN $ranks AND y.rank IN $ranks
RETURN x.patent_id AS citing, y.patent_id AS cited ORDER BY x.rank, y.rank
"""


@dataclass(frozen=True)
class Neighbourhood:
    """`patents`: patent_id, title, subclass, side (anchor, cited, citing); `citations`: citing, cited (ids).

    `more`: side → number of patents that were left out.
    """

    patents: pd.DataFrame
    citations: pd.DataFrame
    more: dict[str, int]


def neighbourhood(graph: Graph, csvs: Path, patent_id: str, most: int = 8) -> Neighbourhood:
    """The patents around `patent_id`, at most `most` on each side. Raises `InputError` for an unknown id."""
    sides = {side: graph.run(query, {"patent_id": patent_id}).to_pandas() for side, query in _SIDES.items()}
    if sides["anchor"].empty:
        raise InputError(f"the graph has no patent {patent_id}; use an id of the tables")
    shown = {side: rows.sort_values("rank").head(most).assign(side=side) for side, rows in sides.items() if len(rows)}
    patents = pd.concat(shown.values(), ignore_index=True).drop_duplicates("patent_id")
    citations = graph.run(_AMONG, {"ranks": patents["rank"].astype(int).tolist()}).to_pandas()
    titles = f"SELECT patent_id, title FROM ({rows_of(csvs, 'patents.csv')}) WHERE list_contains($ids, patent_id)"  # noqa: S608
    with readable_errors(f"{csvs / 'patents.csv'} cannot be read", "Restructure again with --overwrite."):
        found = connect().execute(titles, {"ids": patents["patent_id"].tolist()}).df().set_index("patent_id")["title"]
    patents.insert(1, "title", patents["patent_id"].map(found))  # the embedded graph has none
    more = {side: len(rows) - len(shown.get(side, ())) for side, rows in sides.items()}
    return Neighbourhood(patents.drop(columns="rank"), citations, more)


def browser_query(around: Neighbourhood) -> str:
    """The query that shows the same in Neo4j Browser."""
    ids = json.dumps(around.patents["patent_id"].tolist())  # quotes them; JSON's escapes are Cypher's
    return (
        f"WITH {ids} AS shown MATCH (x:Patent)-[r:CITES]->(y:Patent) "
        "WHERE x.patent_id IN shown AND y.patent_id IN shown RETURN x, r, y"
    )
