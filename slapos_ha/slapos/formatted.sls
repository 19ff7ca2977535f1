# The partitions' folders, owners and addresses on the node where the service runs. Run by the orchestration after a move; the launcher does the same at each start.
{%- from "slapos_ha/map.jinja" import site with context %}
Partitions of SlapOS are formatted:
  slapos_node.slapos_formatted:
    - name: /srv/slapgrid
    - mount: {{ site.mount | json }}
    - timeout: {{ site.timeouts.start | json }}
