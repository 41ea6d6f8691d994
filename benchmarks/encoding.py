"""Benchmark of embedding a corpus: patentCL against `SentenceTransformer.encode` with the same model.

    python benchmarks/encoding.py --triplets data/triplets/10K --models minilm models/all-mpnet-base-v2

Both sides embed the same texts (title + separator token + abstract), sorted by length, and take turns; loading is not
timed. Ours uses bf16 if the device supports it, stock uses fp32. The table shows the lowest cosine similarity of a text
between the two, and the peak memory of the process that runs both.
"""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path

import numpy as np
import torch

from patentcl.common.cli import option, parse_options, run_script
from patentcl.models.device import peak_memory_gb, precision
from patentcl.models.embed import encode
from patentcl.models.load import find_model
from patentcl.models.tokens import join_texts, separator
from patentcl.triplets.dataset import load_dataset


@dataclass(frozen=True)
class Options:
    """The command line."""

    triplets: Path = option(MISSING, "folder of mined triplets, whose texts are embedded", metavar="DIR")
    max_length: int = option(0, "maximum tokens per text (0: the model's limit)")
    models: list[str] = field(default_factory=lambda: ["minilm"], metadata={"help": "models", "metavar": "NAME|DIR"})
    texts: int = option(256, "texts in each part")
    parts: int = option(3, "parts of each side; the first one warms up")


def main(argv: Sequence[str] | None = None) -> None:
    """Run both sides in turn and print the table."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {precision()}")
    print(f"{'model':24} {'ours':>10} {'stock':>10} {'ratio':>6}  lowest cosine   memory")
    data = load_dataset(options.triplets)
    for name in options.models:
        model = find_model(name).load(options.max_length)
        seconds, cosines = {"ours": 0.0, "stock": 0.0}, []
        for part in range(options.parts):
            chosen = data.read_texts(np.random.default_rng(part).permutation(len(data.texts))[: options.texts])
            started = time.perf_counter()
            ours = encode(model, chosen)
            middle = time.perf_counter()
            stock = model.encode(join_texts(chosen, separator(model)), batch_size=32, show_progress_bar=False)
            ended = time.perf_counter()
            if part or options.parts == 1:
                seconds["ours"] += middle - started
                seconds["stock"] += ended - middle
            norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(stock, axis=1)
            cosines.append(((ours * stock).sum(axis=1) / norms).min())
        count = options.texts * max(options.parts - 1, 1)
        rates = {side: count / value for side, value in seconds.items()}
        ratio = rates["ours"] / rates["stock"]
        print(
            f"{Path(name).name:24} {rates['ours']:8.1f}/s {rates['stock']:8.1f}/s {ratio:5.2f}x {min(cosines):14.6f} "
            f"{peak_memory_gb():6.2f}GB"
        )


if __name__ == "__main__":
    run_script(main)
