"""The graph → triplets: batches of `triplets.cypher`, then kinds of negative, splits and the size asked for.

A triplet is an anchor, a patent that it cites and shares a CPC subclass with (positive), and a patent that shares no
subclass and no citation with it (negative). Negatives come in three kinds, from hard to easy:

- `citation`: cited by a patent that the anchor cites,
- `sibling`: of the anchor's own CPC class, else of its section,
- `random`: any other.

A positive may also be *coupled*: it cites several of the patents that the anchor cites (Kessler 1963,
doi 10.1002/asi.5090140103), inside the table or outside of it. Many patents of a small table cite none of its others.

Splits are of whole families (see `restructure.py`): a patent of a val or test family plays no role in a train triplet.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..common.cli import InputError
from ..common.files import beside, check_replaceable, is_done, locked, read_json, remove, write_record
from ..graph.base import Graph
from ..graph.parallel import in_parallel
from ..tables.cpc import Sections, sections
from .options import PLACES, SAMPLE_BUCKETS, Mining, P, Q, check_mining, over
from .select import are_enough, held_out
from .write import FILES_OF_FOLDER, write_triplets

if TYPE_CHECKING:
    from ..models.load import Model

MOST_DRAWS, FEW_PATENTS = 32, 100_000  # below 33,000 patents a negative has more draws: they cost nothing there
LISTS = ("positives", "examiner", "relevant", "coupled")  # columns of lists in the query's answers


def mine(graph: Graph, data: Path, name: str, mining: Mining, overwrite: bool = False) -> dict[str, Any]:
    """Mine triplets into `data/triplets/<name>/` and return the record `triplets.json`.

    Finished batches are kept until the end: started again with the same arguments, mining goes on after them.
    Asked again for what lies there already, it does nothing. Raises `InputError` when the graph has no triplets.
    """
    check_mining(mining)
    source = read_json(data / "graph" / "graph.json")
    if not {"params", "counts", "fingerprint"} <= source.keys():
        raise InputError(f"{data / 'graph' / 'graph.json'} is not whole: restructure again with --overwrite")
    folder = data / "triplets" / name
    params = {"graph": source["fingerprint"], "query": _digest(query_file().read_bytes()), **asdict(mining)}
    if mining.filter_model:
        from ..models.load import find_model

        model = find_model(mining.filter_model)
        params["filter_model"] = f"{model.name} ({model.fingerprint})"
    if not overwrite and is_done(folder / "triplets.json", params):
        print(f"mining: {folder} is up to date (--overwrite mines again)")
        return read_json(folder / "triplets.json")
    check_replaceable(folder / "triplets.json", params, overwrite)
    answers = folder.with_name(f".{name}.batches")
    with locked(answers):  # two runs must not take each other's
        batches = Batches(answers, {**params, "batch": graph.batch})
        found = run_batches(graph, source, mining, batches, sections(data / "graph"))
        closer = _closer(model, data / "embeddings") if mining.filter_model else None
        with beside(folder) as scratch:
            scratch.mkdir()
            record = {"params": params, **write_triplets(scratch, data / "graph", source, mining, found, closer)}
            write_record(scratch / "triplets.json", record, FILES_OF_FOLDER)
        remove(answers)
    return record


def _closer(model: "Model", cache: Path) -> Callable[[pd.DataFrame, np.ndarray], np.ndarray]:
    """Whether `model` finds the negative closer to the anchor than the positive, for rows (n, 3) of texts."""
    from ..models.embed import embed  # as in check_mining
    from ..models.vectors import check_vectors, unit_rows

    def closer(texts: pd.DataFrame, triplets: np.ndarray) -> np.ndarray:
        vectors = embed(model, texts, cache)
        check_vectors(vectors, f"--filter-model {model.name}")
        unit = unit_rows(vectors)
        anchor, positive, negative = (unit[triplets[:, role]] for role in range(3))
        return (anchor * negative).sum(axis=1) > (anchor * positive).sum(axis=1)

    return closer


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def query_file() -> Path:
    """Where the query lies: `triplets.cypher` beside this file."""
    return Path(__file__).with_name("triplets.cypher")


def query_parts() -> dict[str, str]:
    """The parts of the query by name."""
    text = query_file().read_text(encoding="utf-8")
    return dict(re.findall(r"// part: (\w+)\n(.*?)(?=\n// part:|\Z)", text, re.DOTALL))


class Batches:
    """Answers of finished queries, one Parquet file each, so that an interrupted mining goes on after them."""

    def __init__(self, folder: Path, params: dict[str, Any]) -> None:
        """Go on with the answers in `folder`, unless something else was `params` there: then begin anew."""
        self.folder, self.fingerprint = folder, params["graph"]
        stamp = folder / "params.json"
        if folder.exists() and (not stamp.exists() or stamp.read_text() != _text(params)):
            print(f"mining: {folder} holds an interrupted mining of other inputs: begins anew")
            remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stamp.write_text(_text(params))
        if waiting := len(list(folder.glob("*.parquet"))):
            print(f"mining: goes on after {waiting} queries that were answered before")

    def answer(self, graph: Graph, part: str, query: str, parameters: dict[str, Any]) -> pd.DataFrame:
        """Read the answer of a query that was finished before, else run it and keep the answer."""
        path = self.folder / f"{parameters['from']:06d}-{parameters['lo']:09d}-{parameters['hi']:09d}-{part}.parquet"
        if not path.exists():
            answer = _integers(graph.run(query, parameters))
            if not graph.holds(self.fingerprint):
                raise InputError("the graph was replaced by another process while it was mined: import this one again")
            with beside(path) as scratch:
                pq.write_table(answer, scratch)
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as problem:
            raise InputError(f"{path} is damaged ({problem}): delete it, and mining answers that query again") from None


def _text(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _integers(table: pa.Table) -> pa.Table:
    """Sums come as decimals from one engine and as integers from the other, and no rows at all have no type."""
    schema = pa.schema([(n, pa.list_(pa.int64()) if n in LISTS else pa.int64())
                        for n in table.column_names])  # fmt: skip
    return table.cast(schema)


def run_batches(
    graph: Graph, source: dict[str, Any], mining: Mining, batches: Batches, where: Sections
) -> dict[str, pd.DataFrame]:
    """Ask for samples of the anchors, a range of ranks at a time, until there are enough; by part of the query."""
    patents, seed = source["counts"]["patents"], source["params"]["seed"]
    test, held = held_out(patents, mining)
    fixed = {"classified": source["counts"]["classified"], "n": patents, "p": P, "q": Q, "seed": seed % P,
             "draws": max(mining.draws, min(MOST_DRAWS, FEW_PATENTS // patents)), "test": test, "held": held,
             "over": over(mining), "coupled": mining.coupled, "hub": mining.hub}  # fmt: skip
    parts = query_parts()
    if mining.positives != "coupled":
        del parts["coupled"]
    found: dict[str, list[pd.DataFrame]] = {part: [] for part in parts}

    def answer(params: tuple[str, dict[str, Any]]) -> tuple[str, pd.DataFrame]:
        part, parameters = params
        return part, batches.answer(graph, part, parts[part], parameters)

    for start, end in _samples(source, mining, held):
        sample = {**fixed, "from": start, "to": end, "anchors": held if start == 0 else 0}
        share = min(1.0, (end - start) / SAMPLE_BUCKETS + sample["anchors"] / PLACES)
        step = min(round(graph.batch / share), ceil(patents / graph.sessions))  # about `batch` anchors a query
        ranges = [{**sample, "lo": lo, "hi": min(lo + step, patents)} for lo in range(0, patents, step)]
        train_only = {"coupled": {"anchors": 0}}
        questions = [(part, {**params, **train_only.get(part, {})}) for params in ranges for part in parts]
        with tqdm(total=len(questions), desc=f"mining {end / SAMPLE_BUCKETS:.1%} of anchors", unit="query") as progress:

            def keep(answered: tuple[str, pd.DataFrame], progress: tqdm = progress) -> None:
                found[answered[0]].append(answered[1])
                progress.update()

            in_parallel(answer, questions, graph.sessions, keep, graph.stop)
        answers = {part: pd.concat(frames).sort_values("anchor", ignore_index=True) for part, frames in found.items()}
        drawn = answers.pop("drawn")
        answers |= {kind: _offers(drawn, kind) for kind in ("sibling", "random")}
        if mining.triplets is not None and are_enough(answers, mining, where, held):
            break
    return answers


def _offers(drawn: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The anchors that have a negative of `kind`: anchor, negative."""
    return drawn[["anchor", kind]].dropna().astype("int64").set_axis(["anchor", "negative"], axis=1)


def _samples(source: dict[str, Any], mining: Mining, held: int) -> Iterator[tuple[int, int]]:
    """Ever larger shares of the anchors, as ranges of buckets: the first is expected to be enough."""
    train = 1 - held / PLACES
    expected = source["counts"]["citing patents"] * train**2 * 0.5
    share = 1.0 if mining.triplets is None else min(1.0, mining.triplets / max(expected, 1))
    start = 0
    while start < SAMPLE_BUCKETS:
        end = min(SAMPLE_BUCKETS, max(start + 1, round(share * SAMPLE_BUCKETS)))
        if end > 0.7 * SAMPLE_BUCKETS:
            end = SAMPLE_BUCKETS
        yield start, end
        start, share = end, share * 2
