"""For the tests of programs that consume a hub: `FakeHub`, a hub in the process of the test.

The pytest fixture `fake_hub` is in streamhub.testing.fixtures. Its plugin is not loaded by itself: write in conftest.py

    pytest_plugins = ["streamhub.testing.fixtures"]
"""

from streamhub.testing.fake_hub import FakeHub
from streamhub.testing.server import Seen

__all__ = ["FakeHub", "Seen"]
