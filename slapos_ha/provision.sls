# The service is provisioned on both nodes by the agent, and up on the preferred one. Run by the orchestration there.
{%- from "slapos_ha/map.jinja" import site with context %}
Service {{ site.path }} is provisioned:
  opensvc.provisioned:
    - name: {{ site.path | json }}
    - timeout: {{ site.timeouts.provision | json }}

Service {{ site.path }} is on {{ site.nodes[0] }}:
  opensvc.placed:
    - name: {{ site.path | json }}
    - node: {{ site.nodes[0] | json }}
    - timeout: {{ site.timeouts.switch | json }}
    - require:
      - opensvc: Service {{ site.path }} is provisioned
