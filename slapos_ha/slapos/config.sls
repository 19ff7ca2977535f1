# slapos.cfg on the service's filesystem: what follows the service lies there, what is a node's below /run.
{%- from "slapos_ha/map.jinja" import site with context %}
SlapOS is configured:
  slapos_node.slapos_configured:
    - name: /etc/opt/slapos/slapos.cfg
    - mount: {{ site.mount | json }}
    - values:
        slapos:
          master_url: {{ site.slapos.master_url | json }}
          # Left over from a crash, a pid file on the filesystem would be the other node's.
          pidfile_software: /run/slapgrid-sr.pid
          pidfile_instance: /run/slapgrid-cp.pid
          pidfile_report: /run/slapgrid-ur.pid
          software_min_free_space: {{ site.slapos.min_free_space | json }}
          instance_min_free_space: {{ site.slapos.min_free_space | json }}
        slapformat:
          interface_name: {{ site.slapos.interface_name | json }}
          partition_amount: {{ site.slapos.partition_number | json }}
          ipv4_local_network: {{ site.slapos.ipv4_local_network | json }}
          # By default below /opt/slapos, where each node would have its own idea of the addresses.
          computer_xml: {{ (site.mount ~ '/slapos/slapos.xml') | json }}
          log_file: {{ (site.mount ~ '/slapos/log/slapos-node-format.log') | json }}
    - absent: {{ (['networkcache'] if site.slapos.offline or site.slapos.install.no_index else []) | json }}
