# The service is down on both nodes, and nothing of its filesystem is mounted on this one. Run by orch.teardown.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set there = salt['opensvc.config_show'](site.path) is not none %}
{%- if there %}
# A deployment that failed may have left an instance in a failed state, which no request gets out of.
Service {{ site.path }} is held back by no failure:
  opensvc.cleared:
    - name: {{ site.path | json }}

Service {{ site.path }} is stopped:
  opensvc.stopped:
    - name: {{ site.path | json }}
    - timeout: {{ site.timeouts.switch | json }}
    - require:
      - opensvc: Service {{ site.path }} is held back by no failure
{%- endif %}

Nothing of {{ site.mount }} is mounted on {{ site.node }}:
  slapos_node.removed:
    - concern: mounts
{%- if there %}
    - require:
      - opensvc: Service {{ site.path }} is stopped
{%- endif %}
