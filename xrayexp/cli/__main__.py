"""`python -m xrayexp.cli`, where the console command is not installed."""

import sys

from xrayexp.cli import main

sys.exit(main())
