"""Publish a trained model on the Hugging Face hub: weights, card, record, ids of its patents, evaluation tables.

    hf auth login                                                        # once, or set HF_TOKEN
    python -m patentcl.publish patentCL-10K NAME/patentCL-10K --private  # NAME: yours, or your organisation's

Run again, it uploads what has changed. Checkpoints, logs and caches are not uploaded, and no path of this machine.
"""

import argparse
import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from yaml import YAMLError

from .common.cli import InputError, command_line, first_line, run_script
from .common.files import MODELS, intact, read_json, unchanged

# What belongs to a model: no pickles, as optimizer states are such. Folders: modules, tables, other weights.
FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.md", "*.csv", "*.png", "*.onnx")
FOLDERS = ("[0-9]_*", "evaluation", "onnx")
OURS = ("*.safetensors", "evaluation/*", "onnx/*")  # deleted in the repository if the folder has them no longer
EMPTY = {".gitattributes", "README.md", "LICENSE"}  # what a new repository may hold
AGAIN = "Run the same command again: what has arrived is not sent twice"
DENIED = "you may not write there. Use your own name or that of an organisation, and a token with write access"
ADVICE = {401: "the token is refused. Run: hf auth login --force (or renew HF_TOKEN)", 403: DENIED, 404: DENIED}


def main(argv: Sequence[str] | None = None) -> None:
    """Publish, and print what is there."""
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(" ".join(["python", *command_line()]), description=__doc__, formatter_class=how)
    parser.add_argument("model", metavar="MODEL", help="folder, or folder in models/")
    parser.add_argument("repo", metavar="REPO", help="repository on the hub, as NAME/MODEL")
    parser.add_argument("--private", action="store_true", help="make it private, and refuse one that is public")
    print(publish(**vars(parser.parse_args(argv))))


def publish(model: str, repo: str, private: bool = False) -> str:
    """Make the hub's `repo` hold the model in the folder `model` by one commit; return a line on what was done.

    Raises `InputError` for what the user can fix; then the repository is as it was.
    """
    folder = next((path for path in (Path(model).expanduser(), MODELS / model) if (path / "run.json").exists()), None)
    if folder is None:
        raise InputError(f"{model} is no folder of a model that patentCL trained, nor one in {MODELS}.")
    unchanged(folder / "run.json")
    with intact(folder / "README.md"):
        try:
            licence = ModelCard((folder / "README.md").read_text(encoding="utf-8")).data.get("license")
        except YAMLError as problem:
            raise ValueError(f"its head is no YAML: {' '.join(str(problem).split())}") from None
    with intact(folder / "run.json"):
        files = {path: _content(folder, path, repo) for path in _files_of(folder)}
    if not get_token():
        raise InputError("You are not logged in to the Hugging Face hub. Run: hf auth login (or set HF_TOKEN)")
    try:
        if repo.count("/") != 1:
            raise ValueError("pass NAME/MODEL, such as me/patentCL-10K")
        api = HfApi()
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        info = api.model_info(repo)
        there = {file.rfilename for file in info.siblings or []}
        if private and not info.private:
            raise InputError(f"{url} is public. Make it private in its settings, or leave out --private.")
        if "run.json" not in there and (others := there - EMPTY):
            raise InputError(f"{url} holds another model ({min(others)}). Choose another name.")
        old = sorted(path for path in there.difference(files) if any(fnmatch(path, ours) for ours in OURS))
        deletions, additions = map(CommitOperationDelete, old), (CommitOperationAdd(*file) for file in files.items())
        message = f"{folder.resolve().name} by patentCL"
        commit = api.create_commit(repo, [*deletions, *additions], commit_message=message)
    except HfHubHTTPError as problem:
        status = problem.response.status_code
        raise InputError(f"{repo}: {ADVICE.get(status, f'the hub is in trouble. {AGAIN}')} ({status}).") from None
    except (HTTPError, OSError, RuntimeError, ValueError) as problem:  # a broken connection, or a wrong name or card
        raise InputError(f"{repo}: {first_line(problem)}. {'' if isinstance(problem, ValueError) else AGAIN}") from None
    if not licence:
        print("The card names no licence, as the base model has none: check that you may share it.")
    done = "up to date" if commit.oid == info.sha else "private" if info.private else "public"
    return f"{url}: {done}, {len(files)} files, {sum((folder / path).stat().st_size for path in files) / 1e6:,.0f} MB"


def _files_of(folder: Path) -> list[str]:
    """The paths in `folder` of the files that are published, sorted."""
    paths = [path.relative_to(folder) for path in folder.rglob("[!.]*") if path.is_file()]
    known = [path for path in paths if any(path.match(pattern) for pattern in FILES)]
    return sorted(str(p) for p in known if all(any(fnmatch(part, name) for name in FOLDERS) for part in p.parts[:-1]))


def _content(folder: Path, path: str, repo: str) -> Path | bytes:
    """What the repository gets of a file: the card loads the model from there, the record names no local folders."""
    record = read_json(folder / "run.json")
    if path == "README.md":
        card = (folder / path).read_text(encoding="utf-8")
        return card.replace(f'SentenceTransformer("{record["name"]}")', f'SentenceTransformer("{repo}")').encode()
    if path == "run.json":
        base = record["card"]["base"] if "card" in record else {"name": Path(record["params"]["base_model"]).name}
        record["params"]["base_model"] = base["name"]
        return json.dumps(record | {"base folder": ""}, indent=2, ensure_ascii=False).encode()
    return folder / path


if __name__ == "__main__":
    run_script(main)
