"""`python -m pytest_vlmlatency`: the same as the `vlmlatency` command."""

import sys

from pytest_vlmlatency.cli import main

sys.exit(main())
