# The agent makes a sparse file below DRBD. A disk that somebody fills would then be an error of DRBD's disk, which it lets go of: Diskless. Looked at again once the
# filesystem is made: zeroes that mkfs and the kernel write below it may be holes in the file (loop, Linux 6.1).
{%- from "slapos_ha/map.jinja" import site with context %}
{%- if site.storage.file %}
Loop file {{ site.storage.file }} has all of its blocks:
  slapos_node.file_allocated:
    - name: {{ site.storage.file | json }}
{%- endif %}
