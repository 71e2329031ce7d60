"""integration/lib/lab.py under one name: servers and programs, here and in a test that runs the bench."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                                "integration", "lib"))

import lab  # noqa: E402,F401
