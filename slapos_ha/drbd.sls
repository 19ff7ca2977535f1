# DRBD below the service: module, resource file, LVM kept off the replicated device. The agent owns the resource: the distribution's unit stays down.
{%- from "slapos_ha/map.jinja" import site with context %}
include:
  - slapos_ha.units

DRBD module is loaded now and at boot:
  drbd.module_loaded:
    - name: drbd

# An LVM that scans the replicated device finds the volume group twice, and activates it on the standby. A filter that is set already is the operator's.
{#- Asked here: an `unless` with a function makes Salt (3007.15) load every module that it has, seconds of each highstate. #}
{%- if not salt['file.search']('/etc/lvm/lvm.conf', '^\\s*global_filter\\s*=', ignore_if_missing=True) %}
LVM does not look at DRBD devices:
  file.blockreplace:
    - name: /etc/lvm/lvmlocal.conf
    - marker_start: '# slapos_ha begins'
    - marker_end: '# slapos_ha ends'
    - append_if_not_found: true
    - content: 'devices { global_filter = [ "r|^/dev/drbd.*|" ] }'
{%- endif %}

# `split-brain` is named in the resource's file (drbd:options:handlers), where the pillar may name another; `may-promote` in the service (disk#3).
{%- for name, what in (('split-brain', 'Handler of a split brain'), ('may-promote', 'Look before a promotion')) %}
{{ what }} is here:
  file.managed:
    - name: /usr/local/lib/slapos_ha/{{ name }}
    - source: salt://slapos_ha/files/{{ name }}
    - user: root
    - group: root
    - mode: '0755'
    - dir_mode: '0755'
    - makedirs: true
{%- endfor %}

{%- if site.storage.file %}

# The agent makes it readable for everybody, and the service's keys will lie in it. Where it is not there yet nothing is done.
Loop file {{ site.storage.file }} is root's alone:
  file.managed:
    - name: {{ site.storage.file | json }}
    - user: root
    - group: root
    - mode: '0600'
    - create: false
    - replace: false
{%- endif %}

DRBD resource {{ site.fqdn }} is configured:
  drbd.resource_configured:
    - name: {{ site.fqdn | json }}
    - nodes: {{ site.drbd.addresses | json }}
    - port: {{ site.drbd.port | json }}
    - minor: {{ site.drbd.minor | json }}
    - disk: {{ site.storage.lv | json }}
    - protocol: {{ site.drbd.protocol | json }}
    - resync_rate: {{ site.drbd.resync_rate | json }}
    - shared_secret_pillar: slapos_ha:drbd:shared_secret
    - net: {{ site.drbd.options.net | json }}
    - disk_options: {{ site.drbd.options.disk | json }}
    - handlers: {{ site.drbd.options.handlers | json }}
    - require:
      - drbd: DRBD module is loaded now and at boot
      - file: Handler of a split brain is here
