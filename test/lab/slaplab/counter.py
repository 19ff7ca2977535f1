"""Which programs Salt starts on a host: programs of their names, before the real ones in PATH, note it. What others start, the agent by itself, is not noted."""

import contextlib

from . import hosts

PROGRAMS = ("om", "drbdadm", "drbdsetup", "drbdmeta")
FOLDER, RECORD = "/usr/local/sbin", "/run/counted"
# Of the shell's own words only: a counter that started processes would be what it measures. dash's read leaves out the zeros between the words.
_NOTE = (
    "#!/bin/sh\\n{ read -r parent </proc/$PPID/cmdline; } 2>/dev/null\\ncase $parent in *salt*) echo %s >>%s;; esac"
    '\\nexec %s "$@"\\n'
)


def script(programs=PROGRAMS, folder=FOLDER, record=RECORD):
    """The shell's lines that begin to count on the host where they are run; a program that is not there is left out."""
    return f"""set -e
: >{record}
for program in {" ".join(programs)}; do
  rm -f {folder}/$program
  real=$(command -v $program) || continue
  printf '{_NOTE}' $program {record} $real >{folder}/.$program
  chmod 755 {folder}/.$program
  mv {folder}/.$program {folder}/$program
done"""


@contextlib.contextmanager
def counting(lab, host, programs=PROGRAMS):
    """A function that names what was started so far, in its order and each time; it counts for as long as the context lasts."""
    hosts.ssh(lab, host, script(programs))
    try:
        yield lambda: hosts.ssh(lab, host, f"cat {RECORD}").stdout.split()
    finally:
        names = " ".join(f"{FOLDER}/{program}" for program in programs)
        # At an end by force the host may be gone; then nobody counts either.
        hosts.ssh(lab, host, f"rm -f {names}", check=False)
