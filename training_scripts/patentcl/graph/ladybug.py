"""Ladybug, an embedded graph database: Cypher without a server (https://docs.ladybugdb.com)."""

import json
import re
from pathlib import Path
from typing import Any

import ladybug
import pyarrow as pa
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import beside, finished, read_json, write_record
from ..common.progress import ticking
from ..common.resources import Resources, require
from ..tables.import_csvs import COLUMNS, KINDS, PARQUET, PATENT, TEXTS, ends_of
from ..tables.restructure import RECORD
from .base import Graph, TooLarge
from .options import Neo4jOptions
from .parallel import in_parallel

_TYPES = {"BIGINT": "INT64", "VARCHAR": "STRING", "VARCHAR[]": "STRING[]", "BOOLEAN": "BOOLEAN"}
# Ladybug guesses the quotes from the first rows unless told, and reads line breaks in quotes, which ids and titles of
# nodes may hold, only without parallel.
_FORM = "(header=true, parallel={}, auto_detect=false, delim=',', quote='\"', escape='\"')"
_AGAIN = "If it is corrupt, delete {} and run the command again: it is imported again from the CSVs"
_ERRORS = (RuntimeError, UnicodeDecodeError, MemoryError)  # that Ladybug raises

# Measured with 0.3 to 9 million patents. Bytes of disk for each row; the last copy may wait in the log.
_DISK = {"patents": 120, "outside patents cited by several": 60, "citations": 30, "citations of these": 30}
_DISK_LEAST = 50_000_000
_OUTSIDE_POOL = 500_000_000  # what the process holds beside the pool: Python, its libraries, threads
_IMPORTING = 95  # bytes beside the pool for each patent: the index of the nodes, and what each copy leaves
_MINING = 150  # the same while mining, with the arrays of `triplets.patents`
_POOL_LEAST = 300_000_000
# Bytes of the pool that copying a citation needs: it spills the rest (16 are too few). Several smaller copies take more
# memory, not less: each checkpoint after the first merges all lists of those that cite.
_POOL_PER_CITATION = 27
_MOVES = 5.5  # bytes that copying a file reads and writes, for each of its bytes: 3 measured, 5.3 where it spills
_MINED = 2_000  # bytes of the pool for each citation of an anchor: 400 measured, but some anchors cite many


class LadybugGraph(Graph):
    """A graph in one file, data/ladybug/graph.lbug, with import.json beside it. A query uses all cores by itself."""

    def __init__(self, data: Path, resources: Resources = Resources(), options: Neo4jOptions | None = None) -> None:
        """The database opens with the first query; the process that uses it stays within `resources`."""
        self.folder, self.resources = data / "ladybug", resources
        self._connection: ladybug.Connection | None = None

    def batch(self, counts: dict[str, int]) -> int:
        """The number of anchors whose citations fill half of the pool."""
        cited = max(1.0, counts["citations"] / counts["patents"])
        return max(1_000, min(200_000, round(self._pool(_MINING * counts["patents"]) / 2 / (cited * _MINED))))

    def import_memory(self, counts: dict[str, int]) -> int:
        """Bytes of memory that importing a graph of these counts takes."""
        pool = max(_POOL_LEAST, _POOL_PER_CITATION * counts["citations"])
        return pool + _OUTSIDE_POOL + _IMPORTING * counts["patents"]

    def import_csvs(self, csvs: Path, overwrite: bool = False) -> None:
        """Load the import files in `csvs` into a new database, which replaces the old one if it fits."""
        record = read_json(csvs / RECORD)
        params = {"graph": record["fingerprint"]}
        if finished(self.folder / "import.json", params, overwrite, "import"):
            return
        self.close()
        disk = _DISK_LEAST + sum(_DISK.get(what, 15) * record["counts"][what] for _, what in KINDS.values())
        memory = self.import_memory(record["counts"])
        require(self.folder.parent, disk, memory, "importing this graph", self.resources)
        with beside(self.folder) as folder:
            folder.mkdir()
            self._connection = self._connect(folder / "graph.lbug", _IMPORTING * record["counts"]["patents"])
            try:
                _load(self._connection, csvs, record["counts"])
            finally:
                self.close()
            write_record(folder / "import.json", {"params": params, "counts": record["counts"]}, ["graph.lbug"])

    def run(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one Cypher query with the parameters that it names."""
        if self._connection is None:
            if not (self.folder / "graph.lbug").exists():
                raise InputError(f"{self.folder} has no graph; import the CSVs first")
            patents = read_json(self.folder / "import.json").get("counts", {}).get("patents", 0)
            self._connection = self._connect(self.folder / "graph.lbug", _MINING * patents, read_only=True)
        # A number that the planner sees lets a scan skip what is out of its range: 12 ms instead of 100 for 10,000 of
        # 300,000 patents. JSON is Cypher: its escapes are the same.
        query = re.sub(r"\$(\w+)", lambda name: json.dumps(parameters[name[1]], ensure_ascii=False), query)
        try:
            result: Any = self._connection.execute(query)
        except _ERRORS as problem:
            if _is_out_of_memory(problem):
                self.close()  # the pool stays full after such an error
                raise TooLarge(f"a query on {self.folder} needs more memory; pass a larger --memory") from None
            raise InputError(f"a query on {self.folder} failed ({problem}). {_AGAIN.format(self.folder)}") from None
        return result.get_as_arrow()

    def stop(self) -> None:
        """Interrupt the query that runs in another thread."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Close the database, so that another process can open it."""
        if self._connection is not None:
            self._connection.close()
            self._connection.database.close()
            self._connection = None

    release = close  # which frees the buffers; the next query opens it again

    def _pool(self, outside: int) -> int:
        """Size of the buffer pool, so that the whole process, with `outside` bytes more, stays within its budget."""
        return max(_POOL_LEAST, self.resources.bytes - _OUTSIDE_POOL - outside)

    def _connect(self, path: Path, outside: int, read_only: bool = False) -> ladybug.Connection:
        how: dict[str, Any] = {"buffer_pool_size": self._pool(outside), "max_num_threads": self.resources.thread_count}
        try:
            return ladybug.Connection(ladybug.Database(str(path), read_only=read_only, **how))
        except _ERRORS as problem:
            advice = f"Close other processes that use it. {_AGAIN.format(path.parent)}"
            raise InputError(f"{path} cannot be opened ({problem}). {advice}") from None


def _load(connection: ladybug.Connection, csvs: Path, counts: dict[str, int]) -> None:
    """Create the tables and fill them; the patents without their texts."""
    with tqdm(total=sum(counts[what] for _, what in KINDS.values()), desc="import", unit="row", unit_scale=True) as bar:
        for file, (kind, what) in KINDS.items():
            ends, path = ends_of(file), csvs / (PARQUET if kind == PATENT else file)
            texts = TEXTS if kind == PATENT else ()
            columns = [f"{name} {_TYPES[type]}" for name, type in COLUMNS[file].items() if name not in texts]
            if ends:
                create = f"REL TABLE {kind}({', '.join([f'FROM {ends[0]} TO {ends[1]}', *columns[2:]])})"
            else:
                create = f"NODE TABLE {kind}({', '.join(columns)}, PRIMARY KEY({next(iter(COLUMNS[file]))}))"
            form = "" if kind == PATENT else _FORM.format(str(bool(ends)).lower())
            copy = f"COPY {kind} FROM {json.dumps(str(path), ensure_ascii=False)} {form}"
            _fill(connection, [f"CREATE {create}", copy], path, counts[what], bar)


def _fill(connection: ladybug.Connection, statements: list[str], path: Path, rows: int, progress: "tqdm[Any]") -> None:
    """Copy a file; the bar moves with what the process reads and writes meanwhile, as Ladybug does not tell."""
    before, start, total = progress.n, _moved(), _MOVES * max(path.stat().st_size, 1)

    def state(ended: bool) -> str:
        share = 1.0 if ended else min(1.0, (_moved() - start) / total)
        progress.n = before + round(share * rows)
        return path.name

    with ticking(progress, state):
        try:  # in another thread, so that Ctrl-C arrives here
            in_parallel(connection.execute, statements, 1, lambda _: None, connection.interrupt)
        except _ERRORS as problem:  # the CSVs are good unless they cannot be read
            advice = "run the command again; if that does not help, write the file again with --overwrite"
            if _is_out_of_memory(problem):
                advice = "pass a larger --memory"
            elif "No space left" in str(problem):
                advice = "free disk space"
            raise InputError(f"{path} cannot be imported ({problem}); {advice}") from None


def _moved() -> int:
    """Bytes that this process has read from files and written; 0 on a system that does not count them."""
    counters = Path("/proc/self/io")
    return sum(int(line.split()[1]) for line in counters.read_text().splitlines()[:2]) if counters.exists() else 0


def _is_out_of_memory(problem: BaseException) -> bool:
    return isinstance(problem, MemoryError) or "buffer pool is full" in str(problem) or "bad_alloc" in str(problem)
