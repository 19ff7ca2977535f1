"""What a lab that is taken down ends: who has not entered its namespace yet belongs to it, too."""

import subprocess
import sys

from slaplab.base import Lab, started


def test_a_process_on_its_way_into_the_namespace_is_ended(tmp_path):
    lab, other = Lab(tmp_path / "one"), Lab(tmp_path / "two")
    # With the command line of `ip netns exec`: to this interpreter its second word is a program.
    (tmp_path / "netns").write_text("import time\ntime.sleep(600)\n")
    entering, others = (
        # A word that is no text: any process of the machine may have one.
        subprocess.Popen(
            [*one.inside("linux.uml"), b"\xff"], executable=sys.executable, cwd=tmp_path
        )
        for one in (lab, other)
    )
    try:
        lab.down()
        assert started(entering.pid) is None and started(others.pid)
    finally:
        for process in (entering, others):
            process.kill()
            process.wait()
