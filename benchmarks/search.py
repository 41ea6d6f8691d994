"""Benchmark of the search: exact by blocks, codes with rescoring, and the indexes of usearch and Faiss.

    python benchmarks/search.py                                       # 10,000, 100,000 and 1,000,000 vectors
    python benchmarks/search.py --sizes 10000 --dimensions 384 --methods exact binary hnsw
    python benchmarks/search.py --data data/water --triplets 800 --models minilm   # what codes cost on real patents

The vectors are made: topics in subclasses in sections, with the decaying spectrum of real embeddings. Each method runs
in its own process with one thread, on the same fp16 file and queries, which come from the same topics and are not in
the file. Times are CPU seconds, so that other work on the machine counts little. Columns: seconds to build the index or
the codes; queries a second, one at a time and 200 together; the former against exact search; recall@10 against exact
search; the most memory that the process takes for it, mapped pages of files included; the size of the index on disk.
Rows are kept in `--work` and not measured again. usearch and faiss-cpu are not in requirements.txt: install them for
their rows.
"""

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patentcl.common.cli import option, parse_options, run_script
from patentcl.common.files import DATA
from patentcl.search.nearest import Codes, nearest, quantise

QUERIES, TOP, BATCH = 200, 10, 20  # queries; of them one at a time
Answer = Callable[[np.ndarray], np.ndarray]  # queries (q, d) → rows (q, 10)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sizes: list[int] | None = option(None, "numbers of vectors (default: 10000 100000 1000000)", metavar="N")
    dimensions: list[int] | None = option(None, "dimensions (default: 384 768)", metavar="D")
    methods: list[str] | None = option(None, "methods (default: all)", metavar="NAME")
    work: Path = option(DATA / "search_benchmark", "folder for vectors and finished rows", metavar="DIR")
    models: list[str] | None = option(None, "real patents instead: embed the held-out set with these", metavar="NAME")
    data: Path = option(DATA, "folder that patent_handler.py wrote to", metavar="DIR")
    triplets: str = option("10K", "triplets whose test patents are the queries", metavar="NAME")


def make_vectors(count: int, dimensions: int, queries: int, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (count, d) float16 and queries (queries, d) float32 of 8 sections, 640 subclasses and topics of 20."""
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0].astype(np.float32)
    scale = (np.arange(1, dimensions + 1) ** -0.4).astype(np.float32)

    def draw(rows: int) -> np.ndarray:
        return random.standard_normal((rows, dimensions), np.float32) * scale

    subclasses = 0.6 * draw(8)[random.integers(8, size=640)] + 0.6 * draw(640)
    topics = max(1, count // 20)
    centres = subclasses[random.zipf(1.3, topics) % 640] + 0.6 * draw(topics)
    vectors = np.empty((count, dimensions), np.float16)
    for start in range(0, count, 50_000):
        some = random.integers(topics, size=min(50_000, count - start))
        vectors[start : start + len(some)] = (centres[some] + 0.6 * draw(len(some))) @ rotation
    return vectors, (centres[random.integers(topics, size=queries)] + 0.6 * draw(queries)) @ rotation


def exact(vectors: np.ndarray, folder: Path) -> Answer:
    """Ours, without an index."""
    return lambda queries: nearest(vectors, queries, TOP)[0]


def coded(kind: str) -> Callable[[np.ndarray, Path], Answer]:
    """Ours, with codes and rescoring."""

    def build(vectors: np.ndarray, folder: Path) -> Answer:
        codes = quantise(vectors, folder / "codes.npy", kind)
        return lambda queries: nearest(vectors, queries, TOP, codes=codes)[0]

    return build


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    rows = np.asarray(vectors, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def usearch(vectors: np.ndarray, folder: Path) -> Answer:
    """HNSW of usearch with its defaults, fp16."""
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="cos", dtype="f16")
    for start in range(0, len(vectors), 50_000):
        index.add(np.arange(start, min(start + 50_000, len(vectors))), vectors[start : start + 50_000], threads=1)
    index.save(str(folder / "index"))
    return lambda queries: (
        index.search(queries.astype(np.float16), TOP, threads=1).keys.astype(int).reshape(len(queries), TOP)
    )


def faiss(factory: str, probes: int = 0) -> Callable[[np.ndarray, Path], Answer]:
    """An index of Faiss by the name of its factory; lists are trained on 50 vectors each."""

    def build(vectors: np.ndarray, folder: Path) -> Answer:
        import faiss

        faiss.omp_set_num_threads(1)
        lists = int(4 * len(vectors) ** 0.5)
        index = faiss.index_factory(vectors.shape[1], factory.format(lists=lists), faiss.METRIC_INNER_PRODUCT)
        sample = np.sort(np.random.default_rng(0).permutation(len(vectors))[: 50 * lists])
        index.train(unit(vectors[sample]))
        for start in range(0, len(vectors), 50_000):
            index.add(unit(vectors[start : start + 50_000]))
        if probes:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", probes)
        faiss.write_index(index, str(folder / "index"))
        return lambda queries: index.search(unit(queries), TOP)[1]

    return build


METHODS: dict[str, Callable[[np.ndarray, Path], Answer]] = {
    "exact": exact,
    "int8": coded("int8"),
    "binary": coded("binary"),
    "usearch HNSW": usearch,
    "faiss HNSW": faiss("HNSW32,SQfp16"),
    "faiss IVF": faiss("IVF{lists},SQfp16", probes=32),
}


def measure(folder: Path, method: str) -> None:
    """Build, answer all queries, and write row.json; the answers of exact search are kept for the recall of others."""
    build, peak = METHODS[method], Path("/proc/self/status")

    def memory(name: str) -> float:
        return next(int(line.split()[1]) / 1e6 for line in peak.read_text().splitlines() if line.startswith(name))

    vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    place = folder / method.replace(" ", "_")
    place.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    exact(vectors[:100], place)(queries[:1])  # loads the libraries
    before, started = memory("VmRSS"), time.process_time()
    answer = build(vectors, place)
    built = time.process_time()
    answer(queries[:1])
    asked = time.process_time()
    for query in queries[:BATCH]:
        answer(query[None])
    single = time.process_time()
    found = answer(queries)
    ended = time.process_time()
    if method == "exact":
        np.save(folder / "exact.npy", found)
    truth = np.load(folder / "exact.npy")
    size = sum(file.stat().st_size for file in place.iterdir())
    for file in place.iterdir():
        file.unlink()
    row = {
        "build s": built - started,
        "queries/s": BATCH / (single - asked),
        "together/s": QUERIES / (ended - single),
        "recall@10": float(
            np.mean([len({*a} & {*b}) / TOP for a, b in zip(found.tolist(), truth.tolist(), strict=True)])
        ),
        "memory GB": memory("VmHWM") - before,
        "disk GB": size / 1e9,
    }
    (folder / "row.json").write_text(json.dumps(row))


def rows_of(options: Options) -> list[dict[str, Any]]:
    """Measure what is missing in `options.work`, each method in its own process; all rows that are asked for."""
    file, rows = options.work / "rows.json", []
    options.work.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.exists() else {}
    for dimensions in options.dimensions or (384, 768):
        for size in options.sizes or (10_000, 100_000, 1_000_000):
            folder = options.work / f"{size}_{dimensions}"
            for method in options.methods or METHODS:
                name = f"{size} {dimensions} {method}"
                if name not in known:
                    if not (folder / "queries.npy").exists():
                        folder.mkdir(exist_ok=True)
                        vectors, queries = make_vectors(size, dimensions, QUERIES)
                        np.save(folder / "vectors.npy", vectors)
                        np.save(folder / "queries.npy", queries)
                        del vectors
                    (folder / "row.json").unlink(missing_ok=True)
                    process = multiprocessing.get_context("fork").Process(target=measure, args=(folder, method))
                    process.start()
                    process.join()
                    if process.exitcode:
                        continue  # its error is printed
                    known[name] = json.loads((folder / "row.json").read_text())
                    file.write_text(json.dumps(known, indent=1))
                row = {"vectors": size, "d": dimensions, "method": method, **known[name]}
                base = known.get(f"{size} {dimensions} exact", known[name])
                rows.append({**row, "ratio": row["queries/s"] / base["queries/s"]})
    return rows


def losses(options: Options) -> None:
    """Print nDCG@10 and recall@10 of the codes on the test patents of real triplets."""
    from patentcl.evaluation.held_out import held_out_set
    from patentcl.evaluation.metrics import quick
    from patentcl.models.embed import embed
    from patentcl.models.load import find_model
    from patentcl.triplets.dataset import load_dataset

    held_out = held_out_set(load_dataset(options.data / "triplets" / options.triplets), "test")
    print("| model | stored as | nDCG@10 | recall@10 of exact |\n|---|---|---|---|")
    for name in options.models or ():
        vectors = embed(find_model(name), held_out.texts, options.data / "embeddings")
        half = vectors.astype(np.float16)
        truth, _ = nearest(vectors, vectors[held_out.queries], TOP + 1)
        for kind in ("float32", "float16", "int8", "binary"):
            stored = vectors if kind == "float32" else half
            codes = None
            if kind in ("int8", "binary"):
                path = options.work / f"{Path(name).name}.{kind}.npy"
                path.unlink(missing_ok=True)
                codes = quantise(stored, path, kind)

            def ranker(rows: np.ndarray, stored: np.ndarray = stored, codes: Codes | None = codes) -> np.ndarray:
                found, cosines = nearest(stored, stored[rows], 100, codes=codes)
                scores = np.full((len(rows), len(stored)), -1, np.float32)
                np.put_along_axis(scores, found, cosines, axis=1)
                return scores

            found, _ = nearest(stored, stored[held_out.queries], TOP + 1, codes=codes)
            hits = np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)])
            ndcg = quick(ranker, held_out).values["nDCG@10"]
            print(f"| {Path(name).name} | {kind} | {ndcg:.4f} | {hits:.4f} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    if options.models:
        losses(options)
        return
    rows = rows_of(options)
    print("|", " | ".join(rows[0]), "|\n|" + "---|" * len(rows[0]))
    for row in rows:
        print(
            "|",
            " | ".join(
                f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
                for value in row.values()
            ),
            "|",
        )


if __name__ == "__main__":
    run_script(main)
