# What is below the filesystem, on this node: the agent makes the disks, we make DRBD's metadata (8.4 refuses the way in which the agents call create-md).
{%- from "slapos_ha/map.jinja" import site with context %}
include:
  - slapos_ha.allocated

Disks below DRBD are provisioned on {{ site.node }}:
  opensvc.provisioned:
    - name: {{ site.path | json }}
    - rids: {{ site.storage.rids | json }}
    - local: true
    - timeout: {{ site.timeouts.provision | json }}

# Provisioned by a run that died, and down since the host has booted: the agent starts no standby of an instance that is not provisioned as a whole (2.1).
Disks below DRBD are up on {{ site.node }}:
  opensvc.resource_started:
    - name: {{ site.path | json }}
    - rids: {{ site.storage.rids | json }}
    - timeout: {{ site.timeouts.start | json }}
    - require:
      - opensvc: Disks below DRBD are provisioned on {{ site.node }}

{%- if site.storage.file %}

extend:
  Loop file {{ site.storage.file }} has all of its blocks:
    slapos_node:
      - require:
        - opensvc: Disks below DRBD are provisioned on {{ site.node }}
      - require_in:
        - drbd: DRBD metadata of {{ site.fqdn }} is there on {{ site.node }}
{%- endif %}

DRBD metadata of {{ site.fqdn }} is there on {{ site.node }}:
  drbd.metadata_present:
    - name: {{ site.fqdn | json }}
    - require:
      - opensvc: Disks below DRBD are up on {{ site.node }}

DRBD resource {{ site.fqdn }} is up on {{ site.node }}:
  drbd.up:
    - name: {{ site.fqdn | json }}
    - require:
      - drbd: DRBD metadata of {{ site.fqdn }} is there on {{ site.node }}

# Or else agent 2.1 takes DRBD down and up again when it provisions the service: on the second node after the first one has made the filesystem, which then is
# copied, and a DRBD that resyncs is what this agent cannot stop or start ("provision failed" at the end of a provision that was right). Agent 3 sees it itself.
The agent knows that DRBD below {{ site.path }} is there on {{ site.node }}:
  opensvc.provisioned:
    - name: {{ site.path | json }}
    - rids: ['disk#3']
    - local: true
    - state_only: true
    - timeout: {{ site.timeouts.provision | json }}
    - require:
      - drbd: DRBD resource {{ site.fqdn }} is up on {{ site.node }}
