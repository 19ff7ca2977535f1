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

# What was written while the peer was not connected is copied now: the next step moves the service there.
DRBD resource {{ site.fqdn }} is in sync with its filesystem:
  drbd.synced:
    - name: {{ site.fqdn | json }}
    - timeout: {{ site.timeouts.sync | json }}
    - require:
      - opensvc: Service {{ site.path }} is on {{ site.nodes[0] }}
