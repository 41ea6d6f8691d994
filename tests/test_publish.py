"""A model is published on a hub that a local server plays: completely, once, and nothing that does not belong there."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import hub as hub_module
from hub import TOKEN, Handler, Hub, Repository
from patentcl.common.cli import InputError
from patentcl.common.files import read_json
from patentcl.publish import main, publish

REPO = "me/tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub, to which the user is logged in."""
    with hub_module.hub() as play:
        monkeypatch.setattr(constants, "ENDPOINT", play.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield play


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A trained model, among whose files lies what must not be uploaded."""
    folder = shutil.copytree(trained, tmp_path / "tiny")
    for name in ("optimizer.pt", "pytorch_model.bin", ".cache/vectors.json", "checkpoint-5/model.safetensors", "a.npz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not for others")
    return folder


def test_a_model_is_published_with_its_card_ids_and_tables_and_nothing_else(
    hub: Hub, model: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(model), REPO, "--private"])

    repo = hub.repositories[REPO]
    assert repo.private and repo.commits == 1
    expected = {path for path in trained.rglob("*") if path.is_file() and path.suffix not in (".lock", ".log")}
    assert set(repo.files) == {".gitattributes"} | {str(path.relative_to(trained)) for path in expected}
    assert {"ids_train.txt", "ids_test.txt", "evaluation/200-test.csv", "1_Pooling/config.json"} <= set(repo.files)
    assert repo.files["model.safetensors"] == (trained / "model.safetensors").read_bytes()
    assert f'SentenceTransformer("{REPO}")' in repo.files["README.md"].decode()
    base = Path(read_json(trained / "run.json")["params"]["base_model"])
    assert json.loads(repo.files["run.json"])["params"]["base_model"] == base.name
    assert not [name for name, content in repo.files.items() if str(base.parent).encode() in content]
    printed = "".join(capsys.readouterr())
    assert f"{hub.url}/{REPO}" in printed and TOKEN not in printed


def test_published_again_only_what_changed_is_uploaded(hub: Hub, model: Path) -> None:
    (model / "model-old.safetensors").write_bytes(b"a part of the weights")
    publish(str(model), REPO)
    assert "up to date" in publish(str(model), REPO)
    repo = hub.repositories[REPO]
    assert repo.commits == 1

    (model / "model-old.safetensors").unlink()
    with (model / "README.md").open("a") as card:
        card.write("One more limit.\n")
    hub.asked.clear()
    publish(str(model), REPO)

    assert repo.commits == 2 and repo.files["README.md"].endswith(b"One more limit.\n")
    assert "model-old.safetensors" not in repo.files
    assert not [asked for asked in hub.asked if "/storage/" in asked]


def test_without_a_login_nothing_is_asked(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")

    with pytest.raises(InputError, match="hf auth login"):
        publish(str(model), REPO)
    assert not hub.asked


@pytest.mark.parametrize(
    ("token", "repo", "named"), [("hf_old", REPO, "401"), (TOKEN, "other/tiny", r"other/tiny.*403")]
)
def test_a_token_that_may_not_write_is_refused_in_one_sentence(
    token: str, repo: str, named: str, hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["other/tiny"] = Repository(files={"run.json": b"{}"})
    monkeypatch.setenv("HF_TOKEN", token)

    with pytest.raises(InputError, match=named) as problem:
        publish(str(model), repo)
    assert token not in str(problem.value) and set(hub.repositories) == {"other/tiny"}


@pytest.mark.parametrize(("files", "named"), [({"config.json": b"theirs"}, r"config\.json"), ({}, "--private")])
def test_another_model_and_a_public_repository_that_should_be_private_are_left_alone(
    files: dict[str, bytes], named: str, hub: Hub, model: Path
) -> None:
    hub.repositories[REPO] = Repository(files=files)

    with pytest.raises(InputError, match=named):
        publish(str(model), REPO, private=not files)
    assert hub.repositories[REPO].files == files


def cut(where: str) -> Callable[[Handler, str], bool]:
    """Hang up instead of answering a path that holds `where`."""

    def fault(handler: Handler, path: str) -> bool:
        if where in path:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        return where in path

    return fault


@pytest.mark.parametrize("where", ["/storage/", "/commit/", "/api/repos/create"])
def test_a_connection_that_breaks_leaves_the_repository_and_the_next_try_completes_it(
    where: str, hub: Hub, model: Path
) -> None:
    hub.fault = cut(where)
    with pytest.raises(InputError, match=REPO):
        publish(str(model), REPO)
    assert all(set(repo.files) == {".gitattributes"} for repo in hub.repositories.values())

    hub.fault = lambda handler, path: False
    publish(str(model), REPO)
    assert "model.safetensors" in hub.repositories[REPO].files


@pytest.mark.parametrize(
    ("where", "status", "named"), [("/api/repos/create", 500, "500"), ("/api/validate-yaml", 400, r"README\.md")]
)
def test_what_the_server_refuses_is_named(where: str, status: int, named: str, hub: Hub, model: Path) -> None:
    def fails(handler: Handler, path: str) -> bool:
        if path == where:
            handler.send(status, {"error": "no", "errors": [{"message": "no licence"}], "warnings": []})
        return path == where

    hub.fault = fails
    with pytest.raises(InputError, match=named):
        publish(str(model), REPO)
    assert all(not repo.commits for repo in hub.repositories.values())


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "me/ tiny"])
def test_a_name_that_no_repository_has_is_refused(name: str, hub: Hub, model: Path) -> None:
    with pytest.raises(InputError, match=name):
        publish(str(model), name)
    assert not hub.asked


def test_what_is_no_trained_model_or_has_damaged_weights_is_refused(hub: Hub, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        publish(str(tmp_path / "nowhere"), REPO)
    with (model / "model.safetensors").open("r+b") as weights:
        weights.write(b"x")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        publish(str(model), REPO)
    assert not hub.asked


@pytest.mark.parametrize("card", [None, b"\xff", b"---\n- 1\n---\n", b"---\nlicense: [\n---\n"])
def test_a_model_whose_card_is_missing_or_damaged_is_refused(hub: Hub, model: Path, card: bytes | None) -> None:
    (model / "README.md").unlink()
    if card:
        (model / "README.md").write_bytes(card)
    with pytest.raises(InputError, match=r"README\.md"):
        publish(str(model), REPO)
    assert not hub.asked


def test_the_command_uses_the_endpoint_of_the_environment_and_prints_no_token(hub: Hub, model: Path) -> None:
    here = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    command = [sys.executable, "-m", "patentcl.publish", str(model)]

    done = subprocess.run([*command, REPO], env=os.environ | here, capture_output=True, text=True)
    refused = subprocess.run([*command, "other/tiny"], env=os.environ | here, capture_output=True, text=True)

    assert (done.returncode, refused.returncode) == (0, 2), done.stderr + refused.stderr
    assert REPO in hub.repositories
    assert TOKEN not in done.stdout + done.stderr + refused.stdout + refused.stderr
    assert refused.stderr.count("error: ") == 1 and "Traceback" not in refused.stderr
