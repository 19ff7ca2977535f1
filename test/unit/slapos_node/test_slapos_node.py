"""The execution module's parsers and decisions: tables, text to text, no process."""

import http.server
import ipaddress
import os
import ssl
import threading

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support import load_module


@pytest.fixture
def text():
    return load_module("_utils/slapos_text.py")


@pytest.fixture
def utils(text):
    return {
        f"slapos_text.{name}": getattr(text, name)
        for name in dir(text)
        if callable(getattr(text, name))
    }


def load(path, utils):
    return load_module(
        path,
        __pillar__={"slapos_ha": {"re6st": {"token": "CANARY-token"}}},
        __grains__={"id": "demo1"},
        __opts__={"saltenv": "base"},
        __utils__=utils,
        __salt__={},
    )


@pytest.fixture
def module(utils):
    return load("_modules/slapos_node.py", utils)


@pytest.fixture
def actor(utils):
    return load("_modules/slapos_node_register.py", utils)


# --- Outputs of re6st-conf and slapos node register, as recorded ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        ("Generating 2048-bit key ...\nRequesting certificate ...\nError: invalid or expired token", "a new token"),
        ("CA fingerprint doesn't match", "slapos_ha:re6st:fingerprint"),
        ("re6st-conf: error: invalid fingerprint: wrong size", "64 hexadecimal digits"),
        ("OpenSSL.crypto.Error: [('PEM routines', '', 'no start line')]", "cannot be reached"),
        ("AttributeError: module 'OpenSSL.crypto' has no attribute 'X509Req'", "pyOpenSSL==24.2.1"),
        ("KeyError: 'foo'", "http://"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/etc/re6stnet'", "mounted"),
        ("http.client.HTTPException: (403, 'Forbidden')", "slapos_ha:re6st:token"),
        ("EOFError: EOF when reading a line", "slapos_ha:re6st:token"),
        ("what nobody has seen", None),
    ],
)  # fmt: skip
def test_re6st_conf_errors(text, output, meaning):
    found = text.explain("re6st-conf", output)
    assert found is None if meaning is None else meaning in found


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        ("CRITICAL Access denied to the SlapOS Master. Please check the authentication token or require a new one.", "slapos_ha:slapos:token"),
        ('ERROR The node name "node1" is already in use. Please change the name, or revoke the active certificate', "slapos_ha:slapos:computer_name"),
        ("requests.exceptions.ConnectionError: HTTPConnectionPool(host='10.98.0.1', port=1): Max retries exceeded", "web_master_url"),
        ("requests.exceptions.HTTPError: 404 Client Error: NOT FOUND for url: http://10.98.0.1:5000/Person_requestComputer", "no SlapOS panel"),
        ("requests.exceptions.HTTPError: 500 Server Error: Internal", "try again later"),
        ("EOFError: EOF when reading a line", "slapos_ha:slapos:token"),
        ("slapos: the command 'node register' does not exist", "pinned versions"),
        ("what nobody has seen", None),
    ],
)  # fmt: skip
def test_register_errors(text, output, meaning):
    found = text.explain("register", output)
    assert found is None if meaning is None else meaning in found


# --- Secrets ------------------------------------------------------------------------------------------------------------------------------


class Commands:
    """cmd.run_all, recorded."""

    def __init__(self, retcode=0, stdout="", then=None):
        self.answer = {"retcode": retcode, "stdout": stdout, "stderr": ""}
        self.then, self.calls = then, []

    def __call__(self, args, **kwargs):
        self.calls.append((args, kwargs))
        if self.then:
            self.then()
        return self.answer


@pytest.fixture
def re6st(actor, tmp_path):
    script = tmp_path / "re6st/bin/re6st-conf"
    script.parent.mkdir(parents=True)
    script.write_text("#!/opt/re6st/bin/python3\nprint()\n")
    conf = tmp_path / "etc"
    conf.mkdir()
    install = {"prefix": str(tmp_path / "re6st"), "method": "pip"}
    site = {"re6st": {"install": install}, "slapos": {"install": install}}
    actor.__salt__["slapos_ha.site"] = lambda: site
    return script, conf


def certificate(conf):
    for name in ("ca.crt", "cert.crt", "cert.key"):
        (conf / name).write_text("x")


def register(actor, conf):
    return actor.re6st_register(
        "slapos_ha:re6st:token", "http://r", "sha256:00", "comp1", "FR,EU", conf_dir=str(conf)
    )


def test_the_token_travels_by_standard_input_only(actor, re6st):
    script, conf = re6st
    run = actor.__salt__["cmd.run_all"] = Commands(
        stdout="Requesting ...\nYour subnet: 2001:db8:42:7::/64 (CN=7/16)\n",
        then=lambda: certificate(conf),
    )
    assert register(actor, conf) == "Your subnet: 2001:db8:42:7::/64 (CN=7/16)"
    ((args, kwargs),) = run.calls
    assert args[0] == "/opt/re6st/bin/python3" and str(script) in args
    assert not any("CANARY" in arg for arg in args) and kwargs["stdin"] == "CANARY-token\n"
    assert kwargs["output_loglevel"] == "quiet" and kwargs["python_shell"] is False
    assert args[-2:] == ["--location", "FR,EU"]


def test_the_token_is_struck_out_of_errors(actor, re6st, caplog):
    actor.__salt__["cmd.run_all"] = Commands(1, "boom with CANARY-token in it")
    with pytest.raises(CommandExecutionError) as error:
        register(actor, re6st[1])
    assert "CANARY" not in str(error.value) and "(secret)" in str(error.value)
    assert "CANARY" not in caplog.text


def test_a_registration_is_never_repeated(actor, re6st):
    certificate(re6st[1])
    run = actor.__salt__["cmd.run_all"] = Commands()
    with pytest.raises(CommandExecutionError, match="another prefix"):
        register(actor, re6st[1])
    assert run.calls == []


def test_success_without_a_certificate_is_a_failure(actor, re6st):
    actor.__salt__["cmd.run_all"] = Commands()
    with pytest.raises(CommandExecutionError, match="has no certificate"):
        register(actor, re6st[1])


def test_a_wrapper_that_is_no_python_script_is_refused(actor, re6st):
    re6st[0].write_text("#!/bin/sh\nexec something\n")
    run = actor.__salt__["cmd.run_all"] = Commands()
    with pytest.raises(CommandExecutionError, match="no Python script"):
        register(actor, re6st[1])
    assert run.calls == []


@pytest.mark.parametrize("value", [None, "", "  ", 7])
def test_a_missing_token_is_named_by_its_key(actor, re6st, value):
    actor.__pillar__["slapos_ha"]["re6st"]["token"] = value
    with pytest.raises(SaltInvocationError, match="slapos_ha:re6st:token is missing on demo1"):
        register(actor, re6st[1])


def slapos_register(actor, config):
    return actor.slapos_register(
        "slapos_ha:re6st:token", "http://m/", "http://w/", "comp1", "lo", 3, "10.0.0.0/16", "/sr", "/ir",
        config=str(config),
    )  # fmt: skip


def test_slapos_register(actor, re6st, tmp_path):
    (tmp_path / "re6st/bin/slapos").write_text("#!/usr/bin/python3\n")
    config = tmp_path / "slapos.cfg"

    def written():
        for name in ("key", "crt"):
            (tmp_path / name).write_text("x")
        config.write_text(
            f"[slapos]\ncomputer_id = COMP-7\nkey_file = {tmp_path}/key\ncert_file = {tmp_path}/crt\n"
        )

    run = actor.__salt__["cmd.run_all"] = Commands(then=written)
    assert slapos_register(actor, config) == "COMP-7"
    ((args, kwargs),) = run.calls
    assert not any("CANARY" in arg for arg in args) and kwargs["stdin"] == "CANARY-token\n"
    assert args[-1] == "comp1" and "http://w" in args, "the panel's path is joined with a slash"
    with pytest.raises(CommandExecutionError, match="another computer"):
        slapos_register(actor, config)
    assert len(run.calls) == 1


@pytest.mark.parametrize("kind", ["re6st", "slapos"])
def test_a_certificate_is_not_asked_for_where_it_could_not_be_kept(
    actor, re6st, tmp_path, monkeypatch, kind
):
    (tmp_path / "re6st/bin/slapos").write_text("#!/usr/bin/python3\n")
    run = actor.__salt__["cmd.run_all"] = Commands()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(actor.os, "fsync", full)
    with pytest.raises(
        CommandExecutionError, match="1 MiB: No space left on device. Nothing was asked for"
    ):
        if kind == "re6st":
            register(actor, re6st[1])
        else:
            slapos_register(actor, tmp_path / "not/there/slapos.cfg")
    assert run.calls == []


# --- Files ----------------------------------------------------------------------------------------------------------------------------------

FRESH = """registry http://old
ca ca.crt
cert cert.crt
key cert.key

# increase re6stnet verbosity:
#verbose 3
"""


def test_merge_conf(text):
    lines = ["registry http://new", "country FR"]
    merged = text.merge_conf(FRESH, lines, ["run /run/re6stnet", "ip any"])
    assert merged.splitlines()[0] == "registry http://new" and "http://old" not in merged
    assert merged.splitlines()[-5:] == [
        "country FR", "# slapos_ha begins", "run /run/re6stnet", "ip any", "# slapos_ha ends",
    ]  # fmt: skip
    assert "#verbose 3" in merged
    assert text.merge_conf(merged, lines, ["run /run/re6stnet", "ip any"]) == merged, "idempotent"


def test_merge_conf_takes_out_what_left_the_site_and_keeps_the_operators_lines(text):
    merged = text.merge_conf(
        FRESH + "verbose 4\nip 192.0.2.1\nO--verb\nO3\n", [], ["ip any", "table 7"]
    )
    assert "ip 192.0.2.1" not in merged and "verbose 4" in merged and "O--verb\nO3" in merged
    merged = text.merge_conf(merged, [], ["ip any"])
    assert "table 7" not in merged and "verbose 4" in merged
    merged = text.merge_conf(merged, [], ["ip any", "O--socket-flags", "OTCP_NODELAY"])
    assert "O--verb\nO3" in merged and merged.count("O--socket-flags") == 1


CFG = """[slapos]
# who we are
computer_id = COMP-1
instance_root = /srv/slapgrid

[slapformat]
computer_xml = /opt/slapos/slapos.xml
# log
log_file = /opt/slapos/log/x.log

[networkcache]
download-url = http://x
signature-certificate-list =
  -----BEGIN CERTIFICATE-----
  computer_xml = not a key
"""


def test_merge_cfg(text, tmp_path):
    values = {
        "slapos": {"pidfile_software": "/run/sr.pid"},
        "slapformat": {"computer_xml": "/srv/x/slapos.xml", "partition_amount": 3},
        "new": {"key": "value"},
    }
    merged = text.merge_cfg(CFG, values, ["networkcache"])
    path = tmp_path / "slapos.cfg"
    path.write_text(merged)
    assert text.read_cfg(path.read_text(), "x") == {
        "slapos": {
            "computer_id": "COMP-1",
            "instance_root": "/srv/slapgrid",
            "pidfile_software": "/run/sr.pid",
        },
        "slapformat": {
            "computer_xml": "/srv/x/slapos.xml",
            "log_file": "/opt/slapos/log/x.log",
            "partition_amount": "3",
        },
        "new": {"key": "value"},
    }
    assert "# who we are" in merged and "# log" in merged
    assert text.merge_cfg(merged, values, ["networkcache"]) == merged, "idempotent"


def test_merge_cfg_keeps_other_sections_whole(text):
    merged = text.merge_cfg(CFG, {"slapformat": {"computer_xml": "/x"}})
    assert "  computer_xml = not a key" in merged and merged.count("computer_xml = /x") == 1


def test_read_cfg_of_what_is_no_configuration(text):
    with pytest.raises(CommandExecutionError, match="/etc/x cannot be read"):
        text.read_cfg("no section\n", "/etc/x")


@pytest.mark.parametrize("gone", ["key", "crt", "slapos.cfg"])
def test_slapos_is_registered_with_configuration_key_and_certificate(actor, tmp_path, gone):
    config = tmp_path / "slapos.cfg"
    config.write_text(f"[slapos]\nkey_file = {tmp_path}/key\ncert_file = {tmp_path}/crt\n")
    for name in ("key", "crt"):
        (tmp_path / name).write_text("x")
    assert actor.slapos_registered(str(config)) is True
    (tmp_path / gone).unlink()
    assert actor.slapos_registered(str(config)) is False


# --- The filesystem ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mounts", "answer"),
    [
        ({}, False),
        ({"/etc/re6stnet": ("147:0", "/re6st/etc/re6stnet", "/dev/drbd0")}, False),
        ({"/srv/x": ("147:0", "/", "/dev/drbd0"), "/etc/re6stnet": ("147:0", "/re6st", "/dev/drbd0")}, True),
        ({"/srv/x": ("147:0", "/", "/dev/drbd0")}, "no mount"),
        ({"/srv/x": ("147:0", "/", "/dev/drbd0"), "/etc/re6stnet": ("8:1", "/", "/dev/sda1")}, "another filesystem"),
        ({"/srv/x": ("8:1", "/", "/dev/sda1"), "/etc/re6stnet": ("8:1", "/re6st", "/dev/sda1")}, "on /dev/sda1, not on /dev/drbd0"),
    ],
)  # fmt: skip
def test_on_ha_filesystem(module, monkeypatch, mounts, answer):
    monkeypatch.setattr(module, "_mounts", lambda: mounts)
    monkeypatch.setattr(module, "_number", lambda device: "147:0")
    if isinstance(answer, bool):
        assert module.on_ha_filesystem("/etc/re6stnet", "/srv/x", "/dev/drbd0") is answer
    else:
        with pytest.raises(CommandExecutionError, match=answer):
            module.on_ha_filesystem("/etc/re6stnet", "/srv/x", "/dev/drbd0")


def test_mounts_of_this_machine(module):
    assert "/" in module._mounts() or module._mounts()


# --- Environments -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path):
    packages = tmp_path / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    for name in ("re6stnet-0.642.dist-info", "pyOpenSSL-24.2.1.dist-info", "slapos_core-1.25.0.dist-info", "netifaces-0.11.0-py3.11.egg-info",
                 "slapos.libnetworkcache-0.30-py3.11.egg-info", "six.py"):  # fmt: skip
        (packages / name).mkdir()
    return str(tmp_path)


@pytest.mark.parametrize(
    ("requirement", "old"),
    [
        ("re6stnet==0.642", "same"),
        ("pyopenssl==24.2.1", "same"),
        ("slapos.core==1.25", "same"),
        ("slapos-libnetworkcache==0.30", "same"),
        ("netifaces==0.11.0", "same"),
        ("pyOpenSSL==26.4", "24.2.1"),
        ("slapos.core==1.26.1", "1.25.0"),
        ("cryptography==43.0.3", None),
    ],
)
def test_missing_requirements(module, environment, requirement, old):
    name, version = requirement.split("==")
    expected = {} if old == "same" else {name: {"old": old, "new": version}}
    assert module.missing_requirements(environment, [requirement]) == expected


def test_an_unpinned_requirement_is_refused(module, environment):
    with pytest.raises(SaltInvocationError, match="not pinned"):
        module.missing_requirements(environment, ["re6stnet>=0.6"])


def test_no_environment(module, tmp_path):
    assert module.installed_versions(str(tmp_path / "none")) == {}


def test_missing_programs(module, tmp_path):
    (tmp_path / "tool").write_text("")
    (tmp_path / "tool").chmod(0o755)
    wanted = ["tool", "sh", "no-such-tool", f"{tmp_path}/t*l", f"{tmp_path}/x*"]
    assert module.missing_programs(wanted, str(tmp_path)) == ["no-such-tool", f"{tmp_path}/x*"]


# --- Users ------------------------------------------------------------------------------------------------------------------------------------

WANTED = (5000, 5001, 2, "/sr", "/ir")


@pytest.mark.parametrize(
    ("passwd", "groups", "missing_users", "missing_groups", "conflicts"),
    [
        ({}, {}, ["slapsoft", "slapuser0", "slapuser1"], ["slapsoft", "slapuser0", "slapuser1"], []),
        ({"slapsoft": 5000, "slapuser0": 5001, "slapuser1": 5002}, {"slapsoft": 5000, "slapuser0": 5001, "slapuser1": 5002}, [], [], []),
        ({"slapsoft": 5000}, {"slapsoft": 5000}, ["slapuser0", "slapuser1"], ["slapuser0", "slapuser1"], []),
        ({"slapuser0": 994}, {}, ["slapsoft", "slapuser1"], ["slapsoft", "slapuser0", "slapuser1"], ["user slapuser0 has the id 994 here, and the site's is 5001"]),
        ({"alice": 5001}, {}, ["slapsoft", "slapuser1"], ["slapsoft", "slapuser0", "slapuser1"], ["the id 5001 of user slapuser0 belongs to user alice here"]),
        ({}, {"staff": 5002}, ["slapsoft", "slapuser0", "slapuser1"], ["slapsoft", "slapuser0"], ["the id 5002 of group slapuser1 belongs to group staff here"]),
        ({"slapuser0": 5002, "slapuser1": 5001}, {}, ["slapsoft"], ["slapsoft", "slapuser0", "slapuser1"],
         ["user slapuser0 has the id 5002 here, and the site's is 5001", "the id 5001 of user slapuser0 belongs to user slapuser1 here",
          "user slapuser1 has the id 5001 here, and the site's is 5002", "the id 5002 of user slapuser1 belongs to user slapuser0 here"]),
    ],
)  # fmt: skip
def test_compare_users(text, passwd, groups, missing_users, missing_groups, conflicts):
    missing, found = text.compare_users(text.wanted_users(*WANTED), passwd, groups)
    assert (missing["users"], missing["groups"], found) == (
        missing_users,
        missing_groups,
        conflicts,
    )


def test_a_user_with_another_home_is_a_conflict_with_its_remedy(module, monkeypatch):
    lines = {
        "/etc/passwd": "slapsoft:x:5000:5000::/elsewhere:/bin/sh",
        "/etc/group": "slapsoft:x:5000:",
    }
    monkeypatch.setattr(
        module,
        "_database",
        lambda path, key: {"slapsoft": {key: "5000", "fields": lines[path].split(":")}},
    )
    (conflict,) = module.user_differences(5000, 5001, 0, "/sr", "/ir")["conflicts"]
    assert "home /elsewhere" in conflict and "usermod -d /sr -s /bin/sh slapsoft" in conflict


# --- Registry and master ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", answers
        httpd.shutdown()


DER = b"not really a certificate, but digested all the same"


@pytest.mark.parametrize(
    ("path", "status", "body", "text"),
    [
        ("/getCa", 200, ssl.DER_cert_to_PEM_cert(DER), None),
        ("/getCa", 200, ssl.DER_cert_to_PEM_cert(b"another"), "has the fingerprint sha256:.*, not sha256:"),
        ("/getCa", 200, "<html>", "no re6st registry"),
        ("/other", 200, "x", "no re6st registry .HTTP status 404"),
        ("/getCa", 500, "x", "no re6st registry .HTTP status 500"),
    ],
)  # fmt: skip
def test_registry_check(module, server, path, status, body, text):
    url, answers = server
    answers[path] = (status, body.encode())
    fingerprint = "sha256:" + __import__("hashlib").sha256(DER).hexdigest()
    if text is None:
        assert module.registry_check(url + "/", fingerprint) == {
            "reachable": True,
            "fingerprint": fingerprint,
        }
    else:
        with pytest.raises(CommandExecutionError, match=text):
            module.registry_check(url, fingerprint)


def test_a_fingerprint_of_an_unknown_kind(module, server):
    url, answers = server
    answers["/getCa"] = (200, ssl.DER_cert_to_PEM_cert(DER).encode())
    with pytest.raises(SaltInvocationError, match="is no fingerprint"):
        module.registry_check(url, "crc:00")


@pytest.mark.parametrize("status", [200, 302, 403, 404, 500])
def test_any_answer_of_a_master_will_do(module, server, status):
    url, answers = server
    answers["/"] = (status, b"")
    assert module.master_check(url + "/") == {"reachable": True, "status": status}


def test_masters_and_registries_that_do_not_answer(module, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server[0])
    with pytest.raises(CommandExecutionError, match="cannot be reached: Connection refused"):
        module.master_check("http://127.0.0.1:1/")
    with pytest.raises(CommandExecutionError, match="cannot be reached: its name"):
        module.registry_check("http://no.such.host.invalid", "sha256:00", timeout=3)
    answer = module.master_check("http://[::1]:1/")
    assert answer["reachable"] is None and "IPv6 only" in answer["why"]


# --- Partitions -------------------------------------------------------------------------------------------------------------------------------


def test_partitions(actor, tmp_path, monkeypatch):
    class Service:
        computer_xml = str(tmp_path / "slapos.xml")
        interface = "lo"
        running = None
        addresses = [("addr", "10.0.0.1/32"), ("route", "2001:db8::/80")]

        def supervisord(self):
            return self.running

        def given(self):
            return self.addresses

    service = Service()
    monkeypatch.setattr(actor, "INSTANCE_ROOT", str(tmp_path))
    monkeypatch.setattr(actor, "_launcher", lambda name: (None, service))
    actor.__salt__["slapos_ha.site"] = lambda: {"slapos": {"partition_number": 1}}
    actor.__salt__["slapos_node.ids"] = lambda: {"wanted": {"slapuser0": {"id": 64001}}}
    assert actor.partitions() == [f"{service.computer_xml} is not there yet"]
    (tmp_path / "slapos.xml").write_text("")
    assert actor.partitions() == [f"{tmp_path}/slappart0 is not there"]
    (tmp_path / "slappart0").mkdir(mode=0o755)
    os.chmod(tmp_path / "slappart0", 0o755)
    assert actor.partitions() == [
        f"{tmp_path}/slappart0 belongs to 0:0, not 64001",
        f"{tmp_path}/slappart0 has the mode 755, not 750",
    ]
    os.chown(tmp_path / "slappart0", 64001, 64001)
    os.chmod(tmp_path / "slappart0", 0o750)
    assert actor.partitions() == [], "a stopped SlapOS has its addresses nowhere"
    service.running = True
    assert actor.partitions() == ["1 of 2 addresses are on lo"]
    service.addresses = [("addr", "10.0.0.1/32"), ("addr", "2001:db8::2/64")]
    assert actor.partitions() == []
    assert ipaddress.ip_interface("2001:db8::2/64")


@pytest.mark.parametrize(("name", "verb"), [("x", "start"), ("re6st", "run"), ("slapos", "kill")])
def test_launch_refuses_what_it_does_not_know(module, name, verb):
    with pytest.raises(SaltInvocationError):
        module.launch(name, verb)


def test_slapos_node_refuses_what_does_not_end(actor):
    with pytest.raises(SaltInvocationError):
        actor.slapos_node("boot")
