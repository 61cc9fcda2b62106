"""`python -m benchmarks` from end to end, at a scale that measures nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.roster import known, look_for, of_checkout
from benchmarks.rounds import Row
from benchmarks.works import all_works

OWN = "raw,threads,threads-pure,asyncio,asyncio-pure"
TINY = ["--quick", "--repetitions", "2", "--scale", "0.01", "--clients", OWN]


def run(folder: Path, *arguments: str) -> tuple[int, Path, dict[str, Any]]:
    code = command.main([*TINY, "--results", str(folder), *arguments])
    (made,) = folder.iterdir()
    return code, made, json.loads((made / "results.json").read_text())


def test_a_run_writes_figures_table_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = "^(16 B|tcp|import|(tls|ws), 16 B)$"  # what is larger runs no other code
    code, folder, results = run(tmp_path, "--only", "publish,reconnect,import,tls-subscribe", "--case", cases)
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert results["failures"] == []
    assert results["machine"]["cores"] > 0
    assert results["versions"]["nats-server"]
    measured = {(row["work"], row["client"].removesuffix("-pure")) for row in results["rows"]}
    assert {("publish", "raw"), ("publish", "threads"), ("tls-subscribe", "raw"), ("reconnect", "asyncio")} <= measured
    for row in results["rows"]:
        assert row["valid"], row
        for name, figures in row["figures"].items():
            assert len(figures) == 2, (row, name)
            assert row["low"][name] <= row["median"][name] <= row["high"][name]
    assert {bar["status"] for bar in results["bars"]} >= {"not measured"}
    assert "subscribe 16 B by iterator" in {bar["title"] for bar in results["bars"]}
    table = (folder / "table.md").read_text()
    assert "## Publish" in table
    assert "![Publish](publish.svg)" in table
    assert "Publish" in shown
    pictures = list(folder.glob("*.svg"))
    assert folder / "publish.svg" in pictures
    for picture in pictures:
        root = ElementTree.parse(picture).getroot()
        assert root.tag.endswith("svg")
        assert any(element.get("class") == "whisker" for element in root.iter())


def test_a_run_with_a_lost_message_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, folder, results = run(tmp_path, "--only", "subscribe", "--fault", "lose")
    shown = capsys.readouterr().out
    assert code == 1
    assert "INVALID: 1 lost" in shown
    assert "This run is not good" in shown
    assert len(results["failures"]) == len(results["rows"])
    assert {row["wrong"] for row in results["rows"]} == {"1 lost, 1 doubled"}  # a stranger stands in for it
    assert not list(folder.glob("*.svg"))


def test_ours_of_another_checkout_take_their_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(command.__file__).parent.parent
    both = ["--checkout", f"again={root}", "--clients", "threads,threads-pure,threads@again,threads-pure@again"]
    code, folder, results = run(tmp_path, "--only", "publish-threads,spread", "--case", "(10|16 B, 4 threads)$", *both)
    shown = capsys.readouterr().out
    assert code == 0, shown
    measured = {(row["work"], row["case"], row["client"].replace("-pure", "")) for row in results["rows"]}
    assert measured == {
        (work, case, client)
        for work, case in (("publish-threads", "16 B, 4 threads"), ("spread", "16 B over 10"))
        for client in ("threads", "threads@again")
    }
    assert (folder / "spread.svg").exists()


def test_a_checkout_is_what_its_clients_import(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "any" / "src" / "nats_proto"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for client in of_checkout("other", tmp_path):
        answer = subprocess.run(
            [sys.executable, "-c", "import nats_proto, benchmarks; print(nats_proto.__file__, benchmarks.__file__)"],
            env=client.environment(),
            capture_output=True,
            text=True,
        )
        assert answer.stdout.split() == [
            str(package / "__init__.py"),
            str(Path(report.__file__).with_name("__init__.py")),
        ]


def test_a_checkout_that_is_none_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="has no packages"):
        command.main(["--checkout", f"other={tmp_path}", "--only", "spread"])
    with pytest.raises(SystemExit):
        command.main(["--checkout", "other"])
    assert "not NAME=FOLDER: other" in capsys.readouterr().err


def test_a_peer_without_its_toolchain_is_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (go,) = [client for client in known() if client.name == "nats.go"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_for([go]) == ([], {"nats.go": "there is no Go toolchain (go)"})
    fake = tmp_path / "go"
    fake.write_text("#!/bin/sh\necho 'main.go:24:2: no required module provides package' >&2\nexit 1\n")
    fake.chmod(0o755)
    assert look_for([go]) == ([], {"nats.go": "main.go:24:2: no required module provides package"})


def test_what_is_unknown_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--only: no dancing"):
        command.main(["--only", "dancing", "--results", str(tmp_path)])


def test_which_rows_fail_a_run() -> None:
    good = Row("publish", "16 B", "threads", figures={"rate": [1.0]})
    excused = Row("callback", "16 B", "natsrpy", wrong="9 misordered", excused=True)
    peer_crashed = Row("publish", "16 B", "natsrpy", failed="no answer within 60 s")
    peer_wrong = Row("publish", "16 B", "nats-py", wrong="1 lost")
    ours_crashed = Row("publish", "16 B", "trio-pure", failed="no answer within 60 s")
    rows = [good, excused, peer_crashed, peer_wrong, ours_crashed]
    assert report.failures(rows) == [
        "publish, 16 B, nats-py: 1 lost",
        "publish, 16 B, trio-pure: no answer within 60 s",
    ]
    (publish,) = (work for work in all_works() if work.name == "publish")
    text = "\n".join(report.row_lines(publish, rows))
    assert "INVALID: 9 misordered (known of this client)" in text
    assert "failed: no answer within 60 s" in text
