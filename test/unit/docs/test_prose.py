"""Links of the documentation lead somewhere, its YAML is YAML, and its commands call what there is."""

import contextlib
import functools
import importlib
import io
import re
import sys

import pytest
import yaml
from support import ROOT

from . import prose
from .generator import GENERATE

sys.path.insert(0, str(ROOT / "test/lab"))
sys.path.insert(0, str(ROOT / "test/lab/standin"))
from slaplab import cli, runbook  # noqa: E402 the path is set just above
from standin import cli as agent  # noqa: E402

PAGES = prose.pages()
SOURCES = GENERATE.read_sources()
OURS = {
    kind: {f"{virtual}.{function.name}" for (of, virtual), sources in SOURCES.items() if of == kind for source in sources for function in source.functions}
    for kind in GENERATE.KINDS
}  # fmt: skip
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
AGENT_2 = {
    "node": agent.NODE_ACTIONS,
    "daemon": agent.DAEMON_ACTIONS,
    "cluster": {**agent.CLUSTER_ACTIONS, **agent.NODE_ACTIONS},
    "object": {**agent.SVC_ACTIONS, **agent.CFG_ACTIONS},
}
# What agent 3 says otherwise; its help is in test/fixtures/opensvc-3.
AGENT_3 = {"cluster": {"join"}, "daemon": {"auth"}}


def test_there_are_pages():
    assert {"README.md", "docs/guide.md", "docs/design.md", "docs/reference/pillar.md"} <= set(
        PAGES
    )


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name):
    text = (ROOT / name).read_text()
    broken = []
    for target in prose.links(text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (ROOT / name).parent / path if path else ROOT / name
        there = file.exists() and ROOT in (file.resolve(), *file.resolve().parents)
        if there and anchor and file.suffix == ".md":
            there = anchor in prose.anchors(file.read_text())
        if not there:
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_has_words_for_who_cannot_see_it(name):
    images = [token for token in prose.tokens((ROOT / name).read_text()) if token.type == "image"]
    assert [image.attrs["src"] for image in images if len(image.content) < 20] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_yaml_block_parses(name):
    for block in prose.yaml_blocks((ROOT / name).read_text()):
        # Jinja is for Salt: a block that has some is no YAML yet.
        if "{{" not in block and "{%" not in block:
            yaml.safe_load(block)


def unknown(line):
    """What a command calls that there is not, as a sentence, or None."""
    program, *words = line.words
    return {
        "make": _make,
        "om": _om,
        "drbdadm": _drbdadm,
        "test/lab/lab": _lab,
        "salt": _salt,
        "salt-call": lambda words: _module([w for w in words if not w.startswith("-")]),
        "salt-run": _runner,
    }[program](words)


def _make(words):
    wrong = [word for word in words if "=" not in word and word not in TARGETS]
    return f"no target {wrong}" if wrong else None


def _lab(words):
    return None if words[:1] in ([], ["…"]) or words[0] in _verbs() else f"no verb {words[0]}"


@functools.cache
def _verbs():
    """The verbs of the program lab, as its own help names them."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.main(["--help"])
    return set(re.search(r"\{([a-z,-]+)\}", said.getvalue())[1].split(","))


def _om(words):
    if not words or words[0] in ("mon", "--version", "version"):
        return None
    if words[0] in ("node", "daemon", "cluster"):
        kind, rest = words[0], words[1:]
    elif "/" in words[0] or words[0] in ("PATH", "…"):
        kind, rest = "object", words[1:]
    elif any(words[0] in actions.split("|") for actions in AGENT_2["object"].values()):
        kind, rest = "object", words
    else:
        return f"{words[0]} is neither an object nor node, daemon, cluster or mon"
    known = {action for actions in AGENT_2[kind].values() for action in actions.split("|")}
    said = [word for word in rest if not word.startswith("-")]
    if not said:
        return None  # an option alone, as prose names it
    found = any(" ".join(said[:length]) in known | AGENT_3.get(kind, set()) for length in (1, 2, 3))
    return None if found or "…" in said[0] else f"no action {said[0]}"


DRBDADM = {
    "adjust", "attach", "connect", "create-md", "cstate", "detach", "disconnect", "disk-options", "down", "dstate", "dump", "dump-xml", "get-gi", "invalidate",
    "pause-sync", "primary", "resize", "resume-sync", "role", "secondary", "status", "up", "verify", "wipe-md",
}  # fmt: skip


def _drbdadm(words):
    said = [word for word in words if not word.startswith("-")]
    return None if not said or said[0] in DRBDADM else f"no command {said[0]}"


def _exists(kind, name):
    """A function of ours, or one of Salt's own."""
    if name in OURS[kind]:
        return True
    module, _, function = name.partition(".")
    module = {"sys": "sysmod"}.get(module, module)
    try:
        found = importlib.import_module(f"salt.{kind}.{module}")
    except ImportError:
        return False
    return hasattr(found, function) or function in getattr(found, "__func_alias__", {}).values()


def _salt(words):
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-L", "-C", "-G") and rest:
            rest = ["target", *rest[1:]]
            break
        if option in ("-t",):
            rest.pop(0)
    return _module(rest[1:])


def _module(words):
    if not words or not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", words[0]):
        return None
    if not _exists("modules", words[0]):
        return f"no function {words[0]}"
    arguments = words[1:]
    if words[0] == "state.single":
        return None if _exists("states", arguments[0]) else f"no state {arguments[0]}"
    if words[0] in ("state.apply", "state.sls") and arguments and "=" not in arguments[0]:
        return _sls(arguments[0])
    return None


def _sls(name):
    path = ROOT / name.replace(".", "/")
    there = path.with_suffix(".sls").is_file() or (path / "init.sls").is_file()
    return None if there or "…" in name else f"no SLS {name}"


def _runner(words):
    rest = [word for word in words if not word.startswith("-")]
    if not rest or not re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", rest[0]):
        return None
    if not _exists("runners", rest[0]):
        return f"no runner {rest[0]}"
    if rest[0] == "state.orch" and len(rest) > 1 and re.fullmatch(r"[a-z_.]+", rest[1]):
        return _sls(rest[1])
    return None


@pytest.mark.parametrize("name", PAGES)
def test_every_command_calls_what_there_is(name):
    wrong = {}
    for line in prose.commands((ROOT / name).read_text()):
        if "<" in line.text.partition("pillar=")[0].replace("<site>", ""):
            continue  # a place for a name
        why = unknown(line)
        if why:
            wrong[line.text] = why
    assert wrong == {}


@pytest.mark.parametrize(
    "text, why",
    [
        ("make demo", None),
        ("make lunch", "no target"),
        ("om slapos/svc/comp1 print status -r", None),
        ("om slapos/svc/comp1 dance", "no action dance"),
        ("om node thaw --node demo2", None),
        ("salt -L demo1,demo2 drbd.status", None),
        ("salt demo1 drbd.stats", "no function drbd.stats"),
        ("salt demo1 state.single opensvc.placed name=x", None),
        ("salt demo1 state.single opensvc.place name=x", "no state opensvc.place"),
        ("salt demo1 state.apply slapos_ha.service", None),
        ("salt demo1 state.apply slapos_ha.nothing", "no SLS slapos_ha.nothing"),
        ("salt-run slapos_ha.status", None),
        ("salt-run slapos_ha.state", "no runner slapos_ha.state"),
        ("salt-run state.orch orch.deploy", None),
        ("salt-run state.orch orch.employ", "no SLS orch.employ"),
        ("test/lab/lab crash demo1", None),
        ("test/lab/lab dance", "no verb dance"),
        ("drbdadm resume-sync x", None),
        ("drbdadm dance x", "no command dance"),
    ],
)
def test_a_command_is_judged(text, why):
    (line,) = prose.commands(f"`{text}`")
    found = unknown(line)
    assert found is None if why is None else why in found


# --- Runbooks and guide -------------------------------------------------------------------------------------------------------------------------

RUNBOOKS = sorted(path for path in (ROOT / "docs/runbooks").glob("*.md") if path.name != "README.md")  # fmt: skip
HEADINGS = ["How it shows", "What to look at", "What to do", "What good looks like"]


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_the_four_parts_and_its_commands_can_be_run(path):
    text = path.read_text()
    headings = re.findall(r"^## (.*)$", text, re.M)
    # Nobody wonders how a removal shows.
    wanted = HEADINGS[1:] if path.name == "remove.md" else HEADINGS
    assert headings[: len(wanted)] == wanted
    for heading in HEADINGS[1:]:
        if path.name == "node-dead.md" and heading == "What to do":
            continue  # power is not a command
        assert runbook.commands(text, heading)
    assert f"[{path.name}]({path.name})" in (ROOT / "docs/runbooks/README.md").read_text()


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_is_run_in_the_lab(path):
    text = (ROOT / "test/lab/tests/runbooks_in_the_lab.py").read_text()
    assert f'@runs("{path.name}")' in text


def test_the_guides_commands_are_commands_of_ours_or_the_agents():
    found = runbook.commands((ROOT / "docs/guide.md").read_text())
    assert len(found) > 20
    programs = {command.line.split()[0] for command in found}
    assert programs <= {"salt", "salt-run", "salt-pip", "om", "drbdadm"}
    # What changes nothing in a lab is run by the guide; what needs the network is not.
    assert {command.line.split()[0] for command in found if not command.run} == {"salt-pip"}


def test_the_guide_shows_every_command_of_the_page_that_it_follows():
    text = (ROOT / "docs/guide.md").read_text()
    for action in ("print status", "print schedule", "start", "switch", "stop", "print config", "edit config"):  # fmt: skip
        assert re.search(rf"\| `om slapos/svc/comp1 {action}[^|]*\| [^|]*salt", text), action
    assert "| `om mon` | `salt" in text


# --- What is named ------------------------------------------------------------------------------------------------------------------------------

FOLDERS = (
    "_modules",
    "_states",
    "_runners",
    "_utils",
    "slapos_ha",
    "orch",
    "docs",
    "test",
    "tools",
)


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith("docs/reference/")])
def test_every_file_of_the_tree_that_is_named_is_there(name):
    missing = []
    for token in prose.tokens((ROOT / name).read_text()):
        words = token.content.split() if token.type == "code_inline" else []
        for word in words:
            path = word.rstrip(",.:")
            if not re.fullmatch(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]+", path):
                continue
            # Tags of events begin like the formula's folder; and a release has one more folder than the tree.
            if path.startswith(("slapos_ha/drbd/", "slapos_ha/spm/")):
                continue
            if not list(ROOT.glob(path)):
                missing.append(path)
    assert missing == []


def test_a_newcomers_places_are_in_the_code():
    text = (ROOT / "docs/design.md").read_text().split("## A newcomer's path")[1]
    places = re.findall(r"((?:`\w+`(?:, | and )?)+) (?:in|of) `([\w/]+\.(?:py|yaml))`", text)
    assert len(places) >= 6
    for names, path in places:
        source = (ROOT / path).read_text()
        for word in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^ *(?:def {word}\(|{word}\b ?[:=])", source, re.M), f"{word} in {path}"  # fmt: skip


def test_the_hooks_of_a_commit_are_targets():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for repository in config["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["entry"].split()[0] == "make" and hook["entry"].split()[-1] in TARGETS


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.M))
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())
    # A target that only others use needs no line.
    assert phony - explained == {"other-salts"}
    assert phony == TARGETS
