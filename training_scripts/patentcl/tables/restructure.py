"""PatentsView's tables → patents numbered by CPC → the import CSVs of the graph, with DuckDB and out of core.

Patents are numbered 0 … N-1 (`rank`) in the order of section, class, subclass (of the primary symbol) and a seeded
hash of the id; unclassified patents come last. Each section, class and subclass is then one contiguous range of
ranks, so a random patent of any branch is arithmetic: `first + something % count`.

A `family` is the set of patents whose abstracts are the same in letters and digits, but for case (continuations
repeat their parent's). It is a seeded hash of that text. Splits are made of whole families, see `mining.py`:
`split` holds a family's two places from 0 to 999,999, at random (% 1000000) and from new to old (// 1000000).

A patent outside the table has no text, but two patents that cite it have something in common: those that at least two
cite are in the graph too, as `OutsidePatent`.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from tqdm import tqdm

from ..common.cli import InputError
from ..common.duck import connect, readable_errors
from ..common.files import beside, check_replaceable, fingerprint, is_done, plain, read_json, write_record
from . import cpc, family
from .import_csvs import CSV_FILES, FINGERPRINT_FILE, write_csv
from .patentsview import Source, create_table, find_tables, source_files

RECORD = "graph.json"

_NUMBER_OF = "CREATE MACRO number_of(text) AS ('0x' || left(md5(text), 15))::BIGINT;"

# One row an id. A repeated row is rare, so only the repeated ids are sorted out, not all of the table.
_KEPT = """
CREATE TABLE repeated AS SELECT patent_id FROM patent_rows GROUP BY patent_id HAVING count(*) > 1;
CREATE TABLE kept AS
    SELECT * FROM patent_rows WHERE patent_id NOT IN (FROM repeated)
    UNION ALL
    SELECT unnest(r) FROM (SELECT min(r) AS r FROM patent_rows r WHERE patent_id IN (FROM repeated) GROUP BY patent_id);
DELETE FROM kept WHERE trim(patent_id) = '';
"""

_ABSTRACTS = """
CREATE TABLE abstract AS
    SELECT patent_id, min(abstract) AS abstract FROM {rows} r SEMI JOIN kept USING (patent_id) GROUP BY patent_id;
"""

_CLASSES = """
CREATE TABLE class AS
    SELECT patent_id, subclass, min(coalesce(try_cast(sequence AS INTEGER), 0)) AS sequence
    FROM (SELECT patent_id, trim(subclass) AS subclass, sequence FROM class_rows)
    SEMI JOIN kept USING (patent_id) WHERE subclass <> '' GROUP BY ALL;
CREATE TABLE classes_of AS
    SELECT patent_id, list(subclass ORDER BY sequence, subclass) AS subclasses FROM class GROUP BY patent_id;
"""

# Numbered without their texts, which would have to be sorted along.
_NUMBERED = """
CREATE TABLE number AS
SELECT row_number() OVER (
           ORDER BY subclass IS NULL, section_of(subclass), class_of(subclass), subclass,
                    md5(getvariable('seed') || ':' || patent_id), patent_id
       ) - 1 AS rank, patent_id
FROM (SELECT patent_id, subclasses[1] AS subclass FROM kept LEFT JOIN classes_of USING (patent_id));
CREATE TABLE patent AS
SELECT rank, patent_id, title, coalesce(abstract.abstract, '') AS abstract, coalesce(date, '') AS date,
       coalesce(type, '') AS type, coalesce(subclasses[1], '') AS subclass, coalesce(subclasses, []) AS subclasses,
       number_of(getvariable('seed') || CASE WHEN letters(coalesce(abstract.abstract, '')) = '' THEN ':id:' || patent_id
                                             ELSE ':text:' || letters(abstract.abstract) END) AS family
FROM number JOIN kept USING (patent_id) LEFT JOIN abstract USING (patent_id) LEFT JOIN classes_of USING (patent_id);
"""

# An examiner's citation says more than an applicant's, so of a repeated citation that category is kept.
_CITATIONS = """
CREATE TABLE linked AS
    SELECT a.rank AS citing, b.rank AS cited, coalesce(category, '') AS category FROM citation_rows c
    JOIN number a ON a.patent_id = c.citing JOIN number b ON b.patent_id = c.cited;
CREATE TABLE citation AS
    SELECT citing, cited, CASE WHEN bool_or(category = 'cited by examiner') THEN 'cited by examiner'
                               ELSE max(category) END AS category
    FROM linked WHERE citing <> cited GROUP BY citing, cited;
"""

_SUBCLASSES = """
CREATE TABLE subclass AS
WITH branch AS (
    SELECT symbol, section_of(symbol) AS section, class_of(symbol) AS class,
           count(patent.rank) AS count, coalesce(min(patent.rank), 0) AS first
    FROM (SELECT DISTINCT subclass AS symbol FROM class) s LEFT JOIN patent ON patent.subclass = s.symbol
    GROUP BY symbol)
SELECT symbol, coalesce(title, '') AS title, class, section, first, count,
       coalesce(min(first) FILTER (count > 0) OVER (PARTITION BY section, class), 0) AS class_first,
       sum(count) OVER (PARTITION BY section, class)::BIGINT AS class_count,
       coalesce(min(first) FILTER (count > 0) OVER (PARTITION BY section), 0) AS section_first,
       sum(count) OVER (PARTITION BY section)::BIGINT AS section_count
FROM branch LEFT JOIN (SELECT symbol, min(title) AS title FROM titles GROUP BY symbol) USING (symbol);
"""

# Patents outside the table that at least two cite; who cites what is cited by them alone shares nothing through it.
_OUTSIDE = """
CREATE TABLE beyond AS
    SELECT DISTINCT a.rank AS citing, c.cited FROM citation_rows c JOIN number a ON a.patent_id = c.citing
    ANTI JOIN number b ON b.patent_id = c.cited WHERE trim(c.cited) <> '';
CREATE TABLE outside AS
    SELECT row_number() OVER (ORDER BY cited) - 1 AS number, cited AS patent_id, count(*) AS cited_by
    FROM beyond GROUP BY cited HAVING count(*) > 1;
"""

# A family is as new as its newest member, so that none of it is older than its split says. Newness is the share of
# patents in newer families, in millionths; a family without a date counts as older than all.
_NEWNESS = """
CREATE TABLE newness AS
WITH newest AS (SELECT family, max(date) AS date, count(*) AS patents FROM patent GROUP BY family),
     days AS (SELECT date, sum(patents) AS patents FROM newest GROUP BY date),
     newer AS (SELECT date, sum(patents) OVER (ORDER BY date DESC) - patents AS patents FROM days)
SELECT family, (newer.patents * 1000000 // (SELECT count(*) FROM patent))::BIGINT AS newness
FROM newest JOIN newer USING (date);
"""

_EXPORTS = {
    "patents.csv": """
        SELECT patent.*, newness * 1000000 + family % 1000000 AS split, coalesce(cited_by, 0) AS cited_by,
               trim(abstract) <> '' AS has_abstract
        FROM patent JOIN newness USING (family)
        LEFT JOIN (SELECT cited AS rank, count(*) AS cited_by FROM citation GROUP BY cited) USING (rank)
        ORDER BY rank""",
    "cpc_subclasses.csv": "FROM subclass ORDER BY symbol",
    "outside_patents.csv": "FROM outside ORDER BY number",
    "citations.csv": 'SELECT citing AS start, cited AS "end", category FROM citation ORDER BY citing, cited',
    "outside_citations.csv": """
        SELECT citing AS start, number AS "end" FROM beyond JOIN outside ON patent_id = cited
        ORDER BY citing, number""",
    "classifications.csv": """
        SELECT class.subclass AS start, rank AS "end" FROM class JOIN number USING (patent_id) ORDER BY 1, 2""",
}

_COUNTS = {
    "patents": "SELECT count(*) FROM patent",
    "classified": "SELECT count(*) FROM patent WHERE subclass <> ''",
    "with abstract": "SELECT count(*) FROM patent WHERE trim(abstract) <> ''",
    "families": "SELECT count(DISTINCT family) FROM patent",
    "CPC subclasses": "SELECT count(*) FROM subclass",
    "classifications": "SELECT count(*) FROM class",
    "citations": "SELECT count(*) FROM citation",
    "citing patents": "SELECT count(DISTINCT citing) FROM citation",
    "outside patents cited by several": "SELECT count(*) FROM outside",
    "citations of these": "SELECT coalesce(sum(cited_by), 0)::BIGINT FROM outside",
}


def restructure(
    tables: Path,
    graph: Path,
    seed: int = 42,
    keep_withdrawn: bool = False,
    memory: str = "4GB",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the import CSVs of the corpus in `tables` to the folder `graph`; return the record `graph.json`.

    The record holds what was params, the counts, and what was dropped and why. Asked again with the same tables and
    parameters, nothing is done. Raises `InputError` for tables that cannot be read.
    """
    if plain(graph).resolve() in (plain(tables).resolve(), *tables.resolve().parents):
        raise InputError(f"{graph} would be replaced, and the tables lie in it: keep them in another folder")
    files = source_files(tables)
    params = {"tables": fingerprint(files), "seed": seed, "keep_withdrawn": keep_withdrawn}
    if not overwrite and is_done(graph / RECORD, params):
        print(f"restructure: {graph} is up to date")
        return read_json(graph / RECORD)
    check_replaceable(graph / RECORD, params, overwrite)
    failed = readable_errors("DuckDB failed", "Is there room on the disk?")
    with beside(graph) as folder, failed, _enough_memory(memory):
        scratch = folder / "scratch"
        scratch.mkdir(parents=True)
        sources = find_tables(tables, scratch)
        with _connect(scratch, memory) as db, tqdm(total=9, desc="restructure", unit="step") as progress:
            rows = _read(db, sources, keep_withdrawn, progress)
            db.execute("SET VARIABLE seed = $seed::VARCHAR", {"seed": seed})
            for sql in (_CLASSES, _NUMBERED, _CITATIONS, _OUTSIDE, _NEWNESS, _SUBCLASSES):
                db.execute(sql)
                progress.update()
            record = {"params": params, "counts": _counts(db), "rows": rows, "dropped": _dropped(db, rows)}
            record["fingerprint"] = _fingerprint(record)
            for name, sql in _EXPORTS.items():
                write_csv(db, folder, name, sql)
            (folder / FINGERPRINT_FILE).write_text(
                f"fingerprint:ID(PatentCL),complete:boolean\n{record['fingerprint']},true\n"
            )
            progress.update()
        for file in scratch.iterdir():
            file.unlink()
        scratch.rmdir()
        write_record(folder / RECORD, record, CSV_FILES)
    return record


@contextmanager
def _enough_memory(memory: str) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise InputError(f"--memory {memory} is not enough for these tables. Give more, at least 1GB") from None


def _connect(scratch: Path, memory: str) -> duckdb.DuckDBPyConnection:
    db = connect(scratch / "work.duckdb")
    try:
        db.execute("SET memory_limit = $memory", {"memory": memory})
    except duckdb.Error:
        raise InputError(f"--memory {memory} is no amount of memory: write it like 4GB") from None
    db.execute(cpc.MACROS + family.MACRO + _NUMBER_OF)
    return db


def _read(
    db: duckdb.DuckDBPyConnection, sources: dict[str, Source], keep_withdrawn: bool, progress: tqdm
) -> dict[str, int]:
    """Read the tables into DuckDB and keep one row an id; return each table's number of rows."""
    names = {
        "patent": "patent_rows",
        "abstract": "abstract_rows",
        "citation": "citation_rows",
        "cpc": "class_rows",
    }
    rows = {key: create_table(db, table, sources[key]) for key, table in names.items() if key in sources}
    if rows["patent"] == 0:
        raise InputError(f"{sources['patent'].shown} holds no patent, only a header: name another --tables")
    if "cpc_title" in sources:
        rows["cpc_title"] = create_table(db, "titles", sources["cpc_title"])
    else:
        db.execute("CREATE TABLE titles (symbol VARCHAR, title VARCHAR)")
    progress.update()
    db.execute(_KEPT)
    rows["withdrawn"] = _one(db, "SELECT count(*) FROM kept WHERE lower(withdrawn) IN ('1', 'true', 't', 'yes')")
    if not keep_withdrawn:
        db.execute("DELETE FROM kept WHERE lower(withdrawn) IN ('1', 'true', 't', 'yes')")
    db.execute(_ABSTRACTS.format(rows="abstract_rows" if "abstract" in sources else "kept"))
    breaks = "SELECT patent_id, subclass FROM class_rows WHERE regexp_matches(subclass, '[;\\r\\n]') LIMIT 1"
    symbol = db.execute(breaks).fetchone()
    if symbol:
        raise InputError(
            f"{sources['cpc'].shown}: the subclass {symbol[1]!r} of patent {symbol[0]} holds a semicolon or "
            "a line break, which separate subclasses in the import CSVs: write one subclass a row"
        )
    date = db.execute("SELECT patent_id, date FROM kept WHERE date <> '' AND try_cast(date AS DATE) IS NULL LIMIT 1")
    wrong = date.fetchone()
    if wrong:
        raise InputError(
            f"{sources['patent'].shown}: date {wrong[1]!r} of patent {wrong[0]} is not YYYY-MM-DD: mend it"
        )
    progress.update()
    return rows


def _one(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = db.execute(sql).fetchone()
    return int(row[0]) if row else 0


def _counts(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    return {name: _one(db, sql) for name, sql in _COUNTS.items()}


def _dropped(db: duckdb.DuckDBPyConnection, rows: dict[str, int]) -> dict[str, int]:
    """Count the rows that did not enter the graph, by reason; with the kept ones they add up to the tables' rows."""
    kept, classes = _one(db, "SELECT count(*) FROM patent"), _one(db, "SELECT count(*) FROM class")
    known = _one(db, "SELECT count(*) FROM class_rows SEMI JOIN kept USING (patent_id) WHERE trim(subclass) <> ''")
    citing = _one(db, "SELECT count(*) FROM citation_rows c SEMI JOIN number n ON n.patent_id = c.citing")
    linked, citations = _one(db, "SELECT count(*) FROM linked"), _one(db, "SELECT count(*) FROM citation")
    itself = _one(db, "SELECT count(*) FROM linked WHERE citing = cited")
    ids = _one(db, "SELECT count(DISTINCT patent_id) FROM patent_rows WHERE trim(patent_id) <> ''")
    empty = _one(db, "SELECT count(*) FROM patent_rows WHERE trim(patent_id) = ''")
    return {
        "patents: no id": empty,
        "patents: repeated id": rows["patent"] - empty - ids,
        "patents: withdrawn": ids - kept,
        "abstracts: no such patent, or repeated": rows.get("abstract", 0)
        and rows["abstract"] - _one(db, "SELECT count(*) FROM abstract"),
        "classifications: no such patent, or no symbol": rows["cpc"] - known,
        "classifications: same subclass again": known - classes,
        "citations: citing patent not in the table": rows["citation"] - citing,
        "citations: cited patent not in the table": citing - linked,
        "citations: of itself": itself,
        "citations: repeated": linked - itself - citations,
    }


def _fingerprint(record: dict[str, Any]) -> str:
    """What tells the graph of these tables from others; it is a node of the graph in a server."""
    text = json.dumps([record["params"], record["counts"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
