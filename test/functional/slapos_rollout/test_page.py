"""The report's page in a real browser: what it shows, that its filters work without a server, and that it asks nobody for anything."""

import html.parser
import json
import shutil
import subprocess

import pytest
from support import load_module

page = load_module("_utils/slapos_rollout_page.py")
show = load_module("_utils/slapos_site_show.py")
BROWSER = shutil.which("chromium")
EVIL = "</script><script>document.title='evil'</script><img src=https://example.org/x.png onerror=alert(1)> \"quoted\" & more"


def step(name, at, seconds, result=True, comment="already so"):
    return {
        "name": name,
        "at": at,
        "seconds": seconds,
        "result": result,
        "comment": comment,
        "changed": result,
    }


def site(name, state, since, until, comment, **more):
    return {
        "site": name, "nodes": [f"{name}1", f"{name}2"], "wave": 1, "canary": False, "state": state, "jid": f"2026{name}" if since else None,
        "since": since, "until": until, "step": None, "to_do": [], "comment": comment, "steps": [], **more,
    }  # fmt: skip


SITES = [
    site("paris", "done", 1000.0, 1400.0, "up on paris1, UpToDate on both", canary=True, steps=[step("The two nodes can become a site", 0, 30), step("The site is whole", 30, 360)]),
    site("lyon", "failed", 1400.0, 1600.0, f"DRBD: no room\n{EVIL}", wave=2, steps=[step("DRBD is UpToDate", 0, 150, False, EVIL)]),
    site("nice", "late", 1400.0, None, "it did not end within 600 s: job 2026nice still runs", wave=2, steps=[step("software", 20, 500, None)]),
    site("mars", "skipped", None, None, "minion mars2: does not answer", wave=None),
    site("brest", "left", None, None, "not begun", wave=3),
    site("lille", "same", None, None, "nothing is to do, and all is well", wave=None),
]  # fmt: skip
REPORT = {
    "rollout": "20261126064543", "what": "deploy", "arguments": {"sites": ["*"], "budget": "5%", "report": None}, "since": 990.0, "until": 2000.0,
    "stopped": "2 sites failed (lyon, nice), and 0 may", "paused": False, "good": False,
    "counts": {"done": 1, "failed": 1, "late": 1, "skipped": 1, "left": 1, "same": 1}, "waves": [["paris"], ["lyon", "nice"], ["brest"]], "sites": SITES,
}  # fmt: skip


class Page(html.parser.HTMLParser):
    """What is on a page: rows with their cells, shapes, and every address."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.shapes, self.addresses, self.tags, self.status, self._in = (
            [],
            [],
            [],
            [],
            "",
            [],
        )
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self._in.append(given.get("id"))
        if tag == "tr" and "data-state" in given:
            self.rows.append(
                {"hidden": "hidden" in given, "state": given["data-state"], "text": ""}
            )
        if tag == "rect":
            self.shapes.append(given)
        self.addresses += [
            value
            for key, value in given.items()
            if key in ("src", "href", "action", "data") or "url(" in (value or "")
        ]

    def handle_endtag(self, tag):
        if self._in:
            self._in.pop()

    def handle_data(self, data):
        if self.rows:
            self.rows[-1]["text"] += data
        if self._in and self._in[-1] == "shown":
            self.status += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    places = page.place(str(folder), REPORT["rollout"])
    page.write(REPORT, places, show.words(), show.duration)
    return places["html"]


@pytest.fixture(scope="module")
def browse(written, tmp_path_factory):
    """browse(fragment) -> (the page as rendered, the addresses that the browser asked for)"""
    if not BROWSER:
        pytest.skip(
            "no chromium here: make setup installs it where the distribution has it as a package"
        )

    def look(fragment="", *options, file=written):
        folder = tmp_path_factory.mktemp("browser")
        asked = folder / "net.json"
        done = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
                "--disable-default-apps", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-sync", "--disable-extensions", f"--user-data-dir={folder / 'profile'}", f"--log-net-log={asked}",
                *options, "--dump-dom", f"file://{file}{fragment}",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        log = json.loads(asked.read_text())
        # Of the browser's own requests, as for the time of day, nothing comes from the page: they have no initiator.
        found = {
            event["params"]["url"]
            for event in log["events"]
            if "url" in event.get("params", {})
            and event["params"].get("initiator", "not an origin") != "not an origin"
        }
        return Page(done.stdout), found

    return look


def test_what_a_page_asks_for_is_seen(browse, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src=https://example.org/x.png>")
    _, asked = browse(file=page)
    assert {address for address in asked if "://" in address and not address.startswith("file:")} == {"https://example.org/x.png"}  # fmt: skip


def test_what_the_page_shows(browse, written):
    seen, asked = browse()
    assert [row["state"] for row in seen.rows] == [
        "done",
        "failed",
        "late",
        "left",
        "same",
        "skipped",
    ]
    # A bar for each site that was begun, and a segment for each step.
    kinds = [shape["class"] for shape in seen.shapes]
    assert kinds.count("whole") == 3 and [kind for kind in kinds if kind != "whole"] == [
        "step good",
        "step good",
        "step bad",
        "step open",
    ]
    assert all(
        float(one["x"]) >= 0 and float(one["x"]) + float(one["width"]) <= 1001
        for one in seen.shapes
    )
    paris, lyon = (
        one for one in seen.shapes if one["class"] == "whole" and one["width"] != "594.06"
    )
    assert float(lyon["x"]) == pytest.approx(float(paris["x"]) + float(paris["width"]), abs=0.1)
    # Its script ran, and all that others said is text.
    assert seen.status == "6 of 6 sites shown"
    assert "script" in seen.tags and seen.tags.count("script") == 1 and "img" not in seen.tags
    assert EVIL in seen.rows[1]["text"]
    # Nothing leaves the page.
    assert seen.addresses == []
    assert {address.partition(":")[0] for address in asked} <= {"file", "chrome", "data"}, asked


def test_filters_work_without_a_server(browse):
    seen, _ = browse("#find=no%20room")
    assert [row["state"] for row in seen.rows if not row["hidden"]] == ["failed"]
    assert seen.status == "1 of 6 sites shown"


def test_the_page_is_whole_and_can_be_read_by_everybody():
    text = page.page(REPORT, show.words(), show.duration)
    seen = Page(text)
    assert "prefers-color-scheme: dark" in text and '<html lang="en">' in text
    assert seen.tags.count("caption") == 1 and text.count('scope="row"') >= len(SITES)
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    # A state is a word, not only a colour.
    assert all(
        word in text for word in ("LATE", "FAILED", "not reached", "not begun", "nothing to do")
    )
    assert "http" not in text.replace("http-equiv", "").replace("https://example.org/x.png", "")


def test_a_place_that_is_not_there_is_refused():
    with pytest.raises(page.CommandExecutionError) as error:
        page.place("/nowhere/at/all", "1")
    assert str(error.value) == "report: '/nowhere/at' is no folder"
    assert error.value.remedy == "Make it, or give another path. Nothing was started."


def test_names_of_a_report(tmp_path):
    stem = f"{tmp_path}/night"
    for given in (stem, f"{stem}.html", f"{stem}.json"):
        assert page.place(given, "1") == {"json": f"{stem}.json", "html": f"{stem}.html"}
    assert page.place(None, "1") == {}
