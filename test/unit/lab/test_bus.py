"""What is heard of the bus, and that a listener ends though nobody says anything any more."""

import sys
import textwrap

from slaplab import bus

# Says two things and the mark, as the listener does, then nothing until its input ends.
SAYS = textwrap.dedent(
    """
    import pickle, sys
    for tag in ("one", "two", "lab/mark"):
        pickle.dump((tag, {"tag": tag}), sys.stdout.buffer)
    sys.stdout.buffer.flush()
    sys.stdin.read()
    """
)


class Lab:
    def __init__(self, home):
        self.home = self.logs = home


def test_a_listener_ends_though_its_master_says_nothing(tmp_path, monkeypatch):
    program = tmp_path / "says.py"
    program.write_text(SAYS)
    monkeypatch.setattr(bus, "PROGRAM", program)
    monkeypatch.setattr(bus.secrets, "token_hex", lambda _: "mark")
    monkeypatch.setattr(bus.Bus, "_heard", lambda self: self._listening.wait(0.5))
    heard = []
    listener = bus.Bus(Lab(tmp_path), heard.append)
    with listener:
        process = listener._process
        assert process.args[0] == sys.executable
    assert process.returncode == 0 and not listener._thread.is_alive()
    assert [event["tag"] for event in heard] == ["one", "two"]
    listener.stop()
