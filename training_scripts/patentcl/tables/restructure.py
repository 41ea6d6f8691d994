"""PatentsView's tables → patents numbered by CPC → the import CSVs of the graph, with DuckDB and out of core.

Patents are numbered 0 … N-1 (`rank`) in the order of section, class, subclass (of the primary symbol) and a seeded
hash of the id; unclassified patents come last. Each section, class and subclass is then one contiguous range of
ranks, so a random patent of any branch is arithmetic: `first + something % count`.

A `family` is the set of patents whose abstracts have the same letters and digits, ignoring case (continuations repeat
their parent's): a seeded hash of that text. Its numbers are a random `place` from 0 to 999,999 and a `time_place` from
new to old, by which whole families are split, and a random `bucket`, by which mining samples anchors.

A patent outside the table has no text, but two patents that cite it have something in common: those that at least two
cite are in the graph too, as `OutsidePatent`. The work itself is in `restructure.sql`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
from tqdm import tqdm

from ..common.cli import InputError
from ..common.duck import connect, literal, readable_errors, scalar, sql_sections
from ..common.files import beside, check_replaceable, is_done, plain, read_json, write_record
from ..common.resources import Resources
from . import cpc, family
from .import_csvs import CSVS, FILES, FINGERPRINT_FILE, PARQUET, write_csv
from .patentsview import Source, Tables, create_table, find_tables

RECORD = "graph.json"


def restructure(
    tables: Path,
    graph: Path,
    seed: int = 42,
    keep_withdrawn: bool = False,
    overwrite: bool = False,
    resources: Resources = Resources(),
) -> dict[str, Any]:
    """Write the import files of the corpus in `tables` to the folder `graph`; return the record `graph.json`.

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
        advice = "Free disk space or raise --memory (at least 1GB)."
        with readable_errors("DuckDB failed", advice), resources.scratch(graph) as scratch:
            record: dict[str, Any] = {"params": params, **_write_csvs(found, folder, scratch, params, resources)}
        identity = json.dumps([params, record["counts"]], sort_keys=True)  # of this graph, also in a server
        record["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()[:16]
        fingerprint = f"fingerprint:ID(PatentCL),complete:boolean\n{record['fingerprint']},true\n"
        (folder / FINGERPRINT_FILE).write_text(fingerprint)
        write_record(folder / RECORD, record, FILES)
    return record


def _write_csvs(
    tables: Tables, folder: Path, scratch: Path, params: dict[str, Any], resources: Resources
) -> dict[str, dict[str, int]]:
    """Run `restructure.sql`; return the numbers of rows read, kept and dropped for the record."""
    sections = sql_sections(Path(__file__).with_suffix(".sql"))
    record: dict[str, dict[str, int]] = {"counts": {}, "rows": {}, "dropped": {}}
    with connect(scratch / "work.duckdb", resources) as db, tqdm(desc="restructure", unit="step") as progress:
        db.execute(cpc.MACROS + family.MACROS)
        for name in ("seed", "keep_withdrawn"):
            db.execute(f"SET VARIABLE {name} = $value", {"value": params[name]})
        sources = tables.open(scratch)
        record["rows"] = _read(db, sources)
        progress.reset(total=len(sections))
        for name, sql in sections.items():
            if name in CSVS:
                write_csv(db, folder, name, sql)
            elif name == PARQUET:
                db.execute(f"COPY ({sql}) TO {literal(folder / name)} (FORMAT parquet)")
            elif name in record:
                record[name] = dict(db.execute(sql).fetchall())
            else:
                db.execute(sql)
            if name == "one row an id":
                _check_kept(db, sources)
            progress.update()
        record["rows"]["withdrawn"] = scalar(db, "SELECT count(*) FROM withdrawn")
    return record


def _read(db: duckdb.DuckDBPyConnection, sources: dict[str, Source]) -> dict[str, int]:
    """Read each table into DuckDB, as `<key>_rows`; return their numbers of rows."""
    rows = {key: create_table(db, f"{key}_rows", source) for key, source in sources.items()}
    if rows["patent"] == 0:
        raise InputError(f"{sources['patent'].shown} contains no rows; pass another --tables")
    if "cpc_title" not in sources:
        db.execute("CREATE TABLE cpc_title_rows (symbol VARCHAR, title VARCHAR)")
    separator = "SELECT patent_id, subclass FROM cpc_rows WHERE regexp_matches(subclass, '[;\\r\\n]')"
    _refuse(db, separator, sources["cpc"], "the subclass {!r} holds a semicolon or a line break. Write one a row")
    return rows


def _check_kept(db: duckdb.DuckDBPyConnection, sources: dict[str, Source]) -> None:
    if "abstract" not in sources:  # then it is a column of the patents
        db.execute("CREATE VIEW abstract_rows AS SELECT patent_id, abstract FROM kept")
    no_date = "SELECT patent_id, date FROM kept WHERE date <> '' AND try_cast(date AS DATE) IS NULL"
    _refuse(db, no_date, sources["patent"], "the date {!r} is not YYYY-MM-DD. Fix it")


def _refuse(db: duckdb.DuckDBPyConnection, sql: str, source: Source, problem: str) -> None:
    """Raise `InputError` for the first row (patent id, invalid value) of `sql`; `problem` is a format for the value."""
    if found := db.execute(f"{sql} LIMIT 1").fetchone():
        raise InputError(f"{source.shown}, patent {found[0]}: " + problem.format(found[1]))
