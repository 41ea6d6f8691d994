"""The road from tables to triplets in one call, for the script, the smoke test and the tests."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from .common.cli import Interrupted
from .graph.base import Graph, open_graph
from .sample.write import write_sample
from .tables.restructure import restructure
from .triplets.dataset import load_dataset
from .triplets.mine import mine
from .triplets.options import Mining


def tables_to_triplets(
    tables: Path,
    data: Path,
    name: str,
    mining: Mining,
    graph: Graph | None = None,
    seed: int = 42,
    keep_withdrawn: bool = False,
    memory: str = "4GB",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Restructure `tables` into `data/graph/`, import them, mine `data/triplets/<name>/`; return both records.

    `graph` is closed at the end; without one, the embedded one of `data` is used. Each step is skipped when its
    result is there already. Raises `InputError` for what the user can mend.
    """
    engine = graph or open_graph("embedded", data, memory)
    try:
        restructured = restructure(tables, data / "graph", seed, keep_withdrawn, memory, overwrite)
        engine.import_csvs(data / "graph", overwrite)
        mined = mine(engine, data, name, mining, overwrite)
    finally:
        engine.close()
    return {"restructure": restructured, "mining": mined}


def smoke(hyperparameters: Any, options: Any) -> None:
    """Walk the whole road with 300 sample patents in a temporary folder: tables, graph, triplets, model, verdict."""
    from .training.train import train  # torch takes seconds to import, and the road to triplets does without it

    with tempfile.TemporaryDirectory(prefix="patentcl-smoke-") as folder:
        here = Path(folder)
        write_sample(here / "tables", patents=300)
        tables_to_triplets(here / "tables", here, "smoke", Mining("96"))
        settings = replace(hyperparameters, epochs=1, evaluations=1, max_length=hyperparameters.max_length or 64)
        data = load_dataset(here / "triplets" / "smoke")
        try:
            train(data, here / "smoke", here / "embeddings", settings, options)
        except Interrupted:
            raise KeyboardInterrupt from None  # there will be nothing to go on with
        print("smoke: the whole road works on this machine; the temporary files are gone")
