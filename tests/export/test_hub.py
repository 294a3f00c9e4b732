"""`keeptune push`: what it would upload, what it refuses to, and what reaches a server in the hub's place."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from end_to_end.command import keeptune, ok, refused
from export import published
from export.hub_server import Hub, local_hub

pytest.importorskip("model_signing", reason="needs the extra evidence")
pytest.importorskip("cyclonedx", reason="needs the extra evidence")

from cryptography.hazmat.primitives.asymmetric import ec
from export.test_signature import write_key
from huggingface_hub import ModelCard, constants

from keeptune.export.private_text import find_private_text, private_part
from keeptune.export.signature import verify_signature

FILES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "bom.cdx.json",
    "gate.json",
    "export.json",
    "keeptune.json",
}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return published.write(tmp_path / "sums")


def point_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the hub's client talk to the local server, with a token."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_without_yes_nothing_is_sent(adapter: Path) -> None:
    done = ok("push", adapter, "acme/sums")
    listed = {line.split("  ")[0].strip() for line in done.out.partition("\n\n")[0].splitlines()[:-1]}
    assert listed == FILES
    assert "7 files, " in done.out
    assert "- Lost: grammar." in done.out
    assert "--yes" in done.err


def test_with_yes_the_folder_is_committed(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = write_key(tmp_path / "key.pem", ec.generate_private_key(ec.SECP256R1()))
    with local_hub() as hub:
        point_to(hub, monkeypatch)
        done = ok("push", adapter, "acme/sums", "--key", key, "--yes")
    assert done.out.splitlines()[-1] == f"{hub.url}/acme/sums/commit/1"
    assert [(one["name"], one["organization"], one["visibility"]) for one in hub.created] == [
        ("sums", "acme", "private")
    ]
    assert hub.cards == [hub.files["README.md"].decode()], "the hub was asked whether the card is valid"
    assert hub.tokens == {"Bearer hf_test"}
    assert set(hub.files) == FILES | {"model.sig"}
    assert "keeptune" in hub.message
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for name, content in hub.files.items():
        (downloaded / name).write_bytes(content)
    assert not verify_signature(downloaded, key.with_suffix(".pub"))
    assert "valid" in ok("verify", downloaded, "--key", key.with_suffix(".pub")).out
    bom = json.loads(hub.files["bom.cdx.json"])
    hashes = {one["name"]: one["hashes"][0]["content"] for one in bom["metadata"]["component"]["components"]}
    for name in FILES - {"bom.cdx.json"}:
        assert hashes[name] == hashlib.sha256(hub.files[name]).hexdigest()
    assert ModelCard.load(downloaded / "README.md").data.base_model == published.HUB_ID


def test_an_unreachable_hub_is_named(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_hub() as hub:
        point_to(hub, monkeypatch)
    done = keeptune("push", adapter, "acme/sums", "--yes")
    assert done.code == 2
    assert f"{hub.url}/acme/sums: cannot be uploaded" in done.err


def test_offline_mode_is_named(adapter: Path) -> None:
    done = keeptune("push", adapter, "acme/sums", "--yes")
    assert done.code == 2
    assert "HF_HUB_OFFLINE" in done.err


@pytest.mark.parametrize("name", ["sums", "acme/sums/more", "acme/su ms"])
def test_a_bad_name_is_refused(adapter: Path, name: str) -> None:
    assert "ORGANIZATION/NAME" in refused(2, "push", adapter, name)


def test_secrets_and_paths_are_refused(adapter: Path, tmp_path: Path) -> None:
    token = "hf_" + "a1B2" * 10
    (adapter / "README.md").write_text(f"# Sums\n\nlog in with {token}\n", encoding="utf-8")
    message = refused(2, "push", adapter, "acme/sums")
    assert "README.md:" in message
    assert "a Hugging Face token" in message
    assert token not in message
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    (other / "README.md").unlink()
    config = json.loads((other / "adapter_config.json").read_text(encoding="utf-8"))
    published.write_json(other / "adapter_config.json", {**config, "base_model_name_or_path": str(tmp_path)})
    assert "adapter_config.json:1: a path of this machine" in refused(2, "push", other, "acme/sums")


@pytest.mark.parametrize(
    "line",
    [
        "sk-proj-" + "a" * 30,
        "token: ghp_" + "a" * 36,
        "AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN EC PRIVATE KEY-----",
        "saved to /home/someone/models",
        "saved to C:\\\\Users\\\\someone",
        '"/root/.cache/models"',
    ],
)
def test_private_lines(line: str) -> None:
    assert private_part(line)


@pytest.mark.parametrize(
    "line",
    [
        "https://huggingface.co/home/someone",
        "#!/usr/bin/env python",
        "keeptune/export and a/b/c, 3/4/5, runs/home/x",
        "hf_hub and sk-learn",
        '"/no-such-folder-here/file"',
        "./home/me/x and ~/models/x",
    ],
)
def test_public_lines(line: str) -> None:
    assert private_part(line) is None


def test_the_header_of_a_binary_file_is_searched(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b'{"path": "/home/someone/x"}\0\0')
    assert find_private_text(tmp_path) == ["weights.bin:1: a home directory (/home/someone)"]
