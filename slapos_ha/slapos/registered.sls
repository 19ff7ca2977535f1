# SlapOS becomes a computer of its master, once, and is run once. Run by the orchestration on both nodes at once: on the preferred one, where the service runs, with
# re6st up; where it does not it refuses. The other node has its software by the end of it: before the service is there again, so that no installation can touch its data.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- if site.node != site.nodes[0] %}
include:
  - slapos_ha.slapos
{%- else %}
{%- set app = (salt['opensvc.config_show'](site.path) or {}).get('app#1', {}) %}
include:
  - slapos_ha.slapos.install
  - slapos_ha.slapos.config
  - slapos_ha.slapos.formatted

extend:
  Partitions of SlapOS are formatted:
    slapos_node:
      - require:
        - slapos_node: SlapOS has run

SlapOS is registered:
  slapos_node.slapos_registered:
    - name: /etc/opt/slapos/slapos.cfg
    - mount: {{ site.mount | json }}
    - token_pillar: slapos_ha:slapos:token
    - master_url: {{ site.slapos.master_url | json }}
    - web_master_url: {{ site.slapos.web_master_url | json }}
    - computer_name: {{ site.slapos.computer_name | json }}
    - interface: {{ site.slapos.interface_name | json }}
    - partition_number: {{ site.slapos.partition_number | json }}
    - ipv4_local_network: {{ site.slapos.ipv4_local_network | json }}
    - software_root: {{ (site.mount ~ '/slapos/opt/slapgrid') | json }}
    - instance_root: /srv/slapgrid
    - device: {{ ('/dev/drbd' ~ site.drbd.minor) | json }}
    - require:
      - slapos_node: SlapOS and what it runs are there
    - require_in:
      - slapos_node: SlapOS is configured

# The first time it is formatted before: SlapOS's master has nothing for a computer that was not (slapproxy 1.25.0: error 500).
SlapOS has run:
  slapos_node.slapos_proven:
    - name: /srv/slapgrid
    - mount: {{ site.mount | json }}
    - cluster_runs_it: {{ (app != {} and app.get('disable', 'false') | string | lower != 'true') | json }}
    - timeout: {{ site.timeouts.start | json }}
    - require:
      - slapos_node: SlapOS is configured
{%- endif %}
