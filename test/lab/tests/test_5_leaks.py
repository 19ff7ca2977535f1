"""
No secret is seen where it must not be: processes, event bus, job cache, logs and files, during the deployment, in test mode, at log level debug and when a run
fails. By itself this file deploys the site first.
"""

import contextlib
import secrets

import pytest
from slaplab import control, hosts, leaks, site
from slaplab.base import HOSTS, wait

DEBUG = "/etc/salt/minion.d/zz-debug.conf"


def minions_begin_anew(lab):
    """Restart both minions and wait until they answer."""
    for host in HOSTS:
        hosts.ssh(lab, host, "systemctl restart salt-minion")
    wait(
        "both minions answer again",
        lambda: control.answering(lab) >= set(HOSTS),
        120,
    )


@contextlib.contextmanager
def debug_level(lab):
    for host in HOSTS:
        hosts.ssh(lab, host, f"echo 'log_level_logfile: debug' >{DEBUG}")
    try:
        minions_begin_anew(lab)
        yield
    finally:
        for host in HOSTS:
            hosts.ssh(lab, host, f"rm -f {DEBUG}")
        minions_begin_anew(lab)


def test_nothing_was_seen_while_the_site_was_deployed(lab, known, recorder):
    """What the whole session's recorder has heard so far; it ends here."""
    assert recorder.ended() == []


def test_what_is_planted_is_found(lab, known):
    """The proof that the others would see: a secret in a command line, an event, the job cache, a log and a file that everybody reads."""
    planted = f"planted-{secrets.token_hex(12)}"
    with leaks.Recorder(lab, {"planted": planted}) as recorder:
        hosts.ssh(lab, "demo1", f"sh -c 'sleep 2; :' {planted}")
        hosts.ssh(lab, "demo1", f"echo {planted} >/tmp/planted; logger {planted}")
        control.salt(lab, "salt", "demo1", "test.arg", planted)
    try:
        said = "\n".join(recorder.findings())
        assert "demo1: planted in cmdline of process" in said
        assert "control: planted in cmdline of process" in said
        assert "bus: planted in event salt/job/" in said
        on_host = leaks.on_host(lab, "demo1", {"planted": planted})
        assert {"name": "planted", "path": "/tmp/planted", "mode": "644"} in on_host
        assert "(journal)" in {finding["path"] for finding in on_host}
        on_control = leaks.on_control(lab, {"planted": planted})
        assert [finding for finding in on_control if "/cache/jobs/" in finding["path"]]
    finally:
        hosts.ssh(lab, "demo1", "rm -f /tmp/planted")
    assert planted not in said


@pytest.fixture(scope="module")
def runs(lab, known):
    """Test mode, a run at level debug and one that fails at it, all of them heard; {name: result} and the recorder."""
    answers = {}
    with leaks.Recorder(lab) as recorder:
        answers["states"] = control.salt_json(
            lab, "salt", "*", "state.apply", "slapos_ha", "test=True"
        )
        answers["test"] = site.deploy(lab, test="True")
        with debug_level(lab):
            answers["debug"] = site.deploy(lab, level="debug")
            # Refused for the secret itself: what is said of it must not be what it is.
            control.pillar(
                lab,
                lambda pillar: pillar["drbd"].update(shared_secret=known["drbd"] + " with blanks"),
            )
            try:
                answers["failing"] = site.deploy(lab, level="debug")
            finally:
                control.pillar(lab)
    return answers, recorder


def test_the_runs_were_what_they_were_to_be(lab, runs):
    answers, recorder = runs
    for host in HOSTS:
        assert isinstance(answers["states"][host], dict), answers["states"][host]
    assert answers["test"].retcode == 0, answers["test"].why
    assert answers["debug"].retcode == 0 and answers["debug"].changed == [], answers["debug"].failed
    assert answers["failing"].retcode != 0
    assert "slapos_ha:drbd:shared_secret: (secret) is not right" in "".join(
        answers["failing"].failed.values()
    )
    for host in HOSTS:
        assert hosts.ssh(lab, host, r"grep -c '\[DEBUG' /var/log/salt/minion").stdout.strip() != "0"
    assert "[DEBUG" in (lab.logs / "master.log").read_text(errors="replace")


def test_no_process_and_no_event_shows_a_secret(lab, runs):
    _, recorder = runs
    assert recorder.findings() == []
    assert min(recorder.passes().values()) > 100, recorder.passes()


def test_no_answer_shows_a_secret(lab, known, runs):
    answers, _ = runs
    text = repr(answers["states"]) + "".join(
        answers[name].text for name in ("test", "debug", "failing")
    )
    assert [name for name, value in known.items() if value in text] == []


@pytest.mark.parametrize("host", HOSTS)
def test_only_the_files_that_must_hold_a_secret_do_and_are_roots_alone(lab, known, runs, host):
    found = leaks.on_host(lab, host, known)
    assert leaks.strays(found, leaks.HOLDERS) == []
    assert {finding["name"] for finding in found} >= {"drbd", "cluster", "disk image"}
    print(f"{host}: core dumps {leaks.cores(lab, host)}")


def test_only_the_pillar_holds_secrets_on_the_control_node(lab, known, runs):
    found = leaks.on_control(lab, known)
    pillar = dict.fromkeys(("drbd", "re6st", "slapos"), leaks.PILLAR)
    assert leaks.strays(found, pillar) == []
    assert {finding["name"] for finding in found} == set(pillar)
