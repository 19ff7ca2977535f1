"""The site's rules in ufw and firewalld: fakes of both that print what ufw 0.36.2 and firewalld 1.3.3 print, and keep what they are told."""

import json
import os
import pathlib
import shutil
import sys
import types

import pytest

# ufw keeps rules of IPv4 before those of IPv6, and lists one for both among those of IPv4; `prepend` of a rule that is there, or is there with another
# action, does nothing.
UFW = """\
#!{python} -ISE
import json, pathlib, sys
place = pathlib.Path({state!r})
state, args = json.loads(place.read_text()), sys.argv[1:]
with place.with_suffix(".calls").open("a") as book:
    book.write(" ".join(args) + "\\n")
six = lambda rule: ":" in rule
if args == ["status"]:
    print("Status: active" if state["active"] else "Status: inactive")
    if state["active"]:
        print("\\nTo                         Action      From\\n--                         ------      ----")
        for version in (4, 6):
            for rule, comment in state["rules"]:
                words, wide = rule.split(), " (v6)" if version == 6 else ""
                if words[1] == "from" and six(rule) == (version == 6):
                    row = (words[6] + "/" + words[8], words[0].upper(), words[2])
                elif words[1] != "from":
                    row = (words[1] + wide, words[0].upper(), "Anywhere" + wide)
                else:
                    continue
                print("%-26s %-11s %-26s %s" % (*row, "# " + comment if comment else ""))
        print()
elif args == ["show", "added"]:
    print("Added user rules (see 'ufw status' for running firewall):")
    for rule, comment in sorted(state["rules"], key=lambda one: six(one[0])):
        print("ufw " + rule + (" comment '" + comment + "'" if comment else ""))
elif args[0] in ("prepend", "delete"):
    rule, _, comment = " ".join(args[1:]).partition(" comment ")
    there = [one for one in state["rules"] if one[0].split()[1:] == rule.split()[1:]]
    if args[0] == "delete":
        if [one[0] for one in there] != [rule]:
            sys.exit("ERROR: Could not delete non-existent rule")
        state["rules"].remove(there[0])
    elif there:
        print("Skipping inserting existing rule")
    elif not state.get("deaf"):
        state["rules"].insert(0, [rule, comment])
else:
    sys.exit("ERROR: Invalid syntax")
place.write_text(json.dumps(state))
"""

FIREWALLD = """\
#!{python} -ISE
import json, pathlib, re, sys
place = pathlib.Path({state!r})
state, args = json.loads(place.read_text()), sys.argv[1:]
if not state["active"]:
    print("not running")
    sys.exit(252)
if args == ["--get-policies"]:
    print("allow-host-ipv6" + (" slapos_ha" if state["rules"] is not None else ""))
elif args == ["--policy=slapos_ha", "--list-rich-rules"]:
    print("\\n".join(state["rules"]))
elif args == ["--reload"]:
    file, found = pathlib.Path({policy!r}), []
    for rule in re.findall("<rule.*?</rule>", file.read_text(), re.S) if file.exists() else []:
        priority = re.search('priority="([^"]*)"', rule)[1]
        family = re.search('family="([^"]*)"', rule)
        source = re.search('<source address="([^"]*)"', rule)
        port = re.search('<port port="([^"]*)" protocol="([^"]*)"', rule)
        found.append(
            'rule priority="' + priority + '"' + (' family="' + family[1] + '" source address="' + source[1] + '"' if source else "")
            + ' port port="' + port[1] + '" protocol="' + port[2] + '" ' + ("accept" if "<accept/>" in rule else "drop"))
    state["rules"] = found if file.exists() else None
    print("success")
elif args != ["--state"]:
    sys.exit("unrecognized arguments")
place.write_text(json.dumps(state))
"""


class Fake:
    def __init__(self, context, folder, name, program, **state):
        self.context = context
        self.place = folder / f"{name}.json"
        self.now(active=True, **state)
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(program.format(python=sys.executable, state=str(self.place), policy=str(folder / "slapos_ha.xml")))  # fmt: skip
        path.chmod(0o755)

    def now(self, **state):
        # States of one run share what it said.
        self.context.clear()
        known = json.loads(self.place.read_text()) if self.place.exists() else {}
        self.place.write_text(json.dumps({**known, **state}))

    @property
    def rules(self):
        return json.loads(self.place.read_text())["rules"]

    def calls(self):
        book = self.place.with_suffix(".calls")
        return book.read_text().splitlines() if book.exists() else []

    def acts(self):
        return [line for line in self.calls() if line.split()[0] in ("prepend", "delete")]


SSH = ["allow 22/tcp", ""]


@pytest.fixture
def root(loaders):
    """Below which files of the node are looked for."""
    path = pathlib.Path(loaders.opts["slapos_node.root"])
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def ufw(loaders, tmp_path, monkeypatch):
    made = Fake(loaders.context, tmp_path, "ufw", UFW, rules=[["allow 1214/tcp", ""], SSH])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return made


@pytest.fixture
def firewalld(loaders, tmp_path, monkeypatch):
    made = Fake(loaders.context, tmp_path, "firewall-cmd", FIREWALLD, rules=None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return made


RULES = [
    # What is also the replication's peer first.
    "allow from 10.255.79.2 to any port 1214,1215,7289,10000,10003 proto tcp",
    "allow from 10.255.78.2 to any port 1214,1215,10000,10003 proto tcp",
    "allow from fd78::2 to any port 1214,1215,10000,10003 proto tcp",
    "deny 1214,1215,7289,10000,10003/tcp",
    *(
        f"allow from {source} to any port 10002 proto udp"
        for source in ("10.255.78.1", "10.255.78.2", "10.255.79.1", "10.255.79.2", "fd78::2")
    ),
    "deny 10002/udp",
]


def ruled(loaders, **more):
    rules = loaders.modules.slapos_firewall.rules("ufw")
    return loaders.states.slapos_firewall.ufw_ruled("rules", rules=rules, **more)


def test_ufw_gets_the_rules_before_its_own(loaders, ufw):
    before = ufw.rules
    ret = ruled(loaders, test=True)
    assert ret.result is None and ret.changes == {"ufw": {"old": [], "new": RULES}}
    assert ufw.rules == before and ufw.acts() == []
    ret = ruled(loaders)
    assert ret.result is True, ret.comment
    assert ufw.rules == [*([rule, "slapos_ha"] for rule in RULES), ["allow 1214/tcp", ""], SSH]
    done = len(ufw.acts())
    again = ruled(loaders)
    assert (again.result, again.changes, len(ufw.acts())) == (True, {}, done)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rules: rules[1:],
        lambda rules: [["allow 1215/tcp", ""], *rules],
        lambda rules: [rules[1], rules[0], *rules[2:]],
        lambda rules: [*rules, ["allow from 10.9.9.9 to any port 7289 proto tcp", "slapos_ha"]],
    ],
)
def test_what_somebody_has_done_to_the_rules_of_ufw_is_put_right(loaders, ufw, spoil):
    ruled(loaders)
    ufw.now(rules=spoil(ufw.rules))
    ret = ruled(loaders)
    assert ret.result is True and ret.changes, ret.comment
    assert [rule for rule, _ in ufw.rules[: len(RULES)]] == RULES
    assert [rule for rule, comment in ufw.rules[len(RULES) :] if comment] == []


def test_states_of_one_run_ask_ufw_once(loaders, ufw):
    """Half a second and more of Python each time."""
    rules = loaders.modules.slapos_firewall.rules("ufw")
    run = {
        "ready": {"slapos_firewall": ["ready", {"backend": "ufw"}, {"order": 1}]},
        "ruled": {"slapos_firewall": ["ufw_ruled", {"rules": rules}, {"order": 2}]},
    }

    def asked():
        before = len(ufw.calls())
        answer = loaders.modules.state.high(run)
        assert {one["result"] for one in answer.raw.values()} == {True}
        return [call for call in ufw.calls()[before:] if call not in ufw.acts()]

    assert asked() == ["status", "show added", "status"]
    assert asked() == ["status"]


def test_ufw_that_does_not_filter_is_not_switched_on(loaders, ufw):
    ufw.now(active=False)
    for test in (True, False):
        ret = ruled(loaders, test=test)
        assert (ret.result, ret.changes, ret.comment) == (False, {}, "ufw is not active")
    ret = loaders.states.slapos_firewall.ready("x", backend="ufw")
    assert ret.result is False
    assert "slapos_ha:firewall:backend: 'ufw', but on demo1 ufw is not active; where it is off, let in ssh" in ret.comment  # fmt: skip
    assert ufw.acts() == []


def test_a_rule_of_somebody_elses_that_ufw_would_keep_in_place_of_ours_is_said(loaders, ufw):
    ufw.now(rules=[SSH, ["allow 10002/udp", "heartbeats"]])
    assert ruled(loaders).result is False
    ret = loaders.states.slapos_firewall.ready("x", backend="ufw")
    assert ret.result is False
    assert "ufw has allow 10002/udp, for which it would leave out ours: ufw delete allow 10002/udp;" in ret.comment  # fmt: skip
    ufw.now(rules=[SSH, ["allow 7000/tcp", ""]])
    assert loaders.states.slapos_firewall.ready("x", backend="ufw").result is True


def test_what_ufw_was_told_is_on_the_disk(loaders, ufw, monkeypatch, root):
    """Else a loss of power leaves zeros in its rules: seen in the lab, with the fault "host" at the step after."""
    (root / "etc/ufw").mkdir(parents=True)
    synced = []

    def syncfs(handle):
        assert os.readlink(f"/proc/self/fd/{handle}") == str(root / "etc/ufw")
        synced.append(len(ufw.acts()))
        return 0

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: types.SimpleNamespace(syncfs=syncfs))
    assert ruled(loaders).result is True
    assert synced == list(range(1, len(ufw.acts()) + 1))


def test_rules_of_ufw_that_a_loss_of_power_has_damaged_are_named(loaders, ufw, root):
    (root / "etc/ufw").mkdir(parents=True)
    for text, good in (("*filter\n", True), ("\0" * 1094, False)):
        (root / "etc/ufw/user6.rules").write_text(text)
        loaders.context.clear()
        ret = loaders.states.slapos_firewall.ready("x", backend="ufw")
        assert ret.result is good, ret.comment
    assert "ufw cannot read /etc/ufw/user6.rules: there are zeros in it" in ret.comment
    assert "cp /usr/share/ufw/iptables/user6.rules /etc/ufw/user6.rules; ufw reload" in ret.comment
    assert ufw.acts() == []


def test_ufw_that_does_nothing_is_no_success(loaders, ufw):
    ufw.now(deaf=True)
    ret = ruled(loaders)
    assert ret.result is False and "is not what it was given" in ret.comment


def test_only_our_rules_leave_ufw(loaders, ufw, root):
    ruled(loaders)
    (root / "etc/ufw").mkdir(parents=True)
    # ufw's own file, whose comments are hexadecimal, says that there is something to ask for.
    (root / "etc/ufw/user.rules").write_text("### tuple ### deny tcp 7289 0.0.0.0/0 any 0.0.0.0/0 in comment=736c61706f735f6861\n")  # fmt: skip
    assert loaders.states.slapos_firewall.absent("none", keep="ufw").changes == {}
    ret = loaders.states.slapos_firewall.absent("none")
    assert set(ret.changes) == {f"ufw rule {rule}" for rule in RULES}
    assert [rule for rule, _ in ufw.rules] == ["allow 1214/tcp", SSH[0]]


def test_the_files_of_other_firewalls_go_with_their_rules(loaders, firewalld, root, tmp_path, monkeypatch):  # fmt: skip
    for name in ("etc/firewalld/policies/slapos_ha.xml", "etc/slapos_ha/firewall.nft", "etc/systemd/system/slapos-ha-firewall.service"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    book = tmp_path / "systemctl.calls"
    (tmp_path / "bin/systemctl").write_text(f'#!/bin/sh\necho "$@" >>{book}\n')
    (tmp_path / "bin/systemctl").chmod(0o755)
    policy(loaders, tmp_path)
    loaders.modules.slapos_firewall.firewalld_reload()
    (tmp_path / "slapos_ha.xml").unlink()
    ret = loaders.states.slapos_firewall.absent("none")
    assert ret.result is True, ret.comment
    assert len(ret.changes) == 3 and firewalld.rules is None
    assert book.read_text() == "disable --now slapos-ha-firewall.service\ndaemon-reload\n"
    assert not (root / "etc/slapos_ha").exists() and (root / "etc/firewalld/policies").is_dir()
    assert [path for path in root.rglob("*slapos*") if path.is_file()] == []


def policy(loaders, tmp_path):
    """What file.managed of the SLS does."""
    rules = loaders.modules.slapos_firewall.rules("firewalld")
    (tmp_path / "slapos_ha.xml").write_text(rules["policy"])
    return rules["rules"]


def test_firewalld_filters_with_the_policy(loaders, firewalld, tmp_path):
    rules = policy(loaders, tmp_path)
    ret = loaders.states.slapos_firewall.firewalld_loaded("x", rules=rules, test=True)
    assert ret.result is None and firewalld.rules is None
    ret = loaders.states.slapos_firewall.firewalld_loaded("x", rules=rules)
    assert ret.result is True, ret.comment
    assert ret.changes == {"policy slapos_ha": {"old": None, "new": rules}}
    # The file says what the rules say, for one who reads either.
    assert firewalld.rules == rules
    assert rules[:2] == [
        'rule priority="-2" family="ipv4" source address="10.255.79.2" port port="7289" protocol="tcp" accept',
        'rule priority="-1" port port="7289" protocol="tcp" drop',
    ]
    again = loaders.states.slapos_firewall.firewalld_loaded("x", rules=rules)
    assert (again.result, again.changes) == (True, {})
    firewalld.now(rules=rules[1:])
    assert loaders.states.slapos_firewall.firewalld_loaded("x", rules=rules).changes
    assert firewalld.rules == rules


def test_firewalld_that_does_not_run_is_said(loaders, firewalld, tmp_path):
    firewalld.now(active=False)
    rules = policy(loaders, tmp_path)
    ret = loaders.states.slapos_firewall.firewalld_loaded("x", rules=rules)
    assert (ret.result, ret.changes, ret.comment) == (False, {}, "firewalld does not run")
    ret = loaders.states.slapos_firewall.ready("x", backend="firewalld")
    assert ret.result is False
    assert "slapos_ha:firewall:backend: 'firewalld', but on demo1 firewalld does not run" in ret.comment  # fmt: skip


@pytest.mark.parametrize("backend, program", [("ufw", "ufw"), ("firewalld", "firewall-cmd")])
def test_a_firewall_that_is_not_installed_is_said(loaders, monkeypatch, backend, program):
    monkeypatch.setattr("salt.utils.path.which", lambda name: None)
    ret = loaders.states.slapos_firewall.ready("x", backend=backend)
    assert ret.result is False and f"{program} is not installed;" in ret.comment
    assert loaders.states.slapos_firewall.absent("none").result is True


def test_a_kernel_without_nftables_is_no_failure_where_there_never_was_a_table(loaders, tmp_path, root, monkeypatch):  # fmt: skip
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\necho 'Unable to initialize Netlink socket: Protocol not supported' >&2\nexit 3\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setattr("salt.utils.path.which", {"nft": str(program)}.get)
    assert loaders.states.slapos_firewall.absent("none").result is True
    (root / "etc/slapos_ha").mkdir(parents=True)
    (root / "etc/slapos_ha/firewall.nft").write_text("")
    ret = loaders.states.slapos_firewall.absent("none")
    assert ret.result is False and "Protocol not supported" in ret.comment


def test_a_kernel_without_tables_of_family_inet_is_said_in_one_line(loaders, tmp_path, monkeypatch):
    # What nft 1.0.6 says under Debian's user-mode Linux 6.1.176.
    said = tmp_path / "said"
    said.write_text(
        "/dev/stdin:2:1-22: Error: Could not process rule: Operation not supported\ntable inet slapos_ha\n^^^^^^^^^^^^^^^^^^^^^^\n"
    )
    for name, text in (("nft", ""), ("unshare", f"cat {said} >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    programs = {name: str(tmp_path / name) for name in ("nft", "unshare")}
    monkeypatch.setattr("salt.utils.path.which", programs.get)
    ret = loaders.states.slapos_firewall.ready("x", backend="nftables")
    assert ret.result is False
    assert ret.comment == (
        f"slapos_ha:firewall:backend: 'nftables', but on demo1 kernel {os.uname().release} has no tables of family inet (CONFIG_NF_TABLES_INET); "
        "mend it; or give another backend"
    )
