"""What is wrong with this server, and how to mend it: `mta check`, and once a day the daemon itself.

Each check is a plain function that looks at one thing and returns what it finds; what it looks with is given to it.
None of them changes anything, but for a few octets that `disk` writes and removes to measure how long a sync takes.

=================  ==============================================================================  ======  ==========
check              looks at                                                                        daily   network
=================  ==============================================================================  ======  ==========
configuration      whether it can be read, and what is wrong in which line                         yes     no
files              owners and modes of settings, keys, passwords and state                         yes     no
maildirs           whether the server can deliver into the Maildirs, and who else can read them     yes     no
ports              whether the daemon holds its ports; without one, whether they could be had      no      no
outgoing           whether port 25 of others can be reached                                        no      yes
certificate        dates, names, key, chain                                                        yes     no
resolver           whether names are resolved, and DNSSEC validated                                yes     yes
names              addresses and reverse DNS of the host, the records of each domain (`published`)  yes     yes
clock              whether somebody keeps it right                                                 yes     no
disk               space, inodes, what a sync costs, and whether that can be true                  yes     no
spool              whether the databases are sound, and every content file is there                yes     no
history            whether its segments can be read                                                yes     no
local              whether somebody reads root's mail, and whether users reach the socket          yes     no
=================  ==============================================================================  ======  ==========
"""
