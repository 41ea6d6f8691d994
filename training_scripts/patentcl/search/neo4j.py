"""The vectors of a corpus in a Neo4j server, and the query that finds similar patents there, with their citations.

https://neo4j.com/docs/cypher-manual/current/indexes/semantic-indexes/vector-indexes/
"""

from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from ..common.cli import InputError
from ..common.resources import Resources
from ..graph.neo4j import Neo4jGraph
from ..graph.options import Neo4jOptions
from .queries import Search

BATCH = 1_000  # vectors per transaction
SEARCH_CLAUSE = (2026, 1)  # the first version of the server that has it; not tested
_INDEX = """CREATE VECTOR INDEX patent_vectors IF NOT EXISTS FOR (p:Patent) ON (p.embedding)
OPTIONS {{indexConfig: {{`vector.dimensions`: {dimensions}, `vector.similarity_function`: 'cosine'}}}}"""
_BATCH = """MATCH (i:PatentCL {vectors: $name}) UNWIND $rows AS row MATCH (p:Patent {patent_id: row[0]})
CALL db.create.setNodeVectorProperty(p, 'embedding', row[1])
WITH i, count(*) AS n SET i.vectors_written = $written RETURN n"""
_PROCEDURE = "CALL db.index.vector.queryNodes('patent_vectors', $count, a.embedding) YIELD node AS p, score"
_CLAUSE = "MATCH (p:Patent) SEARCH p IN (VECTOR INDEX patent_vectors FOR a.embedding LIMIT $count) SCORE AS score"
_QUERY = """MATCH (a:Patent {{patent_id: $patent_id}})
{}
RETURN p.patent_id AS patent_id, p.title AS title, p.date AS date, p.subclasses AS cpc, 2 * score - 1 AS score,
       COLLECT {{ MATCH (p)-[:CITES]->(x:Patent) RETURN x.patent_id }} AS cites,
       COLLECT {{ MATCH (p)<-[:CITES]-(x:Patent) RETURN x.patent_id }} AS cited_by
ORDER BY score DESC"""


def similar_query(version: tuple[int, ...]) -> str:
    """Cypher for a server of this version: the $count patents nearest to the patent $patent_id, and their citations."""
    return "CYPHER 25\n" + _QUERY.format(_CLAUSE) if version >= SEARCH_CLAUSE else _QUERY.format(_PROCEDURE)


def write_to_neo4j(data: Path, search: Search, overwrite: bool) -> None:
    """Write the vectors to the server that the environment names and that has the graph of `data`; print a query.

    A patent gets its vector as the property `embedding`, which a vector index covers. An interrupted run resumes.
    Raises `InputError` if there are vectors of another model, unless `overwrite`, and for another graph.
    """
    with closing(Neo4jGraph(data, Resources(), Neo4jOptions())) as graph:
        graph.import_csvs(data / "graph")  # checks that they are imported
        _write(graph, search, overwrite)
        print(f"neo4j: the vectors are stored; a query for Neo4j Browser:\n{similar_query(graph.version)}")


def _write(graph: Neo4jGraph, search: Search, overwrite: bool) -> None:
    name = search.model.fingerprint
    [state] = graph.run("MATCH (i:PatentCL) RETURN i.vectors AS vectors, i.vectors_written AS written").to_pylist()
    if state["vectors"] not in (None, name) and not overwrite:
        raise InputError(f"{graph.server} contains the vectors of another model; add --overwrite to replace them")
    if state["vectors"] != name or overwrite:
        graph.write("DROP INDEX patent_vectors IF EXISTS")
        graph.write("MATCH (i:PatentCL) SET i.vectors = $name, i.vectors_written = 0", {"name": name})
        state["written"] = 0
    graph.write(_INDEX.format(dimensions=search.vectors.shape[1]))
    ids = search.corpus.find("true", {})["patent_id"].tolist()
    for start in tqdm(range(state["written"], len(ids), BATCH), "vectors to Neo4j", unit=f"{BATCH:,} patents"):
        vectors = search.vectors[start : start + BATCH].astype(float).tolist()
        rows = [list(row) for row in zip(ids[start : start + BATCH], vectors, strict=True)]
        if not graph.write(_BATCH, {"rows": rows, "name": name, "written": start + len(rows)}):
            raise InputError(f"{graph.server}: the graph was replaced meanwhile; run again")
    graph.write("CALL db.awaitIndexes(36000)")
