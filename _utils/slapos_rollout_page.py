"""
The report of a rollout as files, only its owner may read them: JSON, and one page of HTML that needs nothing else. For the runner ``slapos_ha_rollout``.

What is in it is what ``slapos_rollout_loop`` keeps: names, times, results and comments. Changes of states, facts of nodes and pillars are not.
"""

import json
import os
import time

from salt.exceptions import CommandExecutionError

# --- Where it goes --------------------------------------------------------------------------------------------------------------------------------


def place(path, rollout):
    """
    {"json": path, "html": path} of a rollout's report; raises before anything is begun when it could not be written.

    ``path`` is a folder that is there, or a file in one, of which both names are made.
    """
    if path is None:
        return {}
    stem = os.path.join(path, f"rollout-{rollout}") if os.path.isdir(path) else path
    for ending in (".json", ".html"):
        stem = stem.removesuffix(ending)
    around = os.path.dirname(stem)
    if not os.path.isdir(around) or not os.access(around, os.W_OK | os.X_OK):
        why = "is no folder" if not os.path.isdir(around) else "cannot be written to"
        error = CommandExecutionError(f"report: {around!r} {why}")
        error.remedy = "Make it, or give another path. Nothing was started."
        raise error
    return {ending: f"{stem}.{ending}" for ending in ("json", "html")}


def write(report, places, words, duration):
    """Write a report (dict, of a rollout's ``report``) to its places; ``words`` and ``duration`` are those of ``slapos_site_show``."""
    if not places:
        return
    texts = {
        "json": json.dumps(report, indent=1) + "\n",
        "html": page(report, words, duration),
    }
    for kind, path in places.items():
        handle = os.open(
            f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            file.write(texts[kind])
        os.rename(f"{path}.new", path)


# --- The page -------------------------------------------------------------------------------------------------------------------------------------

# The width of a timeline in its own units.
_WIDE = 1000
_ORDER = ("late", "failed", "skipped", "left", "running", "waiting", "done", "same")
_RESULTS = {True: "good", False: "bad", None: "open"}


def page(report, words, duration):
    """The page of a report as text."""
    # Here, as utils are loaded in places that need no page.
    import jinja2

    begun = [one["since"] for one in report["sites"] if one["since"] is not None]
    since = min([report["since"], *begun])
    until = max(report["until"] or time.time(), since + 1)
    rows = [_row(one, since, until, duration) for one in report["sites"]]
    rows.sort(key=lambda row: (row["wave"] or 1 << 30, row["since"] or until, row["site"]))
    for row in rows:
        row["word"] = words[row["state"]]
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(_PAGE)
    return template.render(
        report=report,
        rows=rows,
        states=[
            (state, words[state], report["counts"][state])
            for state in _ORDER
            if report["counts"].get(state)
        ],
        ticks=[
            (share, _moment(since + (until - since) * share / 100, "%H:%M:%S"))
            for share in (0, 25, 50, 75, 100)
        ],
        since=_moment(since),
        until=_moment(report["until"]) if report["until"] else None,
        took=duration(since, until),
        arguments=[
            (key, json.dumps(value))
            for key, value in report["arguments"].items()
            if value not in (None, [], {})
        ],
    )


def _row(one, since, until, duration):
    scale = _WIDE / (until - since)
    ends = one["until"] or until
    bars, steps = [], []
    if one["since"] is not None:
        left = (one["since"] - since) * scale
        whole = {"x": round(left, 2), "width": round(max((ends - one["since"]) * scale, 2), 2)}
        bars.append(
            {
                **whole,
                "kind": one["state"],
                "title": f"{one['site']}: {duration(one['since'], ends)}",
            }
        )
        # What a run spends before its first step, Salt's own start, is at its beginning.
        known = max([step["at"] + step["seconds"] for step in one["steps"]], default=0)
        late = max(ends - one["since"] - known, 0) if one["until"] else 0
        for step in one["steps"]:
            x = left + (late + step["at"]) * scale
            steps.append(
                {
                    "x": round(x, 2),
                    "width": round(max(step["seconds"] * scale, 1), 2),
                    "kind": _RESULTS[step["result"]],
                    "title": f"{step['name']}: {duration(0, step['seconds'])}",
                }
            )
    return {
        **one,
        "bars": bars,
        "segments": steps,
        "took": duration(one["since"], ends),
        "begun": _moment(one["since"], "%H:%M:%S") if one["since"] else "",
        "line": (one["comment"].strip().splitlines() or [""])[0],
        "changed": sum(bool(step["changed"]) for step in one["steps"]),
        "table": [
            {**step, "kind": _RESULTS[step["result"]], "took": f"{step['seconds']} s"}
            for step in one["steps"]
        ],
    }


def _moment(seconds, form="%Y-%m-%d %H:%M:%S UTC"):
    return time.strftime(form, time.gmtime(seconds))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Rollout {{ report.rollout }}: {{ report.what }}</title>
<style>
:root {
  --ground: #fbfbfa; --card: #fff; --text: #1b1d20; --soft: #5c636b; --line: #d9dde1; --track: #eceff1; --focus: #0b62c4;
  --good: #2b7a3f; --bad: #b3261e; --late: #8a2be2; --open: #8a6100; --busy: #0b62c4; --quiet: #69727b; --seam: #ffffffb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --card: #1d2024; --text: #e8eaed; --soft: #a4acb5; --line: #363b42; --track: #2a2e34; --focus: #7db7ff;
    --good: #6fce87; --bad: #ff8a80; --late: #cf9bff; --open: #f0c05a; --busy: #7db7ff; --quiet: #a4acb5; --seam: #15171ab0;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 90rem; background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
.soft, .ticks, .hint { color: var(--soft); }
.soft { margin: 0 0 1rem; }
.stop { border-left: 4px solid var(--bad); background: var(--card); padding: .5rem .75rem; margin: 0 0 1rem; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: 0 0 1rem; }
.controls button, .controls input {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 999px; padding: .3rem .8rem;
}
.controls button[aria-pressed="false"] { opacity: .55; text-decoration: line-through; }
.controls input { border-radius: 6px; min-width: 16rem; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.wrap { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: .6rem .75rem; color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .45rem .75rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-weight: 600; color: var(--soft); white-space: nowrap; }
.sites > tbody > tr > th { font-weight: 600; white-space: nowrap; }
.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
.state { white-space: nowrap; font-weight: 600; }
.state::before { content: ""; display: inline-block; width: .65em; height: .65em; border-radius: 50%; background: currentColor; margin-right: .45em; }
.done { color: var(--good); } .failed { color: var(--bad); } .late { color: var(--late); } .skipped { color: var(--open); }
.running { color: var(--busy); } .left, .same { color: var(--quiet); }
.time { width: 38%; min-width: 20rem; }
.ticks { position: relative; height: 1.3em; font-weight: 400; font-variant-numeric: tabular-nums; font-size: .85em; }
.ticks span { position: absolute; transform: translateX(-50%); }
.ticks span:first-child { transform: none; } .ticks span:last-child { transform: translateX(-100%); }
svg.bar { display: block; width: 100%; height: 22px; background: var(--track); border-radius: 4px; }
svg .whole { fill: currentColor; opacity: .28; }
svg .step { stroke: var(--seam); stroke-width: 1; vector-effect: non-scaling-stroke; }
.step.good { fill: var(--good); } .step.bad { fill: var(--bad); } .step.open { fill: var(--open); }
details summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; font: 13px/1.4 ui-monospace, monospace; }
.steps { margin: .5rem 0; font-size: .9em; }
.steps th, .steps td { padding: .2rem .6rem .2rem 0; border-top: 1px dotted var(--line); }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 1.5rem 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
[hidden] { display: none; }
@media print { .controls { display: none; } body { max-width: none; } }
</style>
</head>
<body>
<main>
<h1>Rollout of {{ report.what }}: {{ "every site is as it should be" if report.good else "not every site is as it should be" }}</h1>
<p class="soft">Rollout {{ report.rollout }}, begun {{ since }}, {% if until %}ended {{ until }} after {{ took }}{% else %}not ended when this was written, after {{ took }}{% endif %}.
{{ rows | length }} sites in {{ report.waves | length }} waves.</p>
{% if report.stopped %}
<p class="stop" role="note">No more site was begun: {{ report.stopped }}.</p>
{% endif %}
<div class="controls" role="group" aria-label="Which sites are shown">
{% for state, word, count in states %}
<button type="button" aria-pressed="true" data-state="{{ state }}"><span class="state {{ state }}">{{ word }}</span> {{ count }}</button>
{% endfor %}
<label>Find <input type="search" id="find" placeholder="site, node, job or words of a comment" autocomplete="off"></label>
<span class="hint" id="shown" role="status"></span>
</div>
<div class="wrap">
<table class="sites">
<caption>Each bar is a site's run on the clock of the rollout; the segments are its steps.</caption>
<thead><tr>
<th scope="col">site</th><th scope="col">wave</th><th scope="col">state</th><th scope="col">time</th>
<th scope="col" class="time">timeline (UTC)<div class="ticks">{% for share, text in ticks %}<span style="left:{{ share }}%">{{ text }}</span>{% endfor %}</div></th>
<th scope="col">what it says</th>
</tr></thead>
<tbody>
{% for row in rows %}
<tr data-state="{{ row.state }}" data-words="{{ row.site }} {{ row.nodes | join(' ') }} {{ row.jid or '' }} {{ row.comment }}">
<th scope="row">{{ row.site }}<div class="hint" style="font-weight:400">{{ row.nodes | join(", ") }}</div></th>
<td class="number">{{ "canary" if row.canary else row.wave or "–" }}</td>
<td><span class="state {{ row.state }}">{{ row.word }}</span></td>
<td class="number">{{ row.took }}</td>
<td class="time">{% if row.bars %}
<svg class="bar {{ row.state }}" viewBox="0 0 1000 22" preserveAspectRatio="none" role="img" aria-label="{{ row.site }} from {{ row.begun }} UTC, {{ row.took }}, {{ row.segments | length }} steps">
{% for bar in row.bars %}<rect class="whole" x="{{ bar.x }}" y="0" width="{{ bar.width }}" height="22"><title>{{ bar.title }}</title></rect>{% endfor %}
{% for bar in row.segments %}<rect class="step {{ bar.kind }}" x="{{ bar.x }}" y="4" width="{{ bar.width }}" height="14"><title>{{ bar.title }}</title></rect>{% endfor %}
</svg>{% endif %}</td>
<td>{% if row.table or row.comment != row.line or row.jid %}<details><summary>{{ row.line or row.word }}</summary>
{% if row.comment != row.line %}<pre>{{ row.comment }}</pre>{% endif %}
{% if row.to_do %}<p>to do: {{ row.to_do | join(", ") }}</p>{% endif %}
{% if row.jid %}<p class="hint">job {{ row.jid }}: salt-run jobs.lookup_jid {{ row.jid }}</p>{% endif %}
{% if row.table %}<table class="steps"><thead><tr><th scope="col">step</th><th scope="col">time</th><th scope="col">result</th><th scope="col">comment</th></tr></thead><tbody>
{% for step in row.table %}<tr><th scope="row">{{ step.name }}</th><td class="number">{{ step.took }}</td>
<td class="{{ step.kind }}">{{ {"good": "well", "bad": "failed", "open": "open"}[step.kind] }}{{ ", changed" if step.changed }}</td><td>{{ step.comment }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
</details>{% else %}{{ row.line }}{% endif %}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
<dl>{% for key, value in arguments %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
</main>
<script>
(function () {
  "use strict";
  var rows = Array.prototype.slice.call(document.querySelectorAll(".sites > tbody > tr"));
  var buttons = Array.prototype.slice.call(document.querySelectorAll("button[data-state]"));
  var find = document.getElementById("find"), shown = document.getElementById("shown");
  function show() {
    var words = find.value.toLowerCase().split(" ").filter(Boolean), count = 0;
    var off = buttons.filter(function (one) { return one.getAttribute("aria-pressed") === "false"; }).map(function (one) { return one.dataset.state; });
    rows.forEach(function (row) {
      var text = row.dataset.words.toLowerCase();
      row.hidden = off.indexOf(row.dataset.state) >= 0 || !words.every(function (word) { return text.indexOf(word) >= 0; });
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = count + " of " + rows.length + " sites shown";
  }
  buttons.forEach(function (one) {
    one.addEventListener("click", function () {
      one.setAttribute("aria-pressed", one.getAttribute("aria-pressed") === "true" ? "false" : "true");
      show();
    });
  });
  find.addEventListener("input", show);
  // A link may carry what is looked for: report.html#find=paris
  var asked = /^#find=(.*)$/.exec(location.hash);
  if (asked) { find.value = decodeURIComponent(asked[1]); }
  show();
}());
</script>
</body>
</html>
"""
