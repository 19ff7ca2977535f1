# What is below the filesystem, on this node: the agent makes the disks, we make DRBD's metadata (8.4 refuses the way in which the agents call create-md).
{%- from "slapos_ha/map.jinja" import site with context %}
Disks below DRBD are provisioned on {{ site.node }}:
  opensvc.provisioned:
    - name: {{ site.path | json }}
    - rids: {{ site.storage.rids | json }}
    - local: true
    - timeout: {{ site.timeouts.provision | json }}

DRBD metadata of {{ site.fqdn }} is there on {{ site.node }}:
  drbd.metadata_present:
    - name: {{ site.fqdn | json }}
    - require:
      - opensvc: Disks below DRBD are provisioned on {{ site.node }}

DRBD resource {{ site.fqdn }} is up on {{ site.node }}:
  drbd.up:
    - name: {{ site.fqdn | json }}
    - require:
      - drbd: DRBD metadata of {{ site.fqdn }} is there on {{ site.node }}
