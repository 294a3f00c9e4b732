"""`keeptune push`: a folder for the Hugging Face hub, checked before it is uploaded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled

from keeptune.errors import RecipeError, RunError
from keeptune.export import sbom
from keeptune.export.exporter import export
from keeptune.export.private_text import find_private_text
from keeptune.export.signature import sign
from keeptune.files import write_text

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

_SHOWN_FINDINGS = 10


@dataclass(frozen=True, slots=True)
class Upload:
    """A prepared folder: its files with their sizes in bytes, the text of its model card, and where it belongs."""

    folder: Path
    repository: str
    files: dict[str, int]
    card: str

    @property
    def url(self) -> str:
        """The page of the repository."""
        return f"{constants.ENDPOINT}/{self.repository}"


@contextmanager
def prepared(target: Path, repository: str, key: Path | None) -> Iterator[Upload]:
    """Context with a temporary folder of what is published: adapter, model card, verdict, license, bill of materials.

    Args:
        target: a finished run or an adapter folder.
        repository: ORGANIZATION/NAME on the hub.
        key: the private key that signs the folder; None for no signature.

    Raises:
        RecipeError: if the name of the repository is not valid.
        RunError: if a file holds a secret or a path of this machine.
    """
    _check_name(repository)
    with tempfile.TemporaryDirectory(prefix="keeptune-") as scratch:
        folder = Path(scratch) / repository.rpartition("/")[2]
        export(target, "peft", folder)
        bom = folder / sbom.FILE
        write_text(bom, sbom.bill_of_materials(target, folder, {}, bom))
        if key:
            sign(folder, key)
        _check_publishable(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
        yield Upload(folder, repository, sizes, (folder / "README.md").read_text(encoding="utf-8"))


def upload(prepared_folder: Upload) -> str:
    """Uploads the folder as one commit and returns the commit's page. A new repository is private.

    Raises:
        RunError: if the hub cannot be reached or refuses.
    """
    try:
        api = HfApi(endpoint=constants.ENDPOINT)
        api.create_repo(prepared_folder.repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=prepared_folder.repository,
            folder_path=prepared_folder.folder,
            commit_message="Upload adapter, model card, verdict and bill of materials with keeptune",
        )
    except OfflineModeIsEnabled:
        raise RunError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it") from None
    except Exception as error:  # the errors of the library and of its HTTP client have no common class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(
            f"{prepared_folder.url}: cannot be uploaded ({reason}); check the network, and log in with `hf auth login` "
            "or HF_TOKEN"
        ) from None
    return str(commit.commit_url)


def _check_name(repository: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise RecipeError(f"{repository}: not a name of a repository on the hub; give ORGANIZATION/NAME")


def _check_publishable(folder: Path) -> None:
    """Checks that no file holds a secret or a path of a machine."""
    findings = find_private_text(folder)
    if findings:
        shown = "\n".join(f"  {finding}" for finding in findings[:_SHOWN_FINDINGS])
        more = f"\n  and {len(findings) - _SHOWN_FINDINGS} more" if len(findings) > _SHOWN_FINDINGS else ""
        raise RunError(
            f"not published, because files would show what is private:\n{shown}{more}\n"
            "Name the base model by its id on the hub instead of a folder, and repeat the command that wrote a file "
            "with relative paths"
        )
