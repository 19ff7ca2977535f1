# What the cluster and its disks need on a node: agent, DRBD, users, firewall. The whole of a node is slapos_ha; the orchestration begins with this part so that
# the agent's work need not wait for re6st's and SlapOS's software.
include:
  - slapos_ha.agent
  - slapos_ha.drbd
  - slapos_ha.users
  - slapos_ha.firewall
