"""The boundary between root and lesser users: the only place where root meets what a lesser user can change.

The rule. Root resolves no path, and connects to no socket, that a lesser user can change. Nobody believes a port or a
socket without asking who is behind it. Where no user, no unit or no answer is found, the work is refused.

What follows from it:

* Work in a directory of a lesser user is done by a child process that is that user (`users.run_as`), or through handles
  that follow no link (`handles.Directory`, `trees`), of which owner and mode are set on the handle.
* A connection to a socket in such a directory is made as that user, through a handle, and its peer must be the user's
  own process in the unit's own control group (`peers.connect`).
* A port counts as a unit's only if each of its listeners is in the unit's control group (`hostctl.host.listeners`).
* What root writes for itself lies in directories that root owns.
"""
