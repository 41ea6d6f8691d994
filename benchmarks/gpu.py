"""All measurements on a GPU, in one command of at most 8 minutes that needs no network.

    python benchmarks/gpu.py --triplets data/water/triplets/800 --tokenizer gpu/tokenizer --wheels gpu --output gpu.json

Parts: the card; whether vectors and gradients equal the stock library's; training throughput of the stock trainer, of
today's path and of static shapes with CUDA graphs; embedding throughput; a training that is killed and resumed, and one
that runs out of memory. Each part runs in its own process with a time limit and writes its results at once, so what one
part costs the others is time only. The model is an MPNet of base size with random weights; `--smoke` runs a tiny one on
the CPU.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "training_scripts"), str(Path(__file__).parent)]

from patentcl.common.cli import option, parse_options, run_script  # noqa: E402

GOALS: dict[Any, Any] = {  # on one H100, of an MPNet of base size, water grants at 512 tokens, bf16
    ("training", 16): (1_000, 0.23),  # triplets/s, share of the card's dense bf16 rate
    ("training", 64): (1_700, 0.40),
    "memory GB": 12,  # at batch 16
    "embedding": 8_000,  # texts/s
    "difference": 1e-5,  # in fp32
}
SIDES = {  # attention, graphs, mode of the compiler
    "rows": ("sdpa", "auto", ""),
    "sdpa": ("sdpa", "off", ""),
    "flex rows": ("flex", "auto", ""),
    "stock": ("", "off", ""),
    "flex": ("flex", "off", ""),
    "rows, compiled": ("sdpa", "compile", "default"),
    "flex rows, compiled": ("flex", "compile", "default"),
    "rows, autotuned": ("sdpa", "compile", "max-autotune-no-cudagraphs"),
}
LIMITS = {"card": 40, "equal fp32": 70, "equal bf16": 60, "side:rows": 90, "resume": 60, "encode": 60}  # seconds
LIMITS |= dict.fromkeys(("side:rows, compiled", "side:flex rows, compiled", "side:rows, autotuned"), 110)
LIMIT = 65  # of another side
BF16 = {"H100": 989, "H200": 989, "A100": 312, "4090": 165, "A4500": 95}  # dense TFLOP/s of the data sheets
LEAST = 15  # seconds that are worth a start
NCCL = "Two processes over NCCL need two cards: they were not measured. Each would train without graphs."


@dataclass(frozen=True)
class Options:
    """The command line."""

    triplets: Path = option(MISSING, "folder of mined triplets", metavar="DIR")
    tokenizer: str = option("minilm", "folder with a tokenizer for the model", metavar="DIR")
    wheels: Path | None = option(None, "folder of wheels to install from first", metavar="DIR")
    output: Path = option(Path("gpu.json"), "results, written after each part", metavar="FILE")
    minutes: float = option(7.5, "time for all parts; what is left out is said")
    parts: str = option("", "parts, joined by + (default: all)")
    smoke: bool = option(False, "run a tiny model on the CPU")
    part: str = option("", argparse.SUPPRESS)  # set by the parent process
    work: Path | None = option(None, argparse.SUPPRESS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all parts, print the table."""
    (options,) = parse_options(__doc__, Options, argv=argv)
    if options.part:
        from gpu_parts import PARTS  # whose libraries may come as wheels

        PARTS[options.part.partition(":")[0]](options)
        return
    ended = time.perf_counter() + 60 * options.minutes
    results: dict[str, Any] = {"goals": {str(name): goal for name, goal in GOALS.items()}, "note": NCCL}
    sides = ["rows", "sdpa"] if options.smoke else [*SIDES]  # the others need CUDA
    first = ["card", "equal fp32", "side:rows", "side:sdpa", "side:stock", "equal bf16", "encode", "resume", "memory"]
    others = [f"side:{side}" for side in sides if f"side:{side}" not in first]
    names = options.parts.split("+") if options.parts else [*first, *others]
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        environment = install(options.wheels, work)
        for name in names:
            left = ended - time.perf_counter()
            limit = left if options.smoke else min(LIMITS.get(name, LIMIT), left)
            results[name] = in_a_process(replace(options, part=name, work=work), limit, environment)
            print(f"{name}: {results[name].get('error') or 'done'}, {results[name]['wall s']:.0f} s", flush=True)
            options.output.write_text(json.dumps(results, indent=1))
    print(table(results))


def install(wheels: Path | None, work: Path) -> dict[str, str]:
    """Install `wheels` beside the packages of this machine; return the environment that finds them."""
    paths = [str(ROOT / "training_scripts"), str(work / "site"), os.environ.get("PYTHONPATH", "")]
    if wheels:
        files = sorted(map(str, wheels.glob("*.whl")))
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        done = subprocess.run([*pip, "--target", str(work / "site"), *files], check=False)  # noqa: S603
        if done.returncode:
            print(f"{wheels}: not all wheels could be installed; parts that need them will fail.")
    return {**os.environ, "PYTHONPATH": ":".join(filter(None, paths)), "TOKENIZERS_PARALLELISM": "true"}


def in_a_process(part: Options, limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part in its own process; its last line of JSON is the result, also when it fails after that."""
    if limit < LEAST:
        return {"error": "left out for want of time", "wall s": 0.0}
    command = [sys.executable, __file__, "--part", part.part, "--triplets", str(part.triplets)]
    command += ["--tokenizer", part.tokenizer, "--work", str(part.work), *["--smoke"] * part.smoke]
    started, error = time.perf_counter(), ""
    try:
        done = subprocess.run(  # noqa: S603 (itself)
            command, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
        output = done.stdout
        if done.returncode:
            error = f"exit code {done.returncode}: {done.stderr[-1500:]}"
    except subprocess.TimeoutExpired as late:
        output, error = (late.stdout or b"").decode(), f"stopped after {limit:.0f} s"
    return last_json(output) | ({"error": error} if error else {}) | {"wall s": time.perf_counter() - started}


def last_json(output: str) -> dict[str, Any]:
    """The last line of `output` that is a JSON object."""
    for line in reversed(output.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            if line.startswith("{"):
                result: dict[str, Any] = json.loads(line)
                return result
    return {}


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each side and batch, with the goals beside, then the other parts."""
    card = results.get("card", {})
    lines = [f"{card.get('device', 'no card')}, torch {card.get('torch', '?')}", ""]
    lines += ["| side | batch | triplets/s | goal | share of bf16 | goal | GB | kernels | launches | s of capture |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    nominal = next((rate for name, rate in BF16.items() if name in card.get("device", "")), float("nan"))
    for name, part in results.items():
        for batch, row in part.items() if isinstance(part, dict) and part.get("kind") == "side" else ():
            if not isinstance(row, dict):
                continue
            goal: Any = GOALS.get(("training", int(batch)), ("", ""))
            if "error" in row:
                lines.append(f"| {name} | {batch} | {row['error'][:80]} |")
                continue
            cells = [row["triplets/s"], goal[0], row.get("TFLOP/s without attention", 0) / nominal, goal[1]]
            cells += [row.get("memory GB", 0), row.get("kernels per step", 0), row.get("launches per step", 0)]
            cells += [row.get("capture s", 0)]
            shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
            lines.append(f"| {name} | {batch} | {' | '.join(shown)} |")
    for name, part in results.items():
        if isinstance(part, dict) and (part.get("kind") != "side" or "error" in part) and name != "goals":
            lines.append(f"{name}: {json.dumps({k: v for k, v in part.items() if k not in ('16', '64', '256')})}")
    goals = "; ".join(f"{name}: {goal}" for name, goal in GOALS.items())
    return "\n".join([*lines, f"Goals: {goals}", results["note"]])


if __name__ == "__main__":
    run_script(main)
