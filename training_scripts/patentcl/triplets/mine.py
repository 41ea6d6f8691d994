"""The graph → triplets: batches of `triplets.cypher`, then kinds of negative, splits and the requested number.

README.md says what a triplet is. A *coupled* positive cites several of the patents that the anchor cites (Kessler 1963,
doi 10.1002/asi.5090140103). Splits are made of whole families: one of val or test plays no role in a train triplet.
"""

import re
from collections.abc import Iterator
from math import ceil, inf
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import beside, fingerprint, finished, intact, is_done, locked, read_json, remove, write_record
from ..common.progress import ticking
from ..common.resources import Resources, require
from ..graph.base import Graph, TooLarge
from ..graph.parallel import in_parallel
from ..tables.family import BUCKETS, PLACES
from ..tables.import_csvs import PARQUET
from .dataset import TABLES
from .options import HUB, MAX_HELD_OUT, SPLITS, Mining, P, Q
from .patents import KEPT, held_out, read_patents
from .select import Candidates, are_enough
from .write import BASE, FILES, write_triplets

LISTS = ("positives", "examiner", "relevant", "coupled", "shared")  # columns of lists in the answers of the query
QUERY = Path(__file__).with_name("triplets.cypher")
# Measured with 0.3, 1 and 9 million patents and 2.4 triplets each; bytes, rounded up.
BLOCKS = 600_000_000  # of memory: texts that are read and written
READ, SORTED = 130, 120  # of memory: to read a patent, and for each triplet that is put in order
ANSWERS = 150  # of disk, for each citing patent
WRITTEN = 40  # of disk, for each triplet, in the result and before in temporary files
DRAWS, MAX_DRAWS, FEW_PATENTS = 2, 32, 100_000  # a negative has more draws where patents are few: they cost nothing


def mine(
    graph: Graph, data: Path, name: str, mining: Mining, overwrite: bool = False, resources: Resources = Resources()
) -> dict[str, Any]:
    """Mine triplets into `data/triplets/<name>/` and return the record `triplets.json`.

    Answers of queries are kept until the end: a mining that was interrupted resumes after them. When the result exists
    already, nothing is done. Raises `InputError` when the graph has no triplets.
    """
    csvs, folder = data / "graph", data / "triplets" / name
    source = read_json(csvs / "graph.json")
    if not source["counts"]["classified"]:
        mining = mining.without_classes()
    params = {"graph": source["fingerprint"], "query": fingerprint([QUERY]), **mining.params()}
    model = None
    if mining.filter_model:
        from ..models.load import find_model  # torch takes seconds to import; mining rarely needs it

        model = find_model(mining.filter_model)
        params["filter_model"] = f"{model.name} ({model.fingerprint})"
    if done := finished(folder / "triplets.json", params, overwrite, "mining"):
        return done
    check_needs(folder, csvs, source, mining, resources)
    pa.set_cpu_count(resources.thread_count)
    answered = folder.with_name(f".{name}.batches")
    with locked(csvs, shared=True), locked(answered):  # two runs must not take each other's answers
        batches = Batches(answered, params, graph, query_parts(mining), graph.batch(source["counts"]))
        with intact(csvs / PARQUET):
            patents = read_patents(csvs, mining)
        pa.default_memory_pool().release_unused()  # what reading them took
        candidates = Candidates(patents, mining, source["params"]["seed"])
        run_batches(source, mining, batches, candidates)
        with beside(folder) as scratch:
            scratch.mkdir()
            record = {"params": params, **write_triplets(scratch, data, candidates, model, resources)}
            record |= {"source": source.get("source", "unknown tables"), "seed": source["params"]["seed"]}
            record["fingerprint"] = fingerprint(scratch / table for table in TABLES)
            write_record(scratch / "triplets.json", record, FILES)
        remove(answered)
    return record


def check_needs(folder: Path, csvs: Path, source: dict[str, Any], mining: Mining, resources: Resources) -> None:
    """Raise `InputError` if the triplets written to `folder` do not fit on the disk or into the memory.

    `source` is the record of the import files in `csvs`.
    """
    counts = source["counts"]
    patents, citing = counts["patents"], counts["citing patents"]
    of_each = mining.per_anchor if mining.positives == "coupled" else counts["citations"] / max(citing, 1)
    candidates = citing * min(mining.per_anchor, of_each)
    triplets = min(candidates, (mining.count or inf) + 2 * min(mining.max_queries, MAX_HELD_OUT))
    texts = min(patents, len(SPLITS) * triplets + (mining.corpus or patents))
    read = min(candidates, 4 * triplets)  # samples of anchors grow
    share = texts / max(patents, 1)
    disk = share * (csvs / "patents.csv").stat().st_size + WRITTEN * triplets + ANSWERS * citing
    memory = BASE + KEPT * patents + max(BLOCKS, READ * patents, SORTED * read)
    require(folder, disk, memory, f"mining {mining.name} triplets", resources, temporary=WRITTEN * triplets)


def query_parts(mining: Mining) -> dict[str, str]:
    """The parts of the query that `mining` needs, by name: `cited`, perhaps `coupled`, one for each kind."""
    text = QUERY.read_text(encoding="utf-8")
    if mining.split == "time":
        text = text.replace(".place", ".time_place")
    parts = re.findall(r"// part: (\w+)\n(.*?)(?=\n// part:|\Z)", text, re.DOTALL)
    return {name: part for name, part in parts if name != "coupled" or mining.positives == "coupled"}


def query_parameters(source: dict[str, Any], mining: Mining) -> dict[str, int]:
    """Parameters of the query that are the same for all batches; `source` is the record of the import CSVs.

    A batch adds its ranks `lo`, `hi` and its sample of buckets `from`, `to`; the defaults are the first 1,000 ranks and
    all buckets.
    """
    patents, classified = source["counts"]["patents"], source["counts"]["classified"]
    seed = source["params"]["seed"]
    test, held = held_out(patents, mining)
    draws = max(DRAWS, min(MAX_DRAWS, FEW_PATENTS // patents))
    named = {"n": patents, "classified": classified, "drawable": classified or patents, "test": test, "held": held}
    named |= {"draws": draws, "p": P, "q": Q, "seed": seed % P, "coupled": mining.coupled, "hub": HUB}
    return named | {"lo": 0, "hi": 1_000, "from": 0, "to": BUCKETS}


Query = tuple[str, dict[str, int]]  # name of a part, its parameters for one batch of anchors


class Batches:
    """Answers of queries in `folder`, one Parquet file each, so that an interrupted mining resumes after them."""

    def __init__(self, folder: Path, params: dict[str, Any], graph: Graph, parts: dict[str, str], batch: int) -> None:
        """Ask `graph` the `parts` of the query; keep the answers in `folder` unless they are those of other `params`.

        `batch` is the number of anchors that a query should read; when mining resumes, with more memory perhaps, it is
        the earlier number.
        """
        self.folder, self.fingerprint, self.graph, self.parts = folder, params["graph"], graph, parts
        self._most: dict[str, int] = {}  # part → the number of ranks that a query of it may read
        record = folder / "params.json"
        if folder.exists() and not is_done(record, params):
            print(f"mining: {folder} holds an interrupted mining with other parameters; starting again")
            remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.batch = read_json(record)["batch"] if record.exists() else batch
        write_record(record, {"params": params, "batch": self.batch}, [])
        if answered := len(list(folder.glob("*.parquet"))):
            print(f"mining: resuming (queries answered: {answered:,})")

    def path(self, query: Query) -> Path:
        """The file of an answer."""
        return self.folder / "{from:06d}-{lo:09d}-{hi:09d}-{part}.parquet".format(part=query[0], **query[1])

    def answer(self, query: Query) -> int:
        """Run a query unless it has an answer, which is kept; return 1, the number of queries answered."""
        if not self.path(query).exists():
            answer = self._ask(*query)
            if not self.graph.holds(self.fingerprint):
                raise InputError("another process replaced the graph while it was mined: import this one again")
            with beside(self.path(query)) as scratch:
                pq.write_table(answer, scratch)
        return 1

    def _ask(self, part: str, parameters: dict[str, int]) -> pa.Table:
        """The answer of a query. One that needs more memory than there is, is asked in halves, as are later ones."""
        low, high = parameters["lo"], parameters["hi"]
        if high - low <= self._most.get(part, high):
            try:
                answer = self.graph.run(self.parts[part], parameters)
                types = [pa.list_(pa.int64()) if name in LISTS else pa.int64() for name in answer.column_names]
                # Neo4j gives empty lists no type.
                return answer.cast(pa.schema(zip(answer.column_names, types, strict=True)))
            except TooLarge:
                if high - low == 1:
                    raise
                self._most[part] = (high - low + 1) // 2
        middle = (low + high) // 2
        return pa.concat_tables([self._ask(part, parameters | ends) for ends in ({"hi": middle}, {"lo": middle})])

    def read(self, query: Query) -> pa.Table:
        """The answer of a query."""
        path = self.path(query)
        with intact(path, result=path):  # the others are good
            return pq.read_table(path)


def run_batches(source: dict[str, Any], mining: Mining, batches: Batches, candidates: Candidates) -> None:
    """Query samples of the anchors, a range of ranks at a time, and add the answers, until there are enough."""
    graph, parts = batches.graph, batches.parts
    for sample in _samples(source, mining, batches.batch, graph.sessions):
        queries = [(part, ranks) for ranks in sample for part in parts]
        desc = f"mining {sample[0]['to'] / BUCKETS:.1%} of anchors"
        with tqdm(total=len(queries), desc=desc, unit="query") as progress, ticking(progress):
            in_parallel(batches.answer, queries, graph.sessions, progress.update, graph.stop)
        graph.release()  # its memory is needed for what follows
        for ranks in tqdm(sample, desc="reading answers", unit="batch"):
            candidates.add({part: batches.read((part, ranks)) for part in parts})
        if mining.count is not None and are_enough(candidates.triplets(), mining, candidates.patents.where):
            break


def _samples(source: dict[str, Any], mining: Mining, batch: int, sessions: int) -> Iterator[list[dict[str, int]]]:
    """Growing shares of the anchors, the first of which is expected to be enough: the parameters of each batch.

    A batch is a range of ranks with about `batch` anchors of the sample; each session gets one at least.
    """
    fixed = query_parameters(source, mining)
    patents, held = fixed["n"], fixed["held"] / PLACES
    expected = source["counts"]["citing patents"] * (1 - held) ** 2 * 0.5
    share = 1.0 if mining.count is None else min(1.0, mining.count / max(expected, 1))
    start = 0
    while start < BUCKETS:
        end = min(BUCKETS, max(start + 1, round(share * BUCKETS)))
        if end > 0.7 * BUCKETS:
            end = BUCKETS
        read = (end - start) / BUCKETS + (0 if start else held)
        step = min(round(batch / min(1.0, read)), ceil(patents / sessions))
        sample = {**fixed, "from": start, "to": end}
        yield [{**sample, "lo": lo, "hi": min(lo + step, patents)} for lo in range(0, patents, step)]
        start, share = end, share * 2
