"""The page of a sweep shows settings and folders of any text as text."""

from report.page_parser import Page

from keeptune.report.sweep import page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>&\"'{{ 7 * 7 }}"


def test_hostile_settings_are_escaped() -> None:
    trial = {
        "number": 0,
        "run": f"runs/{HOSTILE}",
        "settings": [f"adapter.targets={HOSTILE}", "train.learning_rate=0.001"],
        "state": "complete",
        "accuracy": 0.5,
        "kept": 0.95,
        "trainable": 1_000,
    }
    failed = {**trial, "number": 1, "state": HOSTILE}
    for key in ("accuracy", "kept", "trainable"):
        del failed[key]
    shown = Page(page({"trials": [trial, failed], "front": [0], "best": 0, "threshold": 0.9}))
    tags = {tag for tag, _, _ in shown.elements}
    assert not tags & {"script", "img"}
    assert HOSTILE in shown.texts("td")
