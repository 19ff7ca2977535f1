"""The main job, as an operator sees it: deploy, status, the page, a second run, a move, a crash."""

import time

from rich.console import Console

from . import cli, hosts, site
from .base import HOSTS, LabError, wait


def demo(lab, tree=None, keep=False):
    console = Console(highlight=False, soft_wrap=True)
    begun = time.monotonic()

    def title(text):
        console.print(f"\n[bold]{text}[/bold]  [dim]{time.monotonic() - begun:.0f} s[/dim]")

    title("The lab")
    cli.up(lab, tree, fresh=True)
    try:
        title("salt-run slapos_ha.plan")
        console.print(site.plan(lab).stdout)
        title("salt-run state.orch orch.deploy")
        first = site.deploy(lab, lambda data: _progress(console, data, begun))
        if first.retcode:
            console.print(first.text[-6000:])
            raise LabError(f"the deployment failed: {first.why}")
        console.print(
            f"deployed in {first.seconds:.0f} s; the agent's own commands took {first.agent_seconds:.0f} s of it: "
            f"{first.seconds / max(first.agent_seconds, 1):.2f} ×"
        )
        title("salt-run slapos_ha.status")
        console.print(site.status(lab).stdout)
        title("A page is requested from the SlapOS master, built and served by the service")
        page = site.request_page(lab)
        console.print(f"http://127.0.0.1:18080/ on {site.active(lab)} answers {page}")
        title("The orchestration again")
        second = site.deploy(lab)
        if second.retcode or second.changed:
            raise LabError(f"the second run was not quiet: {second.failed} {second.changed}")
        console.print(
            f"no change, no move, {second.seconds:.0f} s: {100 * second.seconds / first.seconds:.0f} % of the first"
        )
        target = next(host for host in HOSTS if host != site.active(lab))
        title(f"A move to {target}")
        site.move(lab, target)
        _same(lab, page, 180)
        console.print(f"the page is the same on {site.active(lab)}")
        title(f"{target} loses its power")
        cut = time.monotonic()
        hosts.crash(lab, target)
        _same(lab, page, 300)
        console.print(
            f"the page is the same on {site.active(lab)}, {time.monotonic() - cut:.0f} s later"
        )
        cli.boot(lab, target)
        wait(
            "both disks are UpToDate",
            lambda: all(site.in_sync(lab, host) for host in HOSTS),
            300,
            2,
        )
        wait("the site is whole", lambda: site.status(lab).returncode == 0, 300, 5)
        title(f"{target} is back and in sync: salt-run slapos_ha.status")
        console.print(site.status(lab).stdout)
    finally:
        if keep:
            console.print(
                f"the lab stays up: LAB_HOME={lab.home} test/lab/lab ssh demo1; test/lab/lab down"
            )
        else:
            cli.down(lab)
    console.print(f"done in {time.monotonic() - begun:.0f} s")


def _progress(console, data, begun):
    at = f"[dim]{time.monotonic() - begun:5.0f} s[/dim]"
    if data["phase"] == "begin":
        console.print(f"{at}  … {data['what']}")
    elif data["phase"] == "done":
        console.print(f"{at}  [green]✔[/green] {data['comment']}")
    else:
        console.print(f"{at}  [red]✘ {data['comment']}[/red]")


def _same(lab, page, seconds):
    wait("the same page is answered", lambda: site.page(lab) == page, seconds, 2)
