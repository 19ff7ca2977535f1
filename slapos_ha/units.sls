# What the cluster owns does not start by itself. One state for all: a call of systemctl may have systemd read all of its units again.
Units of the distribution are the cluster's to run:
  slapos_node.units_masked:
    - units: [drbd.service, re6stnet.service, re6st-registry.service, slapos-node.service, slapos-node-boot.service]
