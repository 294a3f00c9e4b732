"""The verbs `bom`, `sign` and `push`: what others need to trust a result. They need the extra `evidence`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from keeptune.cli.terminal import show
from keeptune.errors import RunError

_PACKAGES = frozenset({"cyclonedx", "packageurl", "model_signing", "cryptography", "OpenSSL", "sigstore"})
"""Import names of the extra `evidence`."""

Target = Annotated[Path, typer.Argument(metavar="RUN_OR_ADAPTER", help="finished run, or adapter folder")]
PrivateKey = Annotated[
    Path, typer.Option("--key", metavar="PEM", help="private key in PEM format, on the curve P-256, P-384 or P-521")
]


@contextmanager
def needs_evidence(verb: str) -> Iterator[None]:
    """Context for imports of the extra `evidence`.

    Raises:
        RunError: if one of its packages is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PACKAGES:
            raise
        raise RunError(
            f"keeptune {verb} needs a package that is missing ({error.name}): pip install 'keeptune[evidence]'"
        ) from None


def bom(
    target: Target,
    exports: Annotated[
        list[Path] | None, typer.Argument(metavar="EXPORT", help="folders of exports, whose files are listed, too")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; default: bom.cdx.json in the first folder")] = None,
) -> None:
    """Write the bill of materials of a run (CycloneDX ML-BOM): base, data, files, packages, licenses and figures.

    It needs `pip install 'keeptune[evidence]'`.
    """
    with needs_evidence("bom"):
        from keeptune.export.sbom import FILE, write_bom
    show(write_bom(target, exports or [], out or target / FILE))


def sign(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="runs, outputs of `keeptune gate`, or exports")
    ],
    key: PrivateKey,
) -> None:
    """Sign folders with a local key (OpenSSF Model Signing). `keeptune verify FOLDER --key PUBLIC.pem` checks them.

    It writes `model.sig` into each folder. It needs `pip install 'keeptune[evidence]'`.
    """
    with needs_evidence("sign"):
        from keeptune.export.signature import sign as sign_folder
    for folder in folders:
        show(sign_folder(folder, key))


def push(
    target: Target,
    repository: Annotated[str, typer.Argument(metavar="ORGANIZATION/NAME", help="repository on the Hugging Face hub")],
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="private key that signs the folder")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="upload; without it, only show what would be uploaded")] = False,
) -> None:
    """Prepare adapter, model card, verdict, license and bill of materials for the Hugging Face hub; upload with --yes.

    A new repository is private. It needs `pip install 'keeptune[evidence]'`.
    """
    with needs_evidence("push"):
        from keeptune.export.hub import prepared, upload
    from keeptune.report.text import size

    with prepared(target, repository, key) as folder:
        width = max(map(len, folder.files))
        lines = [f"{name.ljust(width)}  {size(size_bytes)}" for name, size_bytes in folder.files.items()]
        show("\n".join([*lines, f"{len(lines)} files, {size(sum(folder.files.values()))}, for {folder.url}"]))
        if yes:
            show(upload(folder))
            return
        show(f"\nREADME.md\n\n{folder.card}")
    show("not uploaded; repeat the command with --yes", file=sys.stderr)
