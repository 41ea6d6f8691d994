"""How a vector is read from a model: pooling and prompt, as its folder, its name (`bases.toml`) or the user says."""

import json
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.cli import InputError, option

BASES: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("bases.toml").read_text(encoding="utf-8"))
POOLINGS = ("cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Options: how a vector is read from a model, where that is not what its folder or its name says."""

    pooling: str | None = option(None, "pooling of a text's tokens (default: the model's own)", choices=POOLINGS)
    prompt: str | None = option(None, "text before each patent, or its name in the model ('': none)", metavar="TEXT")


def resolve(name: str, folder: Path, given: Readout) -> tuple[str | None, str, str]:
    """The pooling of a model (None: as its modules do), its prompt, and a note on where the pooling is from."""
    config, names = _read(folder / "config_sentence_transformers.json"), [name]
    names.append(str(_read(folder / "config.json").get("_name_or_path")))
    labels = [] if (folder / "run.json").exists() else [Path(known).name.lower() for known in names]  # not if trained
    known = next((base for label in labels for start, base in BASES.items() if label.startswith(start)), {})
    prompts = config.get("prompts") or {}
    prompt = prompts.get(config.get("default_prompt_name"), known.get("prompt")) or ""
    if given.prompt is not None:
        prompt = prompts.get(given.prompt, given.prompt)
    if given.pooling:
        return given.pooling, prompt, "--pooling"
    if (folder / "modules.json").is_file():
        return None, prompt, "its modules.json"
    if known:
        return known["pooling"], prompt, "; without ".join(filter(None, (known["source"], known.get("without"))))
    return None, prompt, "assumed, as it has no modules.json: pass --pooling if it is another"


def _read(path: Path) -> dict[str, Any]:
    """A JSON file, or nothing; a corrupt one is reported when the model is loaded."""
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


def parse_dimensions(flag: str, text: str | None) -> tuple[int, ...]:
    """The numbers of dimensions in `text`, such as "256,64", largest first. Raises `InputError`, which names `flag`."""
    if text and not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise InputError(f"--{flag} {text}: expected numbers of dimensions, such as 256,64.")
    return tuple(sorted(map(int, text.split(",")), reverse=True)) if text else ()
