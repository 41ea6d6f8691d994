"""How fast is embedding a corpus: ours against `SentenceTransformer.encode` of the same model.

    python benchmarks/encoding.py --triplets data/triplets/10K --models minilm models/all-mpnet-base-v2

The same texts, title + separator token + abstract; both sides sort by length, and compute in bf16 where the device has
it (ours) or in fp32. They take turns; loading is not timed. The cosine is the least of any text between the two; memory
is the most that both together needed.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from patentcl.common.cli import run_script
from patentcl.models.device import peak_memory_gb, precision
from patentcl.models.embed import encode
from patentcl.models.load import find_model
from patentcl.models.tokens import join_texts, separator
from patentcl.triplets.dataset import load_dataset


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--triplets", type=Path, required=True, metavar="DIR", help="a folder of mined triplets, for its texts")
    add("--max-length", type=int, default=0, help="tokens of a text that are read (0: as many as the model says)")
    add("--models", nargs="+", default=["minilm"], metavar="NAME|DIR", help="models")
    add("--texts", type=int, default=256, help="texts of each part")
    add("--parts", type=int, default=3, help="parts of each side; the first one warms up")
    return parser.parse_args()


def main() -> None:
    """Let both sides take turns, print the table."""
    args = parse_arguments()
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {precision()}")
    print(f"{'model':24} {'ours':>10} {'stock':>10} {'ratio':>6}  least cosine   memory")
    texts = load_dataset(args.triplets).texts
    for name in args.models:
        model = find_model(name).load(args.max_length)
        seconds, cosines = {"ours": 0.0, "stock": 0.0}, []
        for part in range(args.parts):
            chosen = texts.iloc[np.random.default_rng(part).permutation(len(texts))[: args.texts]]
            started = time.perf_counter()
            own = encode(model, chosen)
            middle = time.perf_counter()
            stock = model.encode(join_texts(chosen, separator(model)), batch_size=32, show_progress_bar=False)
            ended = time.perf_counter()
            if part or args.parts == 1:
                seconds["ours"] += middle - started
                seconds["stock"] += ended - middle
            norms = np.linalg.norm(own, axis=1) * np.linalg.norm(stock, axis=1)
            cosines.append(((own * stock).sum(axis=1) / norms).min())
        count = args.texts * max(args.parts - 1, 1)
        rates = {side: count / value for side, value in seconds.items()}
        ratio = rates["ours"] / rates["stock"]
        print(
            f"{Path(name).name:24} {rates['ours']:8.1f}/s {rates['stock']:8.1f}/s {ratio:5.2f}x {min(cosines):13.6f} "
            f"{peak_memory_gb():6.2f}GB"
        )


if __name__ == "__main__":
    run_script(main)
