"""Signatures with a local key: a folder as it was signed is accepted, and every difference is named."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.command import keeptune, ok, refused

pytest.importorskip("model_signing", reason="needs the extra evidence")

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keeptune.errors import DataError, RunError
from keeptune.export.signature import sign, verify_signature


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    """Writes a key, and its public key beside it with the suffix .pub."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key.pem", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    (folder / "part").mkdir(parents=True)
    for name in ("README.md", "model.gguf", "part/weights.bin"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def test_an_untouched_folder_is_valid(folder: Path, key: Path) -> None:
    assert ok("sign", folder, "--key", key).out == f"{folder / 'model.sig'}\n"
    assert "valid" in ok("verify", folder, "--key", key.with_suffix(".pub")).out


def test_every_difference_is_named(folder: Path, key: Path) -> None:
    sign(folder, key)
    (folder / "model.gguf").write_text("tampered", encoding="utf-8")
    (folder / "README.md").unlink()
    (folder / "part" / "extra.bin").write_text("", encoding="utf-8")
    done = keeptune("verify", folder, "--key", key.with_suffix(".pub"))
    assert done.code == 3
    assert done.out.splitlines() == [
        "changed since it was signed: model.gguf",
        "missing since it was signed: README.md",
        "added since it was signed: part/extra.bin",
    ]


def test_what_no_result_depends_on_may_change(folder: Path, key: Path) -> None:
    for name in ("checkpoints", "tracking"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("", encoding="utf-8")
    sign(folder, key)
    (folder / "checkpoints" / "file").unlink()
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "README.md.lock").write_text("", encoding="utf-8")
    (folder / ".gitattributes").write_text("", encoding="utf-8")
    assert not verify_signature(folder, key.with_suffix(".pub"))


def test_another_key_and_a_changed_signature_are_refused(folder: Path, key: Path, tmp_path: Path) -> None:
    other = write_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP384R1()))
    signature = sign(folder, key)
    with pytest.raises(DataError, match="is not valid for"):
        verify_signature(folder, other.with_suffix(".pub"))
    bundle = json.loads(signature.read_text(encoding="utf-8"))
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(b"model.gguf", b"other.gguf")).decode()
    signature.write_text(json.dumps(bundle), encoding="utf-8")
    with pytest.raises(DataError, match="was changed"):
        verify_signature(folder, key.with_suffix(".pub"))
    signature.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not valid for"):
        verify_signature(folder, key.with_suffix(".pub"))


def test_unusable_files_are_named(folder: Path, key: Path, tmp_path: Path) -> None:
    rsa_key = write_key(tmp_path / "rsa.pem", rsa.generate_private_key(65_537, 2_048))
    for path in (rsa_key, key.with_suffix(".pub"), tmp_path / "nowhere.pem"):
        assert f"{path}: " in refused(2, "sign", folder, "--key", path)
    assert "keeptune sign" in refused(2, "verify", folder, "--key", key.with_suffix(".pub"))
    sign(folder, key)
    for path in (rsa_key.with_suffix(".pub"), key, tmp_path / "nowhere.pem"):
        assert f"{path}: " in refused(2, "verify", folder, "--key", path)
    with pytest.raises(RunError, match="no such folder"):
        sign(tmp_path / "nowhere", key)
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(RunError, match="link"):
        sign(folder, key)


def test_the_program_of_the_standard_accepts_it(folder: Path, key: Path) -> None:
    signature = sign(folder, key)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(signature), "--public_key", str(key.with_suffix(".pub"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
