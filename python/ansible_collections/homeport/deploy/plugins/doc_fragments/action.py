"""The documentation that several actions of the collection share; `ansible-doc` shows it as part of each action."""

from __future__ import annotations


class ModuleDocFragment:
    """One attribute for each part. An action names its parts in extends_documentation_fragment; all have DOCUMENTATION.

    In ansible-core 2.19 a fragment cannot hold RETURN, so that `step` and `ms` of every result are a note.
    """

    DOCUMENTATION = """
options: {}
notes:
  - Every result also holds C(step), the step's name as C(deploy) shows it (empty for an action without a step of its
    own), and C(ms), how long the action took, in milliseconds.
author: Homeport
"""

    DEPLOY_USER = """
options: {}
notes:
  - Runs on the controller. Calls hostctl over the play's connection as the deploy user, without C(become).
"""

    ROOT = """
options: {}
notes:
  - Runs on the controller. Calls hostctl on the host as root, so the task needs root or C(become).
"""

    INVENTORY = """
options: {}
notes:
  - Reads the variables that the inventory plugin C(homeport) makes from deploy.yml.
"""

    SECRETS = """
options: {}
notes:
  - Reads the values from the file that C(deploy) writes for one run, otherwise from the environment of Ansible.
"""

    APP = """
options:
  app:
    description: The app, as in deploy.yml.
    type: str
    required: true
"""

    HOST = """
options:
  host:
    description: The facts of the host, as M(homeport.deploy.inspect) returns them.
    type: dict
    required: true
"""

    TAR = """
options:
  tar:
    description: The release's tar on the controller; empty where the host has built the release itself.
    type: str
    required: true
"""

    DIGEST = """
options:
  digest:
    description: The SHA-256 of the release's tar.
    type: str
    required: true
"""

    GIT = """
options:
  git:
    description: The commit that the release was built from, as M(homeport.deploy.build) returns it; empty for none.
    type: dict
"""
