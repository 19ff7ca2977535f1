# The service is down on both nodes, and nothing of its filesystem is mounted on this one. Run by orch.teardown.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set there = salt['opensvc.config_show'](site.path) is not none %}
{%- if there %}
Service {{ site.path }} is stopped:
  opensvc.stopped:
    - name: {{ site.path | json }}
    - timeout: {{ site.timeouts.switch | json }}
    - clear: true
{%- endif %}

Nothing of {{ site.mount }} is mounted on {{ site.node }}:
  slapos_node.removed:
    - concern: mounts
{%- if there %}
    - require:
      - opensvc: Service {{ site.path }} is stopped
{%- endif %}
