"""The pipeline from tables to triplets in one call, for the script, the smoke run and the tests."""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common.cli import Interrupted
from .common.resources import Resources
from .graph.base import Graph, open_graph
from .sample.write import write_sample
from .tables.restructure import restructure
from .triplets.dataset import load_dataset
from .triplets.mine import mine
from .triplets.options import Mining

if TYPE_CHECKING:
    from .training.options import Hyperparameters, RunOptions


def tables_to_triplets(
    tables: Path,
    data: Path,
    name: str,
    mining: Mining,
    graph: Graph | None = None,
    seed: int = 42,
    keep_withdrawn: bool = False,
    overwrite: bool = False,
    resources: Resources = Resources(),
    skip_bad_lines: bool = False,
    restructured_is: Callable[[dict[str, Any]], object] = lambda record: None,
) -> dict[str, Any]:
    """Restructure `tables` into `data/graph/`, import them, mine `data/triplets/<name>/`; return both records.

    `graph` (default: the embedded one of `data`) is closed at the end. A step whose result exists is skipped. The first
    record is given to `restructured_is` before the other steps, which may fail.
    Raises `InputError` for what the user can fix: too little memory for the import, too, before the first step.
    """
    engine = graph or open_graph("embedded", data, resources)

    def later(patents: int, citations: int) -> float:
        counts = Counter(patents=patents, citations=3 * citations // 4)  # the others are of patents outside the tables
        return 0.9 * engine.import_memory(counts)  # an estimate of the rows may be too large by a tenth

    try:
        restructured = restructure(
            tables, data / "graph", seed, keep_withdrawn, overwrite, resources, later, skip_bad_lines
        )
        restructured_is(restructured)
        engine.import_csvs(data / "graph", overwrite)
        mined = mine(engine, data, name, mining, overwrite, resources)
    finally:
        engine.close()
    return {"restructure": restructured, "mining": mined}


def smoke(hyperparameters: "Hyperparameters", options: "RunOptions") -> None:
    """Run the whole pipeline on 300 sample patents in a temporary folder: tables, graph, triplets, model, verdict."""
    from .training.train import train  # torch takes seconds to import; mining does without it

    with tempfile.TemporaryDirectory(prefix="patentcl-smoke-") as folder:
        here = Path(folder)
        write_sample(here / "tables", patents=300)
        tables_to_triplets(here / "tables", here, "smoke", Mining("96"))
        settings = replace(hyperparameters, epochs=1, evaluations=1, max_length=hyperparameters.max_length or 64)
        data = load_dataset(here / "triplets" / "smoke")
        try:
            train(data, here / "smoke", here / "embeddings", settings, options)
        except Interrupted:
            raise KeyboardInterrupt from None  # there is nothing to resume
        print("smoke: the whole pipeline works on this machine; temporary files were removed")
