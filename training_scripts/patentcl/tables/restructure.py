"""PatentsView's tables → patents numbered by CPC → the import CSVs of the graph, with DuckDB and out of core.

Patents are numbered 0 … N-1 (`rank`) in the order of section, class, subclass (of the primary symbol) and a seeded
hash of the id; unclassified patents come last. Each section, class and subclass is then one contiguous range of
ranks, so a random patent of any branch is arithmetic: `first + something % count`.

A `family` is the set of patents whose abstracts have the same letters and digits, ignoring case: a seeded hash of that
text. Where the table of related documents is there, families of continuations, divisions and reissues are joined, as
these repeat a text or edit it. Its numbers are a random `place` from 0 to 999,999 and a `time_place` from new to old,
by which whole families are split, and a random `bucket`, by which mining samples anchors.

A patent outside the table has no text, but two patents that cite it have something in common: those that at least two
cite are in the graph too, as `OutsidePatent`.

DuckDB reads the tables and finds patents by their ids (`restructure.sql`), spilling to disk what does not fit; those
that cite and are cited are found in numpy. What is sorted are integers, and no abstract is sorted, joined or kept. The
files depend on neither threads nor memory.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ..common.cli import InputError
from ..common.duck import arrow, connect, readable_errors, scalar, sql_sections
from ..common.files import beside, check_replaceable, is_done, plain, read_json, write_record
from ..common.resources import Resources, require
from . import cpc, family
from .import_csvs import CSVS, FILES, FINGERPRINT_FILE, csv_writer, write_parquet
from .links import LINKS, read_links, write_links
from .numbers import NO_CLASS, Numbered, number
from .patentsview import TABLES, Source, Tables, check_lines, create_view, find_tables
from .progress import Steps, steps_of
from .texts import Abstracts, read_abstracts, write_patents

RECORD = "graph.json"
LIBRARIES = 420_000_000  # bytes that Python, its libraries, blocks of texts and a table of ids take
STEPS = 9  # and one more with a table of relations


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
    parameters does nothing. Raises `InputError` for tables that cannot be read, and for too little memory or disk.
    """
    if plain(graph).resolve() in (plain(tables).resolve(), *tables.resolve().parents):
        raise InputError(f"{graph} would be replaced, but the tables are in it. Keep them in another folder")
    found = find_tables(tables)
    columns = hashlib.sha256(json.dumps(CSVS).encode()).hexdigest()[:8]  # other versions wrote other ones
    hashed = found.fingerprint(resources.thread_count)
    params = {"tables": hashed, "columns": columns, "seed": seed, "keep_withdrawn": keep_withdrawn}
    if not overwrite and is_done(graph / RECORD, params):
        print(f"restructure: {graph} is up to date")
        return read_json(graph / RECORD)
    check_replaceable(graph / RECORD, params, overwrite)
    with beside(graph) as folder:
        folder.mkdir(parents=True)
        advice = "Free disk space or raise --memory."
        _require_disk(found, graph, resources)
        with readable_errors("DuckDB failed", advice), resources.scratch(graph) as scratch:
            run = _Run(found.open(scratch, resources.thread_count), folder, seed, keep_withdrawn)
            outside = run.require_memory(graph, resources)
            with (
                connect(scratch / "work.duckdb", resources, outside=outside) as db,
                steps_of("restructure", STEPS + ("relation" in found.files)) as steps,
            ):
                record: dict[str, Any] = {"params": params, **run.write(db, steps)}
        identity = json.dumps([params, record["counts"]], sort_keys=True)  # of this graph, also in a server
        record["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()[:16]
        fingerprint = f"fingerprint:ID(PatentCL),complete:boolean\n{record['fingerprint']},true\n"
        (folder / FINGERPRINT_FILE).write_text(fingerprint)
        write_record(folder / RECORD, record, FILES)
    return record


def _require_disk(tables: Tables, graph: Path, resources: Resources) -> None:
    """Raise `InputError` unless the result and the temporary files will fit, as measured with PatentsView's tables."""
    sizes = tables.unpacked()
    total = sum(sizes.values())
    zipped = sum(size for key, size in sizes.items() if size != tables.files[key].stat().st_size)
    what = f"restructuring the {total / 1e9:.1f} GB of {tables.folder}"
    require(graph.parent, 0.6 * total, 0, what, resources, temporary=zipped + 0.3 * total)


class _Run:
    """One restructuring: the open tables, the folder of the result, its parameters, and what was counted."""

    def __init__(self, sources: dict[str, Source], folder: Path, seed: int, keep_withdrawn: bool) -> None:
        self.sources, self.folder, self.seed, self.keep_withdrawn = sources, folder, seed, keep_withdrawn
        self.sql = sql_sections(Path(__file__).with_suffix(".sql"))
        self.counts: dict[str, int] = {}
        self.joined: dict[str, int] = {}  # counts that only a table of relations gives
        self.rows: dict[str, int] = {}
        self.dropped: dict[str, int] = {}

    def write(self, db: duckdb.DuckDBPyConnection, steps: Steps) -> dict[str, dict[str, int]]:
        """Write all files; return the numbers of rows read, kept and dropped for the record."""
        self.db, self.steps = db, steps
        db.execute(cpc.MACROS + family.MACROS)
        # DuckDB takes a CSV file for a few hundred rows, and would keep it in memory to join it.
        db.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        db.execute("SET VARIABLE keep_withdrawn = $value", {"value": self.keep_withdrawn})
        texts = self.sources.get("abstract", self.sources["patent"])
        for key, table in TABLES.items():
            source = texts if key == "abstract" else self.sources.get(key)
            create_view(db, f"{key}_rows", source, [*table.columns, *table.optional])
        self._read_patents()
        self._read_classes()
        with steps.step("numbers"):
            numbered = number(db, self.seed)
        with steps.step("abstracts", texts.rows) as moved:
            abstracts = read_abstracts(db, texts, numbered, self.seed, moved)
        links = self._link(len(numbered))
        columns = self._columns(numbered, abstracts, links)
        with steps.step("classes"):
            self._write_classes(numbered)

        def rows(ranks: np.ndarray) -> dict[str, Any]:
            return {**numbered.columns(ranks), **{name: values[ranks] for name, values in columns.items()}}

        with steps.step("patents.parquet"):
            write_parquet(self.folder, len(numbered), rows)
        with steps.step("patents.csv", abstracts.rows) as moved:
            write_patents(db, abstracts, rows, self.folder, moved)
        self._count(numbered, abstracts)
        return {"counts": self.counts, "rows": self.rows, "dropped": self.dropped}

    def require_memory(self, graph: Path, resources: Resources) -> int:
        """The memory that numpy and Python take beside DuckDB; raise `InputError` if there is too little for both."""
        patents, citations = self.sources["patent"].rows, self.sources["citation"].rows
        outside = LIBRARIES + 75 * patents + 8 * citations
        require(graph.parent, 0, outside + 60 * patents, f"restructuring about {patents:,} patents", resources)
        return outside

    def _run(self, name: str, *reads: str) -> None:
        """Run a section of restructure.sql, which reads these tables."""
        with self.steps.step(name, query=self.db):
            self.db.execute(self.sql[name])
            for key in reads:
                if key in self.sources:
                    check_lines(self.db, self.sources[key])

    def _read_patents(self) -> None:
        self._run("patents", "patent")
        rows = scalar(self.db, "SELECT count(*) FROM read_patent")
        if rows == 0:
            raise InputError(f"{self.sources['patent'].shown} contains no rows; pass another --tables")
        nameless = scalar(self.db, "SELECT count(*) FROM read_patent WHERE trim(patent_id) = ''")
        ids, kept = (scalar(self.db, f"SELECT count(*) FROM {table}") for table in ("one", "kept"))  # noqa: S608
        self.rows |= {"patent": rows, "withdrawn": scalar(self.db, "SELECT count(*) FROM one WHERE withdrawn")}
        self.dropped |= {
            "patents: no id": nameless,
            "patents: repeated id": rows - nameless - ids,
            "patents: withdrawn": ids - kept,
        }
        no_date = "SELECT patent_id, date FROM kept WHERE date <> '' AND try_cast(date AS DATE) IS NULL"
        self._refuse(no_date, "patent", "the date {!r} is not YYYY-MM-DD. Fix it")

    def _read_classes(self) -> None:
        self._run("classes", "cpc")
        if scalar(self.db, "SELECT count(*) FROM symbol WHERE regexp_matches(subclass, '[;\\r\\n]')"):
            separator = "SELECT patent_id, subclass FROM cpc_rows WHERE regexp_matches(subclass, '[;\\r\\n]')"
            self._refuse(separator, "cpc", "the subclass {!r} holds a semicolon or a line break. Write one a row")
        totals = ("coalesce(sum(rows), 0) FROM read_class", "coalesce(sum(rows), 0) FROM class", "count(*) FROM class")
        rows, classified, distinct = (scalar(self.db, f"SELECT {total}") for total in totals)
        if "cpc" in self.sources:
            self.rows["cpc"] = rows
        self.dropped["classifications: no such patent, or no symbol"] = rows - classified
        self.dropped["classifications: same subclass again"] = classified - distinct

    def _refuse(self, sql: str, key: str, problem: str) -> None:
        """Raise `InputError` for the first row (patent id, invalid value) of `sql`; `problem` formats the value."""
        if found := self.db.execute(f"{sql} LIMIT 1").fetchone():
            raise InputError(f"{self.sources[key].shown}, patent {found[0]}: " + problem.format(found[1]))

    def _link(self, patents: int) -> dict[str, np.ndarray]:
        """Read and write the citations; return how many each patent cites and is cited by, (N,) each."""
        source = self.sources["citation"]
        with self.steps.step("citations", source.rows) as moved:
            links = read_links(self.db, source, patents, moved)
        with self.steps.step("citations.csv", len(links.citations)) as moved:
            columns, counts = write_links(links, patents, self.folder, moved)
        self.counts |= counts
        self.rows["citation"], citing, linked, itself = links.rows.tolist()
        self.dropped |= {
            "citations: citing patent not in the table": self.rows["citation"] - citing,
            "citations: cited patent not in the table": citing - linked,
            "citations: of itself": itself,
            "citations: repeated": linked - itself - counts["citations"],
        }
        return columns

    def _columns(self, numbered: Numbered, abstracts: Abstracts, links: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The last columns of patents.csv, (N,) each."""
        families = self._unite(abstracts.family)
        times, self.counts["families"] = family.times_of(families, numbered.dates.indices.to_numpy())
        return {
            "family": families,
            "place": families % family.PLACES,
            "time_place": times,
            "bucket": families % family.BUCKETS,
            **links,
            "has_abstract": abstracts.filled,
        }

    def _unite(self, families: np.ndarray) -> np.ndarray:
        """Join families of patents that are related, (N,) → (N,), if there is a table of relations."""
        if "relation" not in self.sources:
            return families
        self._run("relations", "relation")
        relations = arrow(self.db, "FROM relation")
        united = family.united(families, relations["patent"].to_numpy(), relations["document"].to_numpy())
        rows = self.rows["relation"] = scalar(self.db, "SELECT count(*) FROM relation_rows")
        self.dropped["related documents: of another type, or no such patent"] = rows - len(relations)
        self.joined = {"families joined by related documents": len(np.unique(families)) - len(np.unique(united))}
        return united

    def _write_classes(self, numbered: Numbered) -> None:
        """Write cpc_subclasses.csv and classifications.csv."""
        codes, symbols = numbered.codes, numbered.symbols
        ranks = np.repeat(np.arange(len(numbered), dtype=np.int32), np.diff(numbered.ends))
        order = np.argsort(codes, kind="stable")  # by symbol, then by rank
        with csv_writer(self.folder, "classifications.csv") as write:
            for start in range(0, len(order), 1 << 20):
                rows = order[start : start + (1 << 20)]
                write(symbols.take(pa.array(codes[rows])), ranks[rows])
        used, of_rank = np.unique(codes), numbered.primary
        patents = np.bincount(of_rank[of_rank != NO_CLASS], minlength=len(symbols))[used]
        first = np.zeros(len(symbols) + 1, np.int64)  # its last is that of NO_CLASS
        first[of_rank[::-1]] = np.arange(len(numbered))[::-1]  # the smallest rank stays
        branches = {"subclass": symbols.take(pa.array(used)), "count": patents, "first": first[used]}
        with self.db.cursor() as cursor, csv_writer(self.folder, "cpc_subclasses.csv") as write:
            cursor.register("branches", pa.table(branches))
            table = cursor.sql(self.sql["cpc_subclasses.csv"]).to_arrow_table()
            if "cpc_title" in self.sources:
                check_lines(cursor, self.sources["cpc_title"])
                self.rows["cpc_title"] = scalar(self.db, "SELECT count(*) FROM cpc_title_rows")
            write(*table.columns)

    def _count(self, numbered: Numbered, abstracts: Abstracts) -> None:
        """Complete what was counted, in the order in which it is shown."""
        has_table = "abstract" in self.sources  # else the abstracts are a column of the patents
        if has_table:
            self.rows["abstract"] = abstracts.rows
        unused = abstracts.rows - int((abstracts.row >= 0).sum())
        self.dropped["abstracts: no such patent, or repeated"] = unused if has_table else 0
        groups = ("patents", "abstracts", "related documents", "classifications", "citations")
        self.dropped = {k: n for group in groups for k, n in self.dropped.items() if k.startswith(f"{group}:")}
        self.rows = {key: self.rows[key] for key in (*self.sources, "withdrawn") if key in self.rows}
        self.counts = {
            "patents": len(numbered),
            "classified": int((numbered.primary != NO_CLASS).sum()),
            "with abstract": int(abstracts.filled.sum()),
            "families": self.counts["families"],
            **self.joined,
            "CPC subclasses": len(np.unique(numbered.codes)),
            "classifications": len(numbered.codes),
            **{name: self.counts[name] for name in LINKS},
        }
