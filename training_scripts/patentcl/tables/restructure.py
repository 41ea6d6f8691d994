"""PatentsView's tables → patents numbered by CPC → the import CSVs of the graph, with DuckDB and out of core.

Patents are numbered 0 … N-1 (`rank`) in the order of section, class, subclass (of the primary symbol) and a seeded
hash of the id; unclassified patents come last. Each section, class and subclass is then one contiguous range of
ranks, so a random patent of any branch is arithmetic: `first + something % count`.

A `family` is the set of patents whose abstracts have the same letters and digits, ignoring case (continuations repeat
their parent's). It is a seeded hash of that text. Splits are made of whole families by
their place from 0 to 999,999: `place` is random, `time_place` goes from new to old. `bucket` is another random number
of the family, by which mining samples anchors.

A patent outside the table has no text, but two patents that cite it have something in common: those that at least two
cite are in the graph too, as `OutsidePatent`. The work itself is in `restructure.sql`.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from tqdm import tqdm

from ..common.cli import InputError
from ..common.duck import connect, readable_errors, scalar, sql_sections
from ..common.files import beside, check_replaceable, is_done, plain, read_json, write_record
from . import cpc, family
from .import_csvs import CSV_FILES, CSVS, FINGERPRINT_FILE, write_csv
from .patentsview import Source, Tables, create_table, find_tables

RECORD = "graph.json"
_COUNTS = {
    "patents": "SELECT count(*) FROM patent",
    "classified": "SELECT count(*) FROM patent WHERE subclass <> ''",
    "with abstract": "SELECT count(*) FROM patent WHERE trim(abstract) <> ''",
    "families": "SELECT count(*) FROM (SELECT DISTINCT family FROM patent)",
    "CPC subclasses": "SELECT count(*) FROM subclass",
    "classifications": "SELECT count(*) FROM class",
    "citations": "SELECT count(*) FROM citation",
    "citing patents": "SELECT count(*) FROM (SELECT DISTINCT citing FROM citation)",
    "outside patents cited by several": "SELECT count(*) FROM outside",
    "citations of these": "SELECT coalesce(sum(cited_by), 0) FROM outside",
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

    The record holds the parameters, the counts, and what was dropped and why. A second call with the same tables and
    parameters does nothing. Raises `InputError` for tables that cannot be read.
    """
    if plain(graph).resolve() in (plain(tables).resolve(), *tables.resolve().parents):
        raise InputError(f"{graph} would be replaced, but the tables are in it. Keep them in another folder")
    found = find_tables(tables)
    columns = hashlib.sha256(json.dumps(CSVS).encode()).hexdigest()[:8]  # other versions wrote other ones
    params = {"tables": found.fingerprint, "columns": columns, "seed": seed, "keep_withdrawn": keep_withdrawn}
    if not overwrite and is_done(graph / RECORD, params):
        print(f"restructure: {graph} is up to date")
        return read_json(graph / RECORD)
    check_replaceable(graph / RECORD, params, overwrite)
    with beside(graph) as folder:
        folder.mkdir(parents=True)
        advice = f"Is there room on the disk, is --memory {memory} enough? It takes at least 1GB."
        with readable_errors("DuckDB failed", advice), TemporaryDirectory(dir=folder) as scratch:
            record: dict[str, Any] = {"params": params, **_write_csvs(found, folder, Path(scratch), params, memory)}
        identity = json.dumps([params, record["counts"]], sort_keys=True)  # of this graph, also in a server
        record["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()[:16]
        (folder / FINGERPRINT_FILE).write_text(
            f"fingerprint:ID(PatentCL),complete:boolean\n{record['fingerprint']},true\n"
        )
        write_record(folder / RECORD, record, CSV_FILES)
    return record


def _write_csvs(
    tables: Tables, folder: Path, scratch: Path, params: dict[str, Any], memory: str
) -> dict[str, dict[str, int]]:
    """Write all CSVs but that of the fingerprint; return the counts for the record."""
    sections = sql_sections(Path(__file__).with_suffix(".sql"))
    with connect(scratch / "work.duckdb", memory) as db, tqdm(desc="restructure", unit="step") as progress:
        db.execute(cpc.MACROS + family.MACRO)
        for name in ("seed", "keep_withdrawn"):
            db.execute(f"SET VARIABLE {name} = $value", {"value": params[name]})
        sources = tables.open(scratch)
        rows = _read(db, sources)
        progress.reset(total=len(sections))
        for name, sql in sections.items():
            if name in CSVS:
                write_csv(db, folder, name, sql)
            else:
                db.execute(sql)
            if name == "one row an id":
                _check_kept(db, sources)
            progress.update()
        rows["withdrawn"] = scalar(db, "SELECT count(*) FROM withdrawn")
        counts = {name: scalar(db, sql) for name, sql in _COUNTS.items()}
        return {"counts": counts, "rows": rows, "dropped": _dropped(db, rows)}


def _read(db: duckdb.DuckDBPyConnection, sources: dict[str, Source]) -> dict[str, int]:
    """Read each table into DuckDB, as `<key>_rows`; return their numbers of rows."""
    rows = {key: create_table(db, f"{key}_rows", source) for key, source in sources.items()}
    if rows["patent"] == 0:
        raise InputError(f"{sources['patent'].shown} has only a header. Name another --tables")
    if "cpc_title" not in sources:
        db.execute("CREATE TABLE cpc_title_rows (symbol VARCHAR, title VARCHAR)")
    symbol = db.execute(
        "SELECT patent_id, subclass FROM cpc_rows WHERE regexp_matches(subclass, '[;\\r\\n]') LIMIT 1"
    ).fetchone()
    if symbol:
        raise InputError(
            f"{sources['cpc'].shown}, patent {symbol[0]}: the subclass {symbol[1]!r} holds a semicolon or a line "
            "break, which separate subclasses in the import CSVs. Write one subclass a row"
        )
    return rows


def _check_kept(db: duckdb.DuckDBPyConnection, sources: dict[str, Source]) -> None:
    if "abstract" not in sources:  # then it is a column of the patents
        db.execute("CREATE VIEW abstract_rows AS SELECT patent_id, abstract FROM kept")
    wrong = db.execute(
        "SELECT patent_id, date FROM kept WHERE date <> '' AND try_cast(date AS DATE) IS NULL LIMIT 1"
    ).fetchone()
    if wrong:
        shown = sources["patent"].shown
        raise InputError(f"{shown}, patent {wrong[0]}: the date {wrong[1]!r} is not YYYY-MM-DD. Fix it")


def _dropped(db: duckdb.DuckDBPyConnection, rows: dict[str, int]) -> dict[str, int]:
    """Count the rows that did not enter the graph, by reason; with the kept ones they add up to the tables' rows."""

    def count(what: str) -> int:
        return scalar(db, f"SELECT count(*) FROM {what}")  # noqa: S608

    empty = count("patent_rows WHERE trim(patent_id) = ''")
    ids = count("(SELECT DISTINCT patent_id FROM patent_rows WHERE trim(patent_id) <> '')")
    known = count("cpc_rows SEMI JOIN kept USING (patent_id) WHERE trim(subclass) <> ''")
    citing = count("citation_rows c SEMI JOIN number n ON n.patent_id = c.citing")
    linked, itself = count("linked"), count("linked WHERE citing = cited")
    return {
        "patents: no id": empty,
        "patents: repeated id": rows["patent"] - empty - ids,
        "patents: withdrawn": ids - count("patent"),
        "abstracts: no such patent, or repeated": rows["abstract"] - count("abstract") if "abstract" in rows else 0,
        "classifications: no such patent, or no symbol": rows["cpc"] - known,
        "classifications: same subclass again": known - count("class"),
        "citations: citing patent not in the table": rows["citation"] - citing,
        "citations: cited patent not in the table": citing - linked,
        "citations: of itself": itself,
        "citations: repeated": linked - itself - count("citation"),
    }
