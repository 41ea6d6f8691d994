"""PatentsView's tables → patents numbered by CPC → the import CSVs of the graph, with DuckDB and out of core.

Each section, class and subclass is one contiguous range of ranks (see `numbers`), so a random patent of any branch is
arithmetic: `first + something % count`. A patent outside the table has no text, but two patents that cite it have
something in common: those that at least two cite are in the graph too, as `OutsidePatent`.

DuckDB reads the tables, spilling to disk what does not fit; numpy numbers the patents and finds them by their ids. What
is sorted are integers, and no abstract is sorted, joined or kept. The files depend on neither threads nor memory.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ..common.cli import InputError
from ..common.duck import arrow, connect, readable_errors, scalar, sql_sections
from ..common.files import beside, fingerprint, finished, plain, write_record
from ..common.progress import ticking
from ..common.resources import Resources, require, shown
from . import cpc, family
from .import_csvs import CSVS, FILES, FINGERPRINT_FILE, csv_writer, write_parquet
from .links import read_links, write_links
from .numbers import ID_MACROS, Numbers, Reader, number
from .patentsview import TABLES, Source, find_tables, open_tables, source_of, unpacked_sizes
from .rows import Again, create_view, reading
from .texts import LETTERS, Abstracts, read_abstracts, write_patents

SQL = sql_sections(Path(__file__).with_suffix(".sql"))
RECORD, SKIPPED = "graph.json", "bad_lines.txt"
SKIP = ", or pass --skip-bad-lines"
READING = 2  # how values are read: raise it where the same tables give other files, so that older results are outdated
SHOWN = 5  # of several texts that are taken for none
LIBRARIES = 420_000_000  # bytes that Python, its libraries, blocks of texts and a table of ids take


def restructure(
    tables: Path,
    graph: Path,
    seed: int = 42,
    keep_withdrawn: bool = False,
    overwrite: bool = False,
    resources: Resources = Resources(),
    later: Callable[[int, int], float] = lambda patents, citations: 0,
    skip_bad_lines: bool = False,
) -> dict[str, Any]:
    """Write the import files of the corpus in `tables` to the folder `graph`; return the record `graph.json`.

    The record holds the parameters, the counts, and what was dropped and why. A second call with the same tables and
    parameters does nothing. Raises `InputError` for tables that cannot be read, and for too little memory or disk;
    `later` is the memory in bytes that the next steps need for about so many patents and rows of citations. Lines that
    cannot be read are copied to bad_lines.txt in `graph` and counted if `skip_bad_lines` is set.
    """
    if plain(graph).resolve() in (plain(tables).resolve(), *tables.resolve().parents):
        raise InputError(f"{graph} would be replaced, but the tables are in it. Keep them in another folder")
    found = find_tables(tables)
    columns = hashlib.sha256(json.dumps([CSVS, READING]).encode()).hexdigest()[:8]  # other versions wrote other ones
    hashed = fingerprint(found.values(), resources.thread_count)
    params = {"tables": hashed, "columns": columns, "seed": seed, "keep_withdrawn": keep_withdrawn}
    if skip_bad_lines:  # a graph from before there was this option is as one without
        params["skip_bad_lines"] = True
    if done := finished(graph / RECORD, params, overwrite, "restructure"):
        return done
    with beside(graph) as folder:
        folder.mkdir(parents=True)
        _require_disk(found, graph, resources)
        advice = "Free disk space or raise --memory."
        with readable_errors("DuckDB failed", advice), resources.scratch(graph) as scratch:
            sources = open_tables(found, scratch, resources.thread_count)
            outside = _require_memory(sources, graph, resources, later)
            record: dict[str, Any] = {}
            while not record:
                (scratch / "work.duckdb").unlink(missing_ok=True)
                with suppress(Again), connect(scratch / "work.duckdb", resources, outside=outside) as db:
                    run = _Run(db, sources, folder, seed, {} if skip_bad_lines else None)
                    record = {"params": params, "source": source_of(found), **run.write(keep_withdrawn)}
        identity = json.dumps([params, record["counts"]], sort_keys=True)  # of this graph, also in a server
        record["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()[:16]
        csv = f"fingerprint:ID(PatentCL),complete:boolean\n{record['fingerprint']},true\n"
        (folder / FINGERPRINT_FILE).write_text(csv)
        write_record(folder / RECORD, record, FILES)
    if (graph / SKIPPED).exists():
        print(f"restructure: skipped lines that cannot be read, see {graph / SKIPPED}")
    pa.default_memory_pool().release_unused()  # for the import, which the same process may run
    return record


def _require_disk(files: dict[str, Path], graph: Path, resources: Resources) -> None:
    """Raise `InputError` unless the result and the temporary files will fit, as measured with PatentsView's tables."""
    sizes = unpacked_sizes(files.values())
    total, zipped = sum(sizes.values()), sum(size for path, size in sizes.items() if size != path.stat().st_size)
    what = f"restructuring the {shown(total)} of {files['patent'].parent}"
    require(graph.parent, 0.6 * total, 0, what, resources, temporary=zipped + 0.3 * total)


def _require_memory(
    sources: dict[str, Source], graph: Path, resources: Resources, later: Callable[[int, int], float]
) -> int:
    """The memory that numpy and Python take beside DuckDB; raise `InputError` if there is too little for both."""
    patents, citations = sources["patent"].rows, sources["citation"].rows
    outside = LIBRARIES + 75 * patents + 8 * citations
    needed = max(outside + 60 * patents, later(patents, citations))
    require(graph.parent, 0, needed, f"a graph of about {patents:,} patents", resources)
    return outside


@contextmanager
def _step(
    name: str, total: int = 0, query: duckdb.DuckDBPyConnection | None = None
) -> Iterator[Callable[[int], object]]:
    """Show a step: yield a function that takes numbers of rows; without `total`, show time and progress of `query`."""
    form = None if total else "{desc} [{elapsed}{postfix}]"
    with (
        tqdm(total=total, desc=f"restructure: {name}", unit="row", unit_scale=True, bar_format=form) as bar,
        ticking(bar, lambda ended: f"{max(0, query.query_progress()):.0f} %" if query and not ended else ""),
    ):
        yield bar.update


@dataclass
class _Run:
    """One restructuring: the open tables, the folder of the result, and what was skipped and dropped."""

    db: duckdb.DuckDBPyConnection
    sources: dict[str, Source]
    folder: Path
    seed: int
    skipped: dict[str, str] | None  # lines that cannot be read, if they are to be skipped
    dropped: dict[str, int] = field(default_factory=dict)

    def write(self, keep_withdrawn: bool) -> dict[str, dict[str, int]]:
        """Write all files; return the counts for the record, and what was dropped and why."""
        db = self.db
        db.execute(cpc.MACROS + family.MACROS + ID_MACROS)
        # DuckDB takes a CSV file for a few hundred rows, and would keep it in memory to join it.
        db.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        db.execute(f"CREATE MACRO keep_withdrawn() AS {keep_withdrawn}")
        for key, table in TABLES.items():
            create_view(db, f"{key}_rows", self.sources.get(key), [*table.columns, *table.optional])
        self._read_patents()
        self._read_classes()
        with _step("numbers"):
            patents = number(db, self.seed)
            numbers = Numbers(patents)
        with self._reading("abstracts", "abstract") as read:
            abstracts = read_abstracts(read, numbers, self.seed)
        if self.sources["abstract"] is not self.sources["patent"]:  # else they are a column of the patents
            rows, unknown = len(abstracts.counted), int((abstracts.counted < 0).sum())
            self.dropped["abstracts: no such patent, or repeated"] = unknown
            self._check_ids("abstract", "patent_id", rows, rows - unknown)
        self._drop_placeholders(patents, abstracts)
        has_abstract = abstracts.letters > 0
        links, counts = self._link(numbers)
        columns, counted_families = self._families(patents, abstracts.family)
        columns |= {**links, "has_abstract": has_abstract}
        for name, values in columns.items():
            patents = patents.append_column(name, pa.array(values))
        classes = self._write_classes(patents)
        with _step("patents.parquet"):
            write_parquet(self.folder, patents)
        with self._reading("patents.csv", "abstract") as read:
            write_patents(read, patents, arrow(db, "SELECT title FROM kept")["title"], abstracts.counted, self.folder)
        for where, text in (self.skipped or {}).items():
            label = f"lines of {Path(where.rpartition(', line ')[0]).name} that cannot be read"
            lines = len(text.encode().splitlines())  # a quote that is not closed takes the next line along
            self.dropped[label] = self.dropped.get(label, 0) + lines
            with (self.folder / SKIPPED).open("a", encoding="utf-8", newline="") as file:
                file.write(f"# {where}\n{text}\n")
        counts = {"with abstract": int(has_abstract.sum()), **counted_families, **counts}
        return {"counts": {"patents": len(patents), **classes, **counts}, "dropped": self.dropped}

    def _run(self, name: str, key: str, **tables: pa.Table) -> pa.Table:
        """Run a section of restructure.sql, which reads these `tables` and that of `key`; return its rows."""
        source = self.sources.get(key)
        with reading(self.db, source, self.skipped, SKIP) as cursor, _step(name, query=cursor):
            for table, rows in tables.items():
                cursor.register(table, rows)
            return cursor.sql(SQL[name]).to_arrow_table()

    @contextmanager
    def _reading(self, name: str, key: str) -> Iterator[Reader]:
        """Show a step that reads all rows of the table of `key` by one query."""
        source = self.sources[key]
        with reading(self.db, source, self.skipped, SKIP) as cursor, _step(name, source.rows) as moved:

            def read(sql: str, rows: int) -> Iterator[pa.RecordBatch]:
                for batch in cursor.sql(sql).to_arrow_reader(rows):
                    yield batch
                    moved(len(batch))

            yield read

    def _read_patents(self) -> None:
        (found,) = self._run("patents", "patent").to_pylist()
        if found["kept"] == 0:
            raise InputError(
                f"{self.sources['patent'].shown} contains no patents, or only withdrawn ones; pass another --tables"
            )
        self.dropped |= {
            "patents: no id": found["nameless"],
            "patents: repeated id": found["rows"] - found["nameless"] - found["ids"],
            "patents: withdrawn": found["ids"] - found["kept"],
        }
        (days,) = self._run("days", "").to_pylist()
        if days["unknown"]:
            self.dropped[f"dates: no plausible day, like {days['example']!r}"] = days["unknown"]
        if found["unclear"]:
            unclear = "SELECT patent_id, withdrawn FROM patent_rows WHERE flag(withdrawn) IS NULL"
            self._refuse(unclear, "patent", "withdrawn is {!r}. Write 1 for yes, or 0 for no")

    def _read_classes(self) -> None:
        (found,) = self._run("classes", "cpc").to_pylist()
        if found["invalid"]:
            several = "SELECT patent_id, subclass FROM cpc_rows WHERE is_several(subclass)"
            self._refuse(several, "cpc", "{!r} is several subclasses, or holds ; or a line break. Write one a row")
        self._check_ids("cpc", "patent_id", found["rows"], found["known"])
        if found["cut"]:
            self.dropped[f"groups: cut from symbols like {found['example']!r}"] = found["cut"]
            self.db.execute(SQL["subclasses"])
        (named,) = self._run("symbols", "").to_pylist()
        self.dropped["classifications: no such patent, or no symbol"] = found["rows"] - named["classified"]
        self.dropped["classifications: same subclass again"] = named["classified"] - named["classes"]

    def _refuse(self, sql: str, key: str, problem: str) -> None:
        """Raise `InputError` for the first row (patent id, invalid value) of `sql`; `problem` formats the value."""
        if found := self.db.execute(f"{sql} LIMIT 1").fetchone():
            raise InputError(f"{self.sources[key].shown}, patent {found[0]}: " + problem.format(found[1]))

    def _check_ids(self, key: str, column: str, rows: int, known: int, needed: bool = True) -> None:
        """Raise `InputError` if the ids in a `column` are not those of the patents: `known` of `rows` are.

        Those that are not may be written in another way: so they are if, of the first ones, for ten that are ids of
        patents one more is only like such an id. If they are `needed`, one must be known.
        """
        if 10 * known >= 9 * rows:
            return
        source, patents = self.sources[key], Path(self.sources["patent"].shown).name
        self.db.execute(f"CREATE OR REPLACE VIEW asked AS SELECT {column} AS id FROM {key}_rows LIMIT 100_000")  # noqa: S608
        (found,) = self._run("ids", key).to_pylist()
        if found["otherwise"] or (needed and not known):
            advice = "Write them alike, as text" if found["otherwise"] else "Use tables of the same patents"
            where = f"{source.shown}, column {source.names[column]}"
            count = scalar(self.db, "SELECT count(*) FROM kept")
            print(f"restructure: {count:,} patents; {key}: {rows:,} rows, {known:,} of them with the id of one")
            raise InputError(
                f"{where}: {known:,} of {rows:,} ids occur in {patents}, where ids are like {found['patent']!r}, "
                f"here like {found['id']!r}. {advice}"
            )

    def _drop_placeholders(self, patents: pa.Table, abstracts: Abstracts) -> None:
        """Take abstracts for none that stand under many titles, and count them. Each without one is a family."""
        ranks = np.flatnonzero((abstracts.letters > 0) & (abstracts.letters <= LETTERS))
        short = {name: getattr(abstracts, name)[ranks] for name in ("family", "letters")}
        short["row"] = patents["row"].take(pa.array(ranks))
        found = self._run("placeholders", "", short=pa.table(short))
        for place, placeholder in enumerate(found.to_pylist()):
            label = "abstracts: other placeholders"
            if place < SHOWN:
                text = "SELECT abstract FROM abstract_rows WHERE patent_id = ? AND letters(abstract) <> '' LIMIT 1"
                (shown,) = self.db.execute(text, [placeholder["example"]]).fetchone() or ("",)
                label = f"abstracts: placeholder {shown[:60]!r}"
            self.dropped[label] = self.dropped.get(label, 0) + placeholder["patents"]
        dropped = np.isin(abstracts.family, found["family"].to_numpy())
        abstracts.counted[dropped[abstracts.counted]] = -1
        abstracts.letters[dropped] = 0
        without = abstracts.letters == 0
        names = patents["patent_id"].filter(pa.array(without)).to_pylist()
        abstracts.family[without] = [family.number_of(f"{self.seed}:id:{name}") for name in names]

    def _link(self, numbers: Numbers) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Read and write the citations; return how many each patent cites and is cited by, (N,) each, and counts."""
        with self._reading("citations", "citation") as read:
            links, (rows, citing, linked, itself) = read_links(read, self.sources["citation"].rows, numbers)
        self._check_ids("citation", "citing", rows, citing)
        self._check_ids("citation", "cited", citing, linked, needed=False)
        with _step("citations.csv", len(links)) as moved:
            columns, counts = write_links(links, numbers, self.folder, moved)
        self.dropped |= {
            "citations: citing patent not in the table": rows - citing,
            "citations: cited patent not in the table": citing - linked,
            "citations: of itself": itself,
            "citations: repeated": linked - itself - counts["citations"],
        }
        return columns, counts

    def _families(self, patents: pa.Table, families: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Join the families (N,) of patents that are related; return them and their numbers, (N,) each, and counts."""
        united, counts = families, {}
        if "relation" in self.sources:
            found = self._run("relations", "relation", number=patents.select(["patent_id", "rank"]))
            rows = scalar(self.db, "SELECT count(*) FROM relation_rows")
            self.dropped["related documents: of another type, or no such patent"] = rows - len(found)
            self._check_ids("relation", "patent_id", 0 if len(found) else rows, 0, needed=False)
            with _step("families"):
                united = family.united(families, found["patent"].to_numpy(), found["document"].to_numpy())
        times, number = family.times_of(united, patents["date"].combine_chunks().indices.to_numpy())
        if united is not families:
            counts = {"families joined by related documents": len(np.unique(families)) - number}
        place, bucket = united % family.PLACES, united % family.BUCKETS
        columns = {"family": united, "place": place, "time_place": times, "bucket": bucket}
        return columns, {"families": number, **counts}

    def _write_classes(self, patents: pa.Table) -> dict[str, int]:
        """Write cpc_subclasses.csv and classifications.csv; return counts."""
        lists, primary = patents["subclasses"].combine_chunks(), patents["subclass"].combine_chunks()
        codes, symbols = lists.values.indices.to_numpy(), primary.dictionary
        with _step("classifications.csv", len(codes)) as moved, csv_writer(self.folder, "classifications.csv") as write:
            ranks = np.repeat(np.arange(len(patents), dtype=np.int32), lists.value_lengths())
            order = np.argsort(codes, kind="stable")  # by symbol, then by rank
            for start in range(0, len(order), 1 << 18):
                rows = order[start : start + (1 << 18)]
                write(symbols.take(pa.array(codes[rows])), ranks[rows])
                moved(len(rows))
        counts = np.bincount(primary.indices, minlength=len(symbols))
        first = (counts.cumsum() - counts) * (counts > 0)
        branches = pa.table({"subclass": symbols, "count": counts, "first": first})[:-1]  # the last are without one
        with csv_writer(self.folder, "cpc_subclasses.csv") as write:
            write(*self._run("cpc_subclasses.csv", "cpc_title", branches=branches).columns)
        classified = len(patents) - int(counts[-1])
        return {"classified": classified, "CPC subclasses": len(branches), "classifications": len(codes)}
