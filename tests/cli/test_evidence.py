"""Without the extra `evidence`, its verbs say what to install."""

import sys

import pytest
from end_to_end.command import refused


@pytest.mark.parametrize(
    ("module", "package", "arguments"),
    [
        ("keeptune.export.signature", "model_signing", ["sign", ".", "--key", "key.pem"]),
        ("keeptune.export.signature", "model_signing", ["verify", ".", "--key", "key.pem"]),
        ("keeptune.export.sbom", "cyclonedx", ["bom", "."]),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, arguments: list[str]
) -> None:
    for name in [name for name in sys.modules if name == module or name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert "keeptune[evidence]" in refused(2, *arguments)
