"""Signs folders and verifies them, offline, with a local key: OpenSSF Model Signing (OMS).

The signature is a Sigstore bundle in `model.sig`: an in-toto statement with the SHA-256 of every file of the folder.
The program `model_signing verify key` verifies it, too. Format: https://github.com/ossf/model-signing-spec.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from model_signing import hashing, signing, verifying

from keeptune.errors import DataError, RunError
from keeptune.files import read_json, stored_content, write_atomically

SIGNATURE_FILE = "model.sig"

IGNORED = (SIGNATURE_FILE, ".lock", "checkpoints", "tracking", ".cache")
"""Names in a folder that are not signed, because no result depends on them: the signature, the lock of a run, training
checkpoints, logs of trackers, and what the hub's client writes beside a download. model-signing also leaves out git's
files."""

_OTHER_FILES = "Signature mismatch"
"""How model-signing's message begins where the signature is valid, but the files are others."""


@dataclass(frozen=True, slots=True)
class FolderChanges:
    """The files of a folder that differ from its signature; names are relative to the folder."""

    changed: list[str]
    missing: list[str]
    added: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.added)

    def lines(self) -> list[str]:
        """One line per file."""
        kinds = (("changed", self.changed), ("missing", self.missing), ("added", self.added))
        return [f"{kind} since it was signed: {name}" for kind, names in kinds for name in names]


def sign(folder: Path, key: Path) -> Path:
    """Signs the files of a folder and returns the path of the signature.

    Args:
        folder: a run, the output of `keeptune gate`, or an export.
        key: a private key in PEM format without a password, on the curve P-256, P-384 or P-521.

    Raises:
        RunError: if the folder or the key cannot be used.
    """
    _require_folder(folder)
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _key_error(key, error, "private") from None
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=IGNORED))
    signature = folder / SIGNATURE_FILE
    try:
        write_atomically(signature, lambda temporary: config.sign(folder, temporary))
    except ValueError as error:
        raise RunError(f"{folder}: cannot be signed ({error}); remove that file, or copy what it points to") from None
    return signature


def verify_signature(folder: Path, key: Path) -> FolderChanges:
    """Compares a folder with its signature.

    Args:
        folder: a folder with `model.sig`.
        key: the public key in PEM format.

    Returns:
        The files that were changed, removed or added; nothing where the folder is as it was signed.

    Raises:
        RunError: if the folder, the signature or the key cannot be read.
        DataError: if the signature is not one of this key, or was changed.
    """
    _require_folder(folder)
    signature = folder / SIGNATURE_FILE
    if not signature.is_file():
        raise RunError(f"{signature}: no such file; sign the folder with `keeptune sign {folder} --key PRIVATE.pem`")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _key_error(key, error, "public") from None
    try:
        config.verify(folder, signature)
    except InvalidSignature:
        raise DataError(f"{signature}: was changed, or was not made with this key; do not trust {folder}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # of a damaged bundle
        if str(error).startswith(_OTHER_FILES):
            return _changes(folder, signature)
        raise DataError(f"{signature}: is not valid for {key} ({error}); do not trust {folder}") from None
    return FolderChanges([], [], [])


def _changes(folder: Path, signature: Path) -> FolderChanges:
    """The differences from a signature that is known to be valid."""
    with stored_content(signature):
        envelope = read_json(signature)["dsseEnvelope"]
        predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
        expected = {one["name"]: one["digest"] for one in predicate["resources"]}
        ignored = predicate["serialization"].get("ignore_paths", ())
    config = hashing.Config().set_ignored_paths(paths=ignored)
    current = {one.identifier: one.digest.digest_hex for one in config.hash(folder).resource_descriptors()}
    return FolderChanges(
        changed=sorted(name for name in expected.keys() & current.keys() if expected[name] != current[name]),
        missing=sorted(expected.keys() - current.keys()),
        added=sorted(current.keys() - expected.keys()),
    )


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; give a run, the output of `keeptune gate`, or an export")


def _key_error(key: Path, error: Exception, kind: str) -> RunError:
    reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
    return RunError(
        f"{key}: cannot be used as {kind} key ({reason}); give a PEM file on the curve P-256, P-384 or P-521, such as "
        "one of `openssl ecparam -name prime256v1 -genkey -noout -out private.pem`"
    )
