# Both disks equal: two brand-new ones are declared so (initial_sync: skip), or every block is copied (full). Run by the orchestration on the preferred node.
{%- from "slapos_ha/map.jinja" import site with context %}
DRBD resource {{ site.fqdn }} is in sync:
{%- if site.drbd.initial_sync == 'skip' %}
  drbd.initial_sync_skipped:
    - name: {{ site.fqdn | json }}
{%- else %}
  drbd.synced:
    - name: {{ site.fqdn | json }}
    - source: {{ site.nodes[0] == site.node }}
{%- endif %}
    - timeout: {{ site.timeouts.sync | json }}

# The agent makes the filesystem on the first node. Where it finds DRBD up it takes the disk for provisioned and does not promote it (2.1), and mkfs on a
# Secondary fails.
DRBD resource {{ site.fqdn }} is Primary here for its filesystem to be made:
  drbd.primary:
    - name: {{ site.fqdn | json }}
    - require:
      - drbd: DRBD resource {{ site.fqdn }} is in sync
