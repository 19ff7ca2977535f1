# app#0, re6st, becomes the agent's to run. Run by the orchestration on the second node, where the service is: "enabled" says that it was seen to run there.
{%- from "slapos_ha/map.jinja" import site with context %}
app#0 of {{ site.path }} is enabled:
  opensvc.enabled:
    - name: {{ site.path | json }}
    - rids: ['app#0']

app#0 of {{ site.path }} runs:
  opensvc.resource_started:
    - name: {{ site.path | json }}
    - rids: ['app#0']
    - timeout: {{ site.timeouts.start | json }}
    - require:
      - opensvc: app#0 of {{ site.path }} is enabled
